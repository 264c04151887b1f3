"""onnxruntime's CPU provider, which every build has."""

from __future__ import annotations

from collections.abc import Mapping

from sise_ort.errors import ParameterError
from sise_ort.runtime.providers.spec import ProviderSpec, Wishes, in_full_precision


def without_options(wishes: Wishes) -> Mapping[str, str]:
    """The CPU provider's options: none.

    Raises
    ------
    ParameterError
        Options are given, or a lower precision is wanted.
    """
    if wishes.options:
        raise ParameterError(
            f"the provider options {', '.join(wishes.options)} are for a GPU, but the provider in use is cpu"
        )
    return in_full_precision(wishes)


SPEC = ProviderSpec(
    name="cpu",
    onnxruntime="CPUExecutionProvider",
    device="cpu",
    batch_pixels=8 * 224 * 224,  # larger ones only cost memory
    pads=False,
    opens_side_by_side=True,
    install="'sise-ort[cpu]'",
    wished=without_options,
)
