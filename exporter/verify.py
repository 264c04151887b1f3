"""Checks, before an export ends, that the bundle answers as the source model does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Bundle, InputSpec
from sise_ort.errors import ExportError
from sise_ort.runtime.model import BundleModel

TOLERANCE = {np.dtype(np.float16): 2e-2}
DEFAULT_TOLERANCE = 1e-3
QUANTISED = 0.1
"""How far extract, which computes in floats, may be from predict, whose integer kernels saturate on CPUs without VNNI
(5 % on a small network; nothing where it was quantised with reduce_range)."""


def compare(
    bundle: Bundle,
    reference: Callable[[NDArray[np.float32]], NDArray[Any]],
    activation: str,
    quantised: bool = False,
    rounds_otherwise: bool = False,
) -> float:
    """Run two frames through a bundle and its source.

    Parameters
    ----------
    bundle : Bundle
    reference : callable
        Network inputs [n, C, H, W] to the source's own output.
    activation : str
        The operator that ends the source's graph, "" for raw scores, so that like is compared with like.
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
    theirs = reference(np.ascontiguousarray(inputs))
    tolerance = QUANTISED if rounds_otherwise else TOLERANCE.get(theirs.dtype, DEFAULT_TOLERANCE)
    theirs = theirs.reshape(len(frames), -1).astype(np.float64)

    model = BundleModel(bundle, "cpu", batch_size=2)
    ones = np.ones((1, 1, spec.height, spec.width), np.float32)
    images = [model.upload(frame) for frame in frames]
    scores, confidence = model.predict(np.concatenate([model.apply(image, ones) for image in images]))
    found = [model.extract(image, [-1], 0.0) for image in images]
    extracted = np.stack([f.scores for f in found])
    others = [extracted]
    if manifest.has("head"):
        others.append(np.concatenate([model.head(f.features[-1].numpy()) for f in found]))
    if manifest.has("image_gradient"):
        others.append(np.concatenate([model.image_gradient(model.network_input(i), [-1])[0] for i in images]))
    if manifest.has("full_gradient"):
        others.append(np.stack([model.full_gradient(image, [-1])[0] for image in images]))
    z = scores.astype(np.float64)
    log_softmax = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    known: dict[str, NDArray[Any]] = {"": scores, "LogSoftmax": log_softmax}
    ours = known.get(activation, confidence)
    if ours.shape != theirs.shape:
        raise ExportError(
            f"the bundle gives {ours.shape[1]} scores where the source model gives {theirs.shape[1]}"
        )
    worst = max(
        _difference(ours, theirs),
        *(_difference(other, scores) * (tolerance / QUANTISED if quantised else 1) for other in others),
    )
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


def waves(spec: InputSpec) -> list[NDArray[Any]]:
    """Make two frames [H, W, C] of smooth waves with some noise."""
    rng = np.random.default_rng(0)
    rows, columns = (
        np.linspace(0, 3 * np.pi, spec.height)[:, None, None],
        np.linspace(0, 4 * np.pi, spec.width)[:, None],
    )
    found = 127.5 + 80 * np.sin(rows + rng.uniform(0, 6, (2, 1, 1, spec.channels))) * np.cos(columns)
    return list(np.clip(found + rng.normal(0, 25, found.shape), 0, 255).astype(spec.frame_dtype))


def _difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest difference, relative to the larger of the largest value and a thousandth; NaN where not finite."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-3))
