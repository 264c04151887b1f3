"""The best batch size of a bundle on this machine: measured once, remembered in a file that may be deleted at any time."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sise_ort.bundle import Manifest, bundle_digest
from sise_ort.errors import OutOfMemoryError, OutputError
from sise_ort.files import locked, write_file
from sise_ort.runtime.cache import cache_folder, gpu
from sise_ort.runtime.fitting import largest_batch
from sise_ort.runtime.providers import Provider, version

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel

SIZES = {"cpu": (1, 2, 4, 8, 16, 32), "padded": (1, 4, 8, 16, 32, 64, 128, 256)}
NEARLY = 1.02
"""A smaller batch that is slower by this factor at most is preferred: it needs less memory and padding."""


@dataclass(frozen=True)
class Curve:
    """How long a mask takes in batches of several sizes.

    Attributes
    ----------
    seconds : mapping of int to float
        Median seconds of one mask, by batch size.
    """

    seconds: Mapping[int, float]

    @property
    def best(self) -> int:
        """The smallest batch size that is at most 2 % slower than the fastest."""
        fastest = min(self.seconds.values())
        return min(size for size, seconds in self.seconds.items() if seconds <= NEARLY * fastest)


def measure(
    model: BundleModel,
    sizes: Sequence[int] | None = None,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] | None = None,
) -> Curve:
    """Time masks in batches of several sizes, in turn, and let the model use the best from now on.

    Nothing is written; `remember` keeps the result for later processes.

    Parameters
    ----------
    model : BundleModel
        Its batch size is changed.
    sizes : sequence of int or None
        Batch sizes to try; None takes those of the device. Sizes for which there is no memory are left out.
    rounds : int
        How often each size is timed, after one round that warms up.
    clock : callable
        Seconds now.
    progress : callable or None
        Called with (rounds done, rounds in all).

    Returns
    -------
    Curve

    Raises
    ------
    OutOfMemoryError
        There is not even memory for the smallest batch.
    """
    from sise_ort.runtime.answers import example
    from sise_ort.runtime.extracted import Pick

    spec = model.manifest.input
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (spec.height, spec.width, spec.channels)).astype(spec.frame_dtype)
    image = model.upload(frame)
    extracted = model.extract(image, [example(model.manifest)], 0.0)
    maps = extracted.features[-1]
    channels = model.manifest.layers[-1].channels
    wanted = (1,) if spec.batch else sizes or SIZES["padded" if model.provider.spec.pads else "cpu"]
    found: dict[int, list[float]] = {}
    for turn in range(rounds + 1):  # the first warms up
        for size in [s for s in wanted if turn == 0 or s in found]:
            try:
                model.resize(size)
                pick = Pick(image, maps, np.arange(model.batch_size) % channels, extracted.questions)
                began = clock()
                model.score_maps([pick])
            except OutOfMemoryError:
                if size == min(wanted):
                    raise
                continue
            if model.batch_size < size:  # halved: no memory for this size
                model.notes = ()
                continue
            seconds = (clock() - began) / model.batch_size
            found.setdefault(size, [])
            if turn:
                found[size].append(seconds)
        if progress is not None:
            progress(turn + 1, rounds + 1)
    curve = Curve({size: float(np.median(times)) for size, times in found.items()})
    model.resize(curve.best)
    return curve


def remember(manifest: Manifest, provider: Provider, curve: Curve) -> Path:
    """Keep the best batch size for this bundle, device and onnxruntime.

    Parameters
    ----------
    manifest : Manifest
        The bundle's.
    provider : Provider
        What was measured on.
    curve : Curve
        What was measured.

    Returns
    -------
    Path
        The file that keeps it.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    return keep(
        key(manifest, provider),
        {
            "batch_size": curve.best,
            "bundle": manifest.name,
            "milliseconds": {str(size): round(1e3 * s, 3) for size, s in curve.seconds.items()},
        },
    )


def keep(words: str, entry: Mapping[str, Any]) -> Path:
    """Keep what was measured under a key; returns the file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    file = cache_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write '{file}': {error.strerror or error}; SISE_ORT_CACHE names another folder"
        ) from error
    with locked(file.parent):  # another process may remember something, too
        return write_file(file, (json.dumps({**kept(), words: entry}, indent=1) + "\n").encode())


def measured_batch_size(manifest: Manifest, provider: Provider) -> int | None:
    """The batch size that was measured best for this bundle on this machine, None where none was."""
    entry = kept().get(key(manifest, provider))
    size = entry.get("batch_size") if isinstance(entry, dict) else None
    sensible = isinstance(size, int) and not isinstance(size, bool) and 0 < size <= largest_batch(manifest)
    return size if sensible else None


def cache_file() -> Path:
    """The file that keeps what was measured."""
    return cache_folder() / "batch-sizes.json"


def key(manifest: Manifest, provider: Provider) -> str:
    """What the best batch size depends on."""
    cores = provider.threads or os.cpu_count() or 1
    device = gpu() if provider.device == "cuda" else ()
    options = (f"{k}={v}" for k, v in provider.options.items())  # OpenVINO's precision among them
    return " ".join(
        (
            bundle_digest(manifest),
            provider.name,
            *device,
            *options,
            platform.node(),
            platform.machine(),
            str(cores),
            version(),
        )
    )


def kept() -> dict[str, Any]:
    """The cache, empty where there is none or it is damaged: it can be measured again."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # RuntimeError: there is no home
        found = json.loads(cache_file().read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}
