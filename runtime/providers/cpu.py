"""onnxruntime's CPU provider, which every build has."""

from __future__ import annotations

from sise_ort.runtime.providers.spec import ProviderSpec

SPEC = ProviderSpec(
    name="cpu",
    onnxruntime="CPUExecutionProvider",
    device="cpu",
    batch_pixels=8 * 224 * 224,  # larger ones only cost memory
    pads=False,
    install="'sise-ort[cpu]'",
)
