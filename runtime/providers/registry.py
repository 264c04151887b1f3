"""The providers that there are: one line each."""

from __future__ import annotations

from collections.abc import Mapping

from sise_ort.runtime.providers import cpu, cuda, tensorrt
from sise_ort.runtime.providers.spec import ProviderSpec

SPECS: Mapping[str, ProviderSpec] = {spec.name: spec for spec in (cpu.SPEC, cuda.SPEC, tensorrt.SPEC)}
PROVIDERS: Mapping[str, str] = {name: spec.onnxruntime for name, spec in SPECS.items()}
"""Names in onnxruntime, by ours."""
CHOICES = ("auto", *SPECS)
AUTOMATIC = ("cuda", "cpu")
"""What "auto" tries, in this order."""
