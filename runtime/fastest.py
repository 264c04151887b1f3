"""The fastest provider of a bundle on this machine: measured side by side, and remembered for provider "auto"."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest, bundle_digest
from sise_ort.errors import ParameterError, ProviderError, SiseError, first_line
from sise_ort.metrics import correlation
from sise_ort.runtime.answers import example
from sise_ort.runtime.batch_sizes import keep, kept
from sise_ort.runtime.extracted import Pick
from sise_ort.runtime.limits import Limits
from sise_ort.runtime.providers import SPECS, Provider, is_part, version

if TYPE_CHECKING:
    from sise_ort.runtime.explainer import Explainer
    from sise_ort.runtime.model import BundleModel

PASSES = 64
"""Passes of the explanations that are timed and compared."""
NEARLY = 1.05
"""A provider that is faster than the one that auto takes by itself by less than this factor is not worth a change."""

MOSTLY = 0.8
"""It must be faster in this part of the rounds."""


@dataclass(frozen=True)
class Timing:
    """What a bundle costs on one provider, in one precision.

    Attributes
    ----------
    provider, precision : str
        Names of both.
    passes : tuple of float
        Seconds of one pass, round by round.
    explanations : tuple of float
        Seconds of one explanation of 64 passes, round by round; none where this network's question needs more than a
        picture.
    correlations : tuple of float
        Of heat maps with those in float32 on the CPU, picture by picture.
    reason : str
        Why it was not measured, "" where it was.
    """

    provider: str
    precision: str
    passes: tuple[float, ...] = ()
    explanations: tuple[float, ...] = ()
    correlations: tuple[float, ...] = ()
    reason: str = ""

    @property
    def seconds(self) -> float:
        """Median seconds of what a user waits for: an explanation, or a pass where none could be timed."""
        return float(np.median(self.explanations or self.passes))

    @property
    def speed(self) -> float:
        """Median seconds of one pass."""
        return float(np.median(self.passes))


@dataclass
class _Entrant:
    """A provider on which the bundle is open, and its times so far."""

    explainer: Explainer
    precision: str
    pick: Pick
    passes: list[float] = field(default_factory=list)
    explanations: list[float] = field(default_factory=list)
    heatmaps: list[NDArray[np.float32]] = field(default_factory=list)


def compare(
    names: Sequence[tuple[str, str]],
    load: Callable[[str, str], Explainer],
    pictures: Sequence[Any],
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time a bundle on several providers in turn, and compare their heat maps.

    Parameters
    ----------
    names : sequence of (str, str)
        Providers and precisions to try. The CPU provider is always measured, first.
    load : callable
        Opens the bundle on a provider in a precision.
    pictures : sequence
        What is explained, as `Explainer.explain` takes it; the first is timed.
    rounds : int
        How often each is timed, after one round that warms up.
    clock : callable
        Seconds now.

    Returns
    -------
    list of Timing
        The CPU provider's first; those that do not work here have a reason.
    """
    entrants: dict[tuple[str, str], _Entrant] = {}
    missing: list[Timing] = []
    for name, precision in dict.fromkeys([("cpu", "auto"), *names]):
        try:
            explainer = load(name, precision)
        except (ProviderError, ParameterError) as error:
            missing.append(Timing(name, precision, reason=_why_not(name, error)))
        else:
            entrants[name, precision] = _Entrant(
                explainer, explainer.model.record()["precision"], _pick(explainer.model)
            )
    for turn in range(rounds + 1):  # the first warms up
        for entrant in entrants.values():
            _time(entrant, pictures[0], clock, counts=turn > 0)
    for entrant in entrants.values():
        if entrant.explanations:
            entrant.heatmaps = [entrant.explainer.explain(p, passes=PASSES).heatmap for p in pictures]
    reference = entrants["cpu", "auto"].heatmaps
    found = []
    for (name, _), entrant in entrants.items():
        pairs = zip(entrant.heatmaps, reference, strict=True)
        same = tuple(correlation(one, other) for one, other in pairs)
        times = tuple(entrant.passes), tuple(entrant.explanations)
        found.append(Timing(name, entrant.precision, *times, same))
        entrant.explainer.close()
    return found + missing


def _why_not(name: str, error: SiseError) -> str:
    """Why a provider was not measured; short where its package is absent."""
    spec = SPECS.get(name)
    return f"not installed: pip install {spec.install}" if spec and not is_part(spec) else str(error)


