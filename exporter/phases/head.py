"""head.onnx: from the last block's feature maps to the network's answers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.bundle import InputSpec
from sise_ort.errors import ExportError, option
from sise_ort.exporter.blocks import Candidate
from sise_ort.exporter.gradients import nodes_between
from sise_ort.exporter.layout import CHANNELS_FIRST
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, tensor_input
from sise_ort.exporter.phases.predict import finish_as_predict
from sise_ort.heads import Head
from sise_ort.tasks import Task


def build_head(network: ir.Model, last: Candidate, spec: InputSpec, task: Task, head: Head) -> ir.Model:
    """Build head.onnx, the part of the network behind the last block.

    Parameters
    ----------
    network : onnx_ir.Model
        From network input [n, C, H, W] to the task's outputs; it is not changed.
    last : Candidate
        Output of the last block.
    spec : InputSpec
        Frame that the bundle takes; its `batch` fixes n.
    task : Task
        What the network's outputs are.
    head : Head
        From scores to confidences.

    Returns
    -------
    onnx_ir.Model

    Raises
    ------
    ExportError
        The outputs depend on the picture in other ways than through the last block.

    Notes
    -----
    Input: features [n, N, h, w]. Outputs: those of predict.onnx.
    """
    graph = network.clone().graph
    source = graph.inputs[0]
    value = next(v for node in graph for v in node.outputs if v.name == last.tensor)
    features = tensor_input("features", FLOAT, [spec.batch or "n", last.channels, last.height, last.width])
    op = Ops(graph)
    order = [0, *last.axes]
    maps = features
    if last.axes != CHANNELS_FIRST:
        maps = op.Transpose(features, perm=[int(i) for i in np.argsort(order)])
    value.replace_all_uses_with(maps)
    if any(nodes_between(output, [source]) for output in graph.outputs):
        raise ExportError(
            f"{option('graphs', ['head'])}: the network's outputs do not depend on the picture through '{last.tensor}' alone; "
            f"name a last layer that all paths cross with {option('layers')} (see `sise-ort layers`)"
        )
    graph.inputs[:] = [features]
    return finish_as_predict(graph, op, spec, task, head)
