"""NVIDIA GPUs by TensorRT: `predict` runs on it, with the bundle's precision; the other phases run on CUDA beside it."""

from __future__ import annotations

from sise_ort.runtime.cache import record_engines, tensorrt_options
from sise_ort.runtime.providers.spec import ProviderSpec

SPEC = ProviderSpec(
    name="tensorrt",
    onnxruntime="TensorrtExecutionProvider",
    device="cuda",
    batch_pixels=64 * 224 * 224,
    pads=True,
    install="'sise-ort[gpu]' (and uninstall onnxruntime first)",
    library="libonnxruntime_providers_tensorrt.so",
    beside="cuda",
    bounded=False,
    bundle_options=tensorrt_options,
    after_building=record_engines,
)
