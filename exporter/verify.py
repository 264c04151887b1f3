"""Checks, before an export ends, that the bundle answers as the source model does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sise_ort.bundle import Bundle, InputSpec, Manifest
from sise_ort.errors import ExportError
from sise_ort.exporter.tasks import Restore
from sise_ort.runtime.answers import example
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.providers import Tensor, open_foreign

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
    frames, inputs = _frames_and_inputs(manifest)
    model = BundleModel(bundle, "cpu", batch_size=2)
    images = [model.upload(frame) for frame in frames]
    found = model.predict(np.concatenate([model.network_input(image) for image in images]))
    tolerance = QUANTISED if quantised else DEFAULT_TOLERANCE
    size = None if not manifest.task.on_device else float(np.abs(found["scores"]).max())
    among = np.max([_difference(own, answers, size) for own, answers in _inside(model, images)])
    if restore is None:
        theirs = ours = np.zeros((2, 1))
    else:
        theirs = reference(inputs)
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


def compare_uncut(
    model: ir.Model, reference_at: Callable[[str, NDArray[np.float32]], NDArray[Any]], manifest: Manifest
) -> None:
    """Run two frames through a cleaned network with the outputs of its file, and through the file.

    Parameters
    ----------
    model : ir.Model
        With its outputs as in the file.
    reference_at : callable
        The name of a tensor, and network inputs [n, C, H, W], to the file's own values.
    manifest : Manifest
        For the frames.

    Raises
    ------
    ExportError
        An output is more than 1e-3 of its largest value apart, or not finite.
    """
    _, inputs = _frames_and_inputs(manifest)
    session = open_foreign(ir.to_proto(model).SerializeToString())
    names = [value.name or "" for value in model.graph.outputs]
    for row in inputs[:, None]:
        found, _ = session.run({"x": row}, fetch=names)
        for name in names:
            theirs = reference_at(name, row).astype(np.float64)
            ours = found[name].ravel()[: theirs.size]  # of boxes of all pictures the source gives the first
            apart = _difference(ours.astype(np.float64), theirs.ravel())
            if not apart <= DEFAULT_TOLERANCE:
                raise ExportError(
                    f"the network's output '{name}' differs from the source model's by {apart:.2e} of its size, more than "
                    f"{DEFAULT_TOLERANCE:.0e}. Please report this model"
                )


def _frames_and_inputs(manifest: Manifest) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Two frames [2, H, W, C], and what the network gets of them, [2, C, H, W]."""
    facts, frames = manifest.preprocessing, np.stack(waves(manifest.input))
    ordered = frames[..., ::-1] if facts.color == "bgr" else frames
    inputs = ((ordered - np.array(facts.mean)) / np.array(facts.std)).transpose(0, 3, 1, 2)
    return frames, np.ascontiguousarray(inputs, np.float32)


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
