"""The providers that there are: one line each."""

from __future__ import annotations

from collections.abc import Mapping

from sise_ort.errors import ParameterError, option, shown
from sise_ort.runtime.providers import cpu, cuda, openvino, plugins, tensorrt
from sise_ort.runtime.providers.spec import ProviderSpec

SPECS: Mapping[str, ProviderSpec] = {
    spec.name: spec for spec in (cpu.SPEC, cuda.SPEC, tensorrt.SPEC, openvino.SPEC)
}
PROVIDERS: Mapping[str, str] = {name: spec.onnxruntime for name, spec in SPECS.items()}
"""Names in onnxruntime, by ours."""
CHOICES = ("auto", *SPECS)
FORMS = (*CHOICES, "openvino:DEVICE", "plugin:NAME")
"""How a provider is named."""
AUTOMATIC = ("cuda", "cpu")
"""What "auto" tries, in this order."""


def spec_named(name: object) -> ProviderSpec:
    """The provider of a name such as "cuda", "openvino:GPU" or "plugin:webgpu".

    Raises
    ------
    ParameterError
        There is no such provider.
    ProviderError
        The plug-in is not installed, or broken.
    """
    if isinstance(name, str):
        first, colon, words = name.partition(":")
        if not colon and name in SPECS:
            return SPECS[name]
        if first == "plugin" and words:
            return plugins.plugin(words)
        named = SPECS[first].named if first in SPECS else None
        if colon and named is not None:
            return named(words)
    raise ParameterError(f"{option('provider')} is {shown(name)}; it must be one of {', '.join(FORMS)}")
