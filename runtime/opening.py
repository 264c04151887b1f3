"""Opening a bundle again as it was opened, and whether its batches fit into this machine."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sise_ort.bundle import Manifest
from sise_ort.errors import BundleError, ParameterError, option
from sise_ort.runtime.limits import Limits, memory_of_machine

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel


@dataclass(frozen=True)
class Opening:
    """How a bundle was opened, so that another process can open the same.

    Attributes
    ----------
    folder : Path
        The bundle.
    provider, batch_size, threads, provider_options, limits
        As for `BundleModel`.
    digest : str
        The bundle's digest.
    """

    folder: Path
    provider: str
    batch_size: int | None
    threads: int | None
    provider_options: Mapping[str, object] | None
    limits: Limits
    digest: str

    def open(self) -> BundleModel:
        """Open the bundle again.

        Raises
        ------
        BundleError
            Another bundle is there by now.
        """
        from sise_ort.runtime.model import BundleModel

        model = BundleModel(
            self.folder, self.provider, self.batch_size, self.threads, self.provider_options, self.limits
        )
        if model.digest != self.digest:
            model.close()
            raise BundleError(f"the bundle at '{self.folder}' is another one than before: load it anew")
        return model


def require_fitting(manifest: Manifest, batch_size: int | None) -> None:
    """Raise ParameterError where a batch size is none, or needs more memory than the machine has."""
    if batch_size is None:
        return
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ParameterError(
            f"{option('batch_size')} is {batch_size!r}; it must be a whole number of at least 1"
        )
    spec = manifest.input
    maps = max(layer.channels * layer.height * layer.width for layer in manifest.layers)
    each = 4 * (spec.height * spec.width * (spec.channels + 1) + maps + 2 * manifest.head.classes)
    most = max(1, memory_of_machine() // each)
    if batch_size > most:
        raise ParameterError(
            f"{option('batch_size')} is {batch_size}; one input of this network takes {each / 2**20:.1f} MiB, so that "
            f"this machine's memory holds {most} at most"
        )


def give_memory_back() -> None:
    """Return to the system what opening graphs took and freed: the C library would keep it."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
