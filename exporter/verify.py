"""Checks, before an export ends, that the bundle answers as the source model does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Bundle, InputSpec
from sise_ort.errors import ExportError
from sise_ort.exporter.tasks import Restore
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor
from sise_ort.runtime.reading import example

TOLERANCE = {"float16": 2e-2}
DEFAULT_TOLERANCE = 1e-3
QUANTISED = 0.1
"""How far extract, which computes in floats, may be from predict, whose integer kernels saturate on CPUs without VNNI
(5 % on a small network; nothing where it was quantised with reduce_range)."""


def compare(
    bundle: Bundle,
    reference: Callable[[NDArray[np.float32]], NDArray[Any]],
    restore: Restore | None,
    quantised: bool = False,
    rounds_otherwise: bool = False,
) -> float:
    """Run two frames through a bundle and its source.

    Parameters
    ----------
    bundle : Bundle
    reference : callable
        Network inputs [n, C, H, W] to the source's own output.
    restore : callable or None
        From predict's outputs to the source's own output; None compares the bundle's graphs with one another only.
    quantised : bool
        Whether predict computes with integers.
    rounds_otherwise : bool
        Whether the source has quantised operators that the bundle writes otherwise, and so rounds elsewhere.

    Returns
    -------
    float
        Largest difference of the scores, relative to the largest score.

    Raises
    ------
    ExportError
        More than 1e-3 of the largest output apart (2e-2 for half precision), or not finite.
    """
    manifest = bundle.manifest
    spec, facts = manifest.input, manifest.preprocessing
    frames = np.stack(waves(spec))
    ordered = frames[..., ::-1] if facts.color == "bgr" else frames
    inputs = ((ordered - np.array(facts.mean)) / np.array(facts.std)).transpose(0, 3, 1, 2).astype(np.float32)
    model = BundleModel(bundle, "cpu", batch_size=2)
    images = [model.upload(frame) for frame in frames]
    found = model.predict(np.concatenate([model.network_input(image) for image in images]))
    tolerance = QUANTISED if quantised else DEFAULT_TOLERANCE
    size = None if not manifest.task.on_device else float(np.abs(found["scores"]).max())
    among = np.max([_difference(own, answers, size) for own, answers in _inside(model, images)])
    if restore is None:
        theirs = ours = np.zeros((2, 1))
    else:
        theirs = reference(np.ascontiguousarray(inputs))
        tolerance = QUANTISED if rounds_otherwise else TOLERANCE.get(str(theirs.dtype), DEFAULT_TOLERANCE)
        theirs = theirs.reshape(len(frames), -1).astype(np.float64)
        ours = restore(found).reshape(len(frames), -1).astype(np.float64)
    if ours.shape != theirs.shape:
        raise ExportError(
            f"the bundle gives {ours.shape[1]} scores where the source model gives {theirs.shape[1]}"
        )
    worst = float(np.maximum(_difference(ours, theirs), among * (tolerance / QUANTISED if quantised else 1)))
    if not worst <= tolerance:
        own = _difference(
            reference((inputs * (1 + 2.0**-22)).astype(np.float32)).reshape(theirs.shape), theirs
        )
        raise ExportError(
            f"the bundle's scores differ from the source model's by {worst:.2e} of their size, more than {tolerance:.0e}: "
            f"bundle {np.array2string(ours[0, :4], precision=5)}…, source {np.array2string(theirs[0, :4], precision=5)}…. "
            + (
                f"The source's own scores change by {own:.2e} when its input changes by a quarter of a millionth: this "
                "network is too sensitive for float32. Is it untrained?"
                if own > worst / 10
                else "Please report this model"
            )
        )
    return worst


def _inside(model: BundleModel, images: Sequence[Tensor]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield what each graph answers to the frames, beside what predict answers."""
    manifest, asked = model.manifest, [example(model.manifest)]
    found = [model.extract(image, asked, 0.0) for image in images]
    for image, own in zip(images, found, strict=True):
        (question,), whole = model.settle(asked, image)
        answers = [own.answers]
        if manifest.has("head"):
            answers.append(model.answers([question], own.features[-1].numpy(), phase="head"))
        if manifest.has("image_gradient"):
            answers.append(model.image_gradient(model.network_input(image), question)[1])
        if manifest.has("full_gradient"):
            answers.append(model.full_gradient(image, [question])[1])
        for one in answers:
            yield (one.scores, whole.scores) if one.scores.size else (one.score, whole.score)


def waves(spec: InputSpec) -> list[NDArray[Any]]:
    """Make two frames [H, W, C] of smooth waves with some noise."""
    rng = np.random.default_rng(0)
    rows, columns = (
        np.linspace(0, 3 * np.pi, spec.height)[:, None, None],
        np.linspace(0, 4 * np.pi, spec.width)[:, None],
    )
    found = 127.5 + 80 * np.sin(rows + rng.uniform(0, 6, (2, 1, 1, spec.channels))) * np.cos(columns)
    return list(np.clip(found + rng.normal(0, 25, found.shape), 0, 255).astype(spec.frame_dtype))


def _difference(a: NDArray[Any], b: NDArray[Any], size: float | None = None) -> float:
    """Largest difference, relative to the larger of the largest value (or a given size) and a thousandth; NaN where not
    finite."""
    return float(np.abs(a - b).max() / max(np.abs(b).max() if size is None else size, 1e-3))
