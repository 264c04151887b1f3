"""All layouts of detection heads that are known, and the rewriting of a network to the form of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as passes

from sise_ort.errors import SourceError, option
from sise_ort.exporter.detectors.checking import require_same
from sise_ort.exporter.detectors.layout import Candidates, DetectorLayout, Outputs
from sise_ort.exporter.detectors.ssd import FCOS, RETINANET, SSD
from sise_ort.exporter.detectors.suppression import SUPPRESSED, is_before_suppression
from sise_ort.exporter.detectors.ultraface import ULTRAFACE
from sise_ort.exporter.detectors.yolo import YOLO_V5, YOLO_V8
from sise_ort.exporter.detectors.yolox import YOLOX
from sise_ort.exporter.detectors.yunet import YUNET
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.sources.shapes import infer_shapes
from sise_ort.heads import HeadKind
from sise_ort.tasks.layouts import Layout

LAYOUTS: tuple[DetectorLayout, ...] = (
    YOLOX, YOLO_V5, YOLO_V8, YUNET, ULTRAFACE, SSD, RETINANET, FCOS, SUPPRESSED
)  # fmt: skip
"""Tried in this order."""


@dataclass(frozen=True)
class FoundDetector:
    """A detector whose outputs are scores [n, N, C] or [n, N, C + 1] (objectness last) and boxes [n, N, 4].

    Attributes
    ----------
    layout : Layout
        How the file held them, for the manifest.
    kind : "sigmoid" or "softmax"
        From scores to confidences.
    classes, candidates : int
        C (with the background, where there is one) and N.
    has_objectness : bool
        Whether the last column of the scores is the logit of "there is an object".
    """

    layout: Layout
    kind: HeadKind
    classes: int
    candidates: int
    has_objectness: bool


def detector(model: ir.Model, asked: str | None = None) -> FoundDetector:
    """Rewrite a detector to scores and boxes of its candidates.

    Parameters
    ----------
    model : ir.Model
        Cleaned, with its outputs as in the file; changed in place unless it is refused. Afterwards its outputs are scores,
        before the activation, and boxes as x0, y0, x1, y1 in pixels of the network's input.
    asked : str, optional
        Name of the layout; None tries all that are known.

    Returns
    -------
    FoundDetector

    Raises
    ------
    SourceError
        The outputs are laid out in no way that is known, or not in the one that was asked for; says what was found. Or what
        was taken before the activation is not what the file gives after it.
    """
    graph = model.graph
    outputs = Outputs.of(graph)
    found = _find(outputs, asked)
    require_same(graph, found)
    op = Ops(graph, prefix="detector")
    scores, boxes = found.scores(op), found.boxes(op)
    if found.objectness is not None:
        scores = op.Concat(scores, found.objectness(op), axis=2)
    width = found.classes + (found.objectness is not None)
    batch = graph.inputs[0].shape[0] if graph.inputs[0].shape is not None else "n"
    for value, last in ((scores, width), (boxes, 4)):
        value.shape = ir.Shape([batch, found.count, last])
        value.type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[:] = [scores, boxes]
    graph.sort()
    passes.RemoveUnusedNodesPass()(model)
    infer_shapes(model, model.opset_imports[""])
    kind: HeadKind = "softmax" if found.layout.activation == "softmax" else "sigmoid"
    return FoundDetector(found.layout, kind, found.classes, found.count, found.objectness is not None)


def _find(outputs: Outputs, asked: str | None) -> Candidates:
    known = {layout.name: layout for layout in LAYOUTS}
    if asked is not None and asked not in known:
        raise SourceError(f"there is no detector layout '{asked}'; known are {', '.join(known)}")
    for layout in LAYOUTS if asked is None else (known[asked],):
        found = layout.find(outputs)
        if found is not None:
            return found
    if asked is not None:
        raise SourceError(
            f"the outputs are not laid out as {asked}, which has {known[asked].words}. {_described(outputs)}"
        )
    raise SourceError(
        f"the outputs are those of no detector that is known ({', '.join(known)}). {_described(outputs)}. With "
        f"{option('task', 'value')} any element of an output can be explained; docs/detectors.md lists the layouts"
    )


def _described(outputs: Outputs) -> str:
    """What an error says of the outputs: names, shapes, and where columns come from."""
    whose = (
        "The file's NonMaxSuppression is given"
        if any(map(is_before_suppression, outputs.values))
        else "The file has"
    )
    words: Sequence[str] = [
        f"'{value.name}' {value.shape}"
        + (f" ({', '.join(r.words for r in tables[0].runs[:4])})" if tables else "")
        for value, tables in zip(outputs.values, outputs.tables, strict=True)
    ]
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return f"{whose} {'; '.join(words[:3])}{more}"
