"""NVIDIA GPUs by CUDA and cuDNN."""

from __future__ import annotations

from collections.abc import Mapping

from sise_ort.runtime.providers.spec import ProviderSpec, Wishes, in_full_precision


def options(phase: str) -> Mapping[str, str]:
    """Options of a phase: `predict` may use TF32, gradients never."""
    return {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "1" if phase == "predict" else "0",
    }


def wished(wishes: Wishes) -> Mapping[str, str]:
    """The user's options; none of TF32 where fp32 is asked for by name."""
    exact = {"use_tf32": "0"} if wishes.precision == "fp32" else {}
    return {**exact, **in_full_precision(wishes)}


SPEC = ProviderSpec(
    name="cuda",
    onnxruntime="CUDAExecutionProvider",
    device="cuda",
    batch_pixels=64 * 224 * 224,
    pads=True,
    install="'sise-ort[gpu]' (and uninstall onnxruntime first)",
    library="libonnxruntime_providers_cuda.so",
    options=options,
    wished=wished,
)
