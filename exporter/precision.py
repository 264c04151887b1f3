"""predict.onnx in half precision or in integers, and what that does to the heat maps.

With integers.py the exporter's only importer of onnxruntime's tools (its fp16 converter; its quantiser).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from sise_ort.bundle import Bundle
from sise_ort.datasets import open_dataset
from sise_ort.errors import ExportError, FrameError, ParameterError, TargetError, option
from sise_ort.exporter.integers import to_integers
from sise_ort.exporter.options import Lowered
from sise_ort.exporter.sources.translation import translated
from sise_ort.exporter.verify import waves
from sise_ort.exporter.writing import write_manifest
from sise_ort.formulas.selection import select_maps
from sise_ort.metrics import correlation
from sise_ort.readouts import Question
from sise_ort.runtime.answers import example
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.methods import Sise
from sise_ort.runtime.methods.call import Call

CALIBRATED = 64
"""Pictures that the ranges of activations are taken from, each whole and through a mask of every block."""
COMPARED, COMPARED_MU = 8, 0.5
"""Pictures whose heat maps are compared, and the threshold of their selection."""
IN_FLOAT32 = ("ReduceMean", "Softmax", "Sigmoid", "GlobalAveragePool", "Max", "Min")
"""Operators that stay in float32 in fp16: sums overflow, confidences lose what matters."""


@dataclass(frozen=True)
class Comparison:
    """How well heat maps in lower precision correlate with float32's.

    Attributes
    ----------
    mean, lowest : float
        Over the pictures.
    pictures : int
        How many were compared.
    source : str
        Where the pictures come from.
    """

    mean: float
    lowest: float
    pictures: int
    source: str


def lower(bundle: Bundle, options: Lowered) -> Bundle:
    """Replace predict.onnx of a float32 bundle by one of lower precision; extract stays as it is.

    fp16: weights and activations, except sums and confidences. int8: weights and activations but of the first layers, as
    QuantizeLinear and DequantizeLinear around every operator (exporter/integers.py).

    Parameters
    ----------
    bundle : Bundle
        In float32, as it stands in its folder.
    options : Lowered
        Without a folder of pictures, fp16 is compared on two synthetic ones.

    Returns
    -------
    Bundle
        As it now stands in the folder, with the Comparison as ``origin["precision"]``.

    Raises
    ------
    ExportError
        The heat maps correlate less than they must; names the figure. Or the network cannot be converted.
    ParameterError
        There are no pictures.
    """
    precision, calibration, least = options.precision, options.calibration, options.least_correlation
    folder = bundle.folder
    explainer = Explainer(folder, "cpu")
    frames, source = _frames(explainer, calibration)
    asked = [(frame, _question(explainer, frame)) for frame in frames[:COMPARED]]
    before = [_heatmap(explainer, *one) for one in asked]
    path = folder / "predict.onnx"
    with translated(f"the network cannot be converted to {precision}"):
        if precision == "fp16":
            _to_half(path)
        else:
            to_integers(path, partial(_inputs, explainer, frames[:CALIBRATED]))
    del explainer
    lowered = write_manifest(folder, msgspec.structs.replace(bundle.manifest, precision=precision), bundle)
    after = Explainer(folder, "cpu")
    found = [correlation(_heatmap(after, *one), own) for one, own in zip(asked, before, strict=True)]
    comparison = Comparison(float(np.mean(found)), float(np.min(found)), len(found), source)
    if not comparison.mean >= least:
        raise ExportError(
            f"in {precision} the heat maps correlate with those of float32 by {comparison.mean:.3f} on {len(found)} "
            f"pictures ({source}; lowest {comparison.lowest:.3f}), less than {least:g}. Export in fp32"
            + (" or fp16" if precision == "int8" else "")
            + f", or allow it with {option('least_correlation', np.floor(100 * comparison.mean) / 100)}"
        )
    facts = {**bundle.manifest.origin, "precision": dataclasses.asdict(comparison)}
    return write_manifest(folder, msgspec.structs.replace(lowered.manifest, origin=facts), lowered)


def _frames(explainer: Explainer, calibration: str | Path | None) -> tuple[list[NDArray[Any]], str]:
    """Frames of network size, and where they come from."""
    spec = explainer.manifest.input
    if calibration is None:
        return waves(spec), "synthetic"
    samples = open_dataset("folder", calibration).samples
    frames, unread = [], 0
    for sample in samples:
        try:
            frames.append(explainer.prepare(sample.picture)[0])
        except FrameError:
            unread += 1
        if len(frames) == CALIBRATED:
            break
    if not frames:
        raise ParameterError(
            f"{option('calibration')}: there is no picture that can be read in '{calibration}'"
        )
    return frames, Path(calibration).name + (f", where {unread} cannot be read" if unread else "")


def _question(explainer: Explainer, frame: NDArray[Any]) -> Question:
    """What is explained of a frame where nobody says it, and where that is nothing, a question that can always be asked."""
    try:
        return explainer.ask(frame)[0]
    except TargetError:
        return example(explainer.manifest)


def _heatmap(explainer: Explainer, frame: NDArray[Any], question: Question) -> NDArray[np.float32]:
    model = explainer.model
    return Sise(COMPARED_MU).explain(model, model.upload(frame), [question], Call()).answers[0].heatmap


def _inputs(explainer: Explainer, frames: Sequence[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    """What predict will see: pictures whole, and through one mask of each block."""
    model, rng = explainer.model, np.random.default_rng(0)
    for frame in frames:
        image = model.upload(frame)
        yield model.network_input(image)
        extracted = model.extract(image, [_question(explainer, frame)], explainer.manifest.contrast)
        for maps, alpha, spans in zip(
            extracted.features, extracted.pooled_gradients, extracted.spans, strict=True
        ):
            chosen = np.flatnonzero(select_maps(alpha[0], spans))
            if len(chosen):
                yield model.apply(image, model.masks(maps, rng.choice(chosen, 1)))


def _to_half(path: Path) -> None:
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = onnx.load(path)
    half = convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=False,
        op_block_list=sorted({*DEFAULT_OP_BLOCK_LIST, *IN_FLOAT32}),
    )
    onnx.save(half, path)