def _time(entrant: _Entrant, picture: Any, clock: Callable[[], float], counts: bool) -> None:
    """Time one batch and one explanation."""
    began = clock()
    entrant.explainer.model.score_maps([entrant.pick])
    seconds = (clock() - began) / len(entrant.pick.index)
    if counts:
        entrant.passes.append(seconds)
    try:
        began = clock()
        entrant.explainer.explain(picture, passes=PASSES)
        seconds = clock() - began
    except SiseError:  # a likeness needs a second picture, and a detector may find nothing in this one
        return
    if counts:
        entrant.explanations.append(seconds)


def _pick(model: BundleModel) -> Pick:
    """One full batch of masks of the last block, on a frame of noise."""
    spec = model.manifest.input
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (spec.height, spec.width, spec.channels)).astype(spec.frame_dtype)
    image = model.upload(frame)
    extracted = model.extract(image, [example(model.manifest)], 0.0)
    index = np.arange(model.batch_size) % model.manifest.layers[-1].channels
    return Pick(image, extracted.features[-1], index, extracted.questions)


def drawn_picture(manifest: Manifest) -> NDArray[Any]:
    """A picture of smooth waves, of network size, to time explanations where no real one is given."""
    spec = manifest.input
    rows, columns = np.mgrid[0 : spec.height, 0 : spec.width][..., None] / min(spec.height, spec.width)
    tones = 2 + np.arange(spec.channels)
    waves = 128 + 90 * np.sin(9 * rows) * np.cos(5 * columns * tones)
    return np.asarray((waves if spec.channels > 1 else waves[..., :1]).astype(spec.frame_dtype))


def fastest(found: Sequence[Timing], own: str) -> Timing:
    """The fastest provider in the bundle's own precision; the CPU provider where others hardly gain.

    Parameters
    ----------
    found : sequence of Timing
        As `compare` gave them.
    own : str
        The bundle's precision.
    """
    measured = [timing for timing in found if not timing.reason and timing.precision == own]
    usual, best = measured[0], min(measured, key=lambda timing: timing.seconds)
    pairs = list(zip(best.explanations or best.passes, usual.explanations or usual.passes, strict=True))
    won = sum(one < other for one, other in pairs)
    return best if best.seconds * NEARLY < usual.seconds and won >= MOSTLY * len(pairs) else usual


def remember_provider(
    manifest: Manifest, threads: int | None, timing: Timing, found: Sequence[Timing]
) -> Path:
    """Keep the fastest provider in full precision for provider "auto"; returns the file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    seconds = {f"{t.provider} {t.precision}": round(t.seconds, 4) for t in found if not t.reason}
    entry = {"provider": timing.provider, "bundle": manifest.name, "seconds": seconds}
    return keep(_key(manifest, threads), entry)


def remembered_provider(manifest: Manifest, threads: int | None) -> str | None:
    """The provider that was measured fastest in full precision for this bundle on this machine, None where none was."""
    entry = kept().get(_key(manifest, threads))
    name = entry.get("provider") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _key(manifest: Manifest, threads: int | None) -> str:
    """What the fastest provider depends on."""
    cores = threads or os.cpu_count() or 1
    return f"fastest {bundle_digest(manifest)} {platform.node()} {platform.machine()} {cores} {version()}"


def chosen(
    manifest: Manifest,
    provider: str,
    threads: int | None,
    options: Mapping[str, object] | None,
    limits: Limits,
    precision: str,
) -> Provider:
    """The provider for a bundle; "auto" takes what was measured fastest here in full precision, where something was.

    Parameters
    ----------
    manifest : Manifest
        The bundle's.
    provider, threads, options, limits, precision
        As for `Provider`.

    Raises
    ------
    ParameterError, ProviderError
        As `Provider` does.
    """
    name = None
    if provider == "auto" and precision == "auto" and not options:
        name = remembered_provider(manifest, threads)
    if name is None:
        found = Provider(provider, threads, options, limits, precision)
        found.require_precision_of(manifest, precision)
        return found
    try:
        found = Provider(name, threads, None, limits)
    except (ProviderError, ParameterError) as error:
        found = Provider("auto", threads, None, limits)
        found.note = (
            f"{found.note}; {name}, once measured to be faster, does not work now: {first_line(error)}"
        )
    else:
        found.note = f"provider auto took {name}, which `sise-ort bench --providers all` found fastest here"
    return found
