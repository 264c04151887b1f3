"""Checks whether a bundle's batches fit into this machine's memory, and returns what loading took."""

from __future__ import annotations

import contextlib
import ctypes
import math

from sise_ort.bundle import Manifest
from sise_ort.errors import ParameterError, option, shown
from sise_ort.runtime.limits import memory_of_machine


def require_fitting(manifest: Manifest, batch_size: int | None) -> None:
    """Raise ParameterError where a batch size is none, or needs more memory than the machine has."""
    if batch_size is None:
        return
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ParameterError(
            f"{option('batch_size')} is {shown(batch_size)}; it must be a whole number of at least 1"
        )
    most = largest_batch(manifest)
    if batch_size > most:
        raise ParameterError(
            f"{option('batch_size')} is {shown(batch_size)}; one input of this network takes {_bytes(manifest) / 2**20:.1f} MiB, "
            f"so that this machine's memory holds {most} at most"
        )


def largest_batch(manifest: Manifest) -> int:
    """How many network inputs fit into this machine's memory, with their masks and the largest block's feature maps."""
    return max(1, memory_of_machine() // _bytes(manifest))


def _bytes(manifest: Manifest) -> int:
    spec = manifest.input
    maps = max(layer.channels * layer.height * layer.width for layer in manifest.layers)
    answers = sum(math.prod(shape) for shape in manifest.task.outputs(manifest.head).values())
    return 4 * (spec.height * spec.width * (spec.channels + 1) + maps + answers)


def give_memory_back() -> None:
    """Return to the system what opening graphs took and freed: the C library would keep it."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
