"""NVIDIA GPUs by CUDA and cuDNN."""

from __future__ import annotations

from collections.abc import Mapping

from sise_ort.runtime.providers.spec import ProviderSpec


def options(phase: str) -> Mapping[str, str]:
    """Options of a phase: `predict` may use TF32, gradients never."""
    return {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "1" if phase == "predict" else "0",
    }


SPEC = ProviderSpec(
    name="cuda",
    onnxruntime="CUDAExecutionProvider",
    device="cuda",
    batch_pixels=64 * 224 * 224,
    pads=True,
    install="'sise-ort[gpu]' (and uninstall onnxruntime first)",
    library="libonnxruntime_providers_cuda.so",
    options=options,
)
