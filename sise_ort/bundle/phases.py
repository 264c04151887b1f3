"""What each phase's graph takes and gives, as the manifest has it: names, types and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sise_ort.bundle.format import Manifest
from sise_ort.bundle.graphs import FLOAT, INT64, UINT8, GraphError, GraphFacts, TensorSpec

Shape = tuple["int | str", ...]
"""Lengths of a tensor; a name stands for a length that each run chooses, one of the form "~R" for one of the graph's."""

DTYPES: Mapping[int, np.dtype[Any]] = {
    FLOAT: np.dtype("float32"),
    UINT8: np.dtype("uint8"),
    INT64: np.dtype("int64"),
}


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a graph by name: ONNX's number of the type, and the shape."""

    inputs: Mapping[str, tuple[int, Shape]]
    outputs: Mapping[str, tuple[int, Shape]]


def signature(manifest: Manifest, phase: str) -> Signature:
    """What the graph of a phase must take and give.

    Parameters
    ----------
    manifest : Manifest
        The bundle's.
    phase : str
        One of PHASES or OPTIONAL_PHASES, or READOUT.

    Returns
    -------
    Signature
    """
    spec = manifest.input
    size = (spec.height, spec.width)
    n: int | str = spec.batch or "n"
    dtype = FLOAT if spec.frame_dtype == "float32" else UINT8
    image: dict[str, tuple[int, Shape]] = {"image": (dtype, (1, *size, spec.channels))}
    network: Shape = (n, spec.channels, *size)
    answers: dict[str, Shape] = {
        name: (n, *own) for name, own in manifest.task.outputs(manifest.head).items()
    }
    last = manifest.layers[-1]
    if phase == "extract":
        return _extract(manifest, image)
    if phase == "sketch":
        return _sketch(manifest)
    if phase == "mask":
        masks: dict[str, Shape] = {"masks": ("n", 1, *size), "range": ("n",), "total": ("n",)}
        return Signature({"maps": (FLOAT, (1, "N", "h", "w")), "index": (INT64, ("n",))}, _floats(masks))
    if phase == "apply":
        return Signature(
            {**image, **_floats({"masks": ("n", 1, *size)})}, _floats({"masked": ("n", spec.channels, *size)})
        )
    if phase == "predict":
        return Signature(_floats({"input": network}), _floats(answers))
    if phase == "fuse":
        layers = tuple(enumerate(manifest.layers, 1))
        maps: dict[str, Shape] = {
            f"features_{b}": (1, layer.channels, layer.height, layer.width) for b, layer in layers
        }
        weights: dict[str, Shape] = {f"weights_{b}": ("K", layer.channels) for b, layer in layers}
        fused: dict[str, Shape] = {"visualization_maps": ("K", len(layers), *size), "heatmap": ("K", *size)}
        return Signature(_floats({**maps, **weights}), _floats(fused))
    if phase == "head":
        return Signature(_floats({"features": (n, last.channels, last.height, last.width)}), _floats(answers))
    if phase == "readout":
        read: dict[str, Shape] = {"psi": ("K", n), "score": ("K", n)}
        return Signature({**_floats(answers), **_given(manifest, "K")}, _floats(read))
    if phase == "image_gradient":
        return Signature(
            {"input": (FLOAT, network), **_given(manifest, 1)},
            _floats({**_read(manifest, 1, n), "gradient": network}),
        )
    if phase == "full_gradient":
        return Signature(
            {**image, **_given(manifest, "K")},
            _floats({**_read(manifest, "K", 1), "saliency": ("K", *size), "total": ("K",)}),
        )
    raise ValueError(f"there is no phase {phase!r}")


def _given(manifest: Manifest, questions: int | str) -> dict[str, tuple[int, Shape]]:
    """The tensors of questions."""
    given = manifest.task.given(manifest.head)
    return {name: (dtype, (questions, *own)) for name, (dtype, own) in given.items()}


def _read(manifest: Manifest, questions: int | str, n: int | str) -> dict[str, Shape]:
    """What a graph says of the network's answer: class scores, or what is read off other outputs."""
    if manifest.task.on_device:
        return {"psi": (questions, n), "score": (questions, n)}
    return {"scores": (n, manifest.head.classes)}


def _floats(shapes: Mapping[str, Shape]) -> dict[str, tuple[int, Shape]]:
    return {name: (FLOAT, shape) for name, shape in shapes.items()}


def _extract(manifest: Manifest, image: Mapping[str, tuple[int, Shape]]) -> Signature:
    outputs: dict[str, Shape] = _read(manifest, "K", 1)
    for b, layer in enumerate(manifest.layers, 1):
        maps = (layer.channels, layer.height, layer.width)
        outputs |= {
            f"features_{b}": (1, *maps),
            f"gradients_{b}": ("K", *maps),
            f"alpha_{b}": ("K", layer.channels),
            f"span_{b}": (1, layer.channels),
        }
    return Signature({**image, **_given(manifest, "K"), "contrast": (FLOAT, ())}, _floats(outputs))


def _sketch(manifest: Manifest) -> Signature:
    inputs: dict[str, tuple[int, Shape]] = {}
    outputs: dict[str, Shape] = {}
    for b, layer in enumerate(manifest.layers, 1):
        inputs[f"features_{b}"] = (FLOAT, (1, layer.channels, layer.height, layer.width))
        inputs[f"index_{b}"] = (INT64, (f"n_{b}",))
        outputs |= {
            f"cells_{b}": (f"n_{b}", "~R", "~C"),
            f"range_{b}": (f"n_{b}",),
            f"texture_{b}": (f"n_{b}", 2),
        }
    inputs["alpha"] = (FLOAT, ("K", manifest.layers[-1].channels))
    return Signature(inputs, _floats({**outputs, "evidence": ("K", "~R", "~C")}))


def require_signature(facts: GraphFacts, expected: Signature) -> None:
    """Compare what a graph declares with what its phase must have.

    Raises
    ------
    GraphError
        An input or output is missing, is one too many, or has another type or shape; names it.
    """
    for kind, found, wanted in (
        ("input", facts.inputs, expected.inputs),
        ("output", facts.outputs, expected.outputs),
    ):
        names = {spec.name for spec in found}
        if missing := sorted(set(wanted) - names):
            raise GraphError(f"has no {kind} '{missing[0]}', which the manifest asks for")
        if extra := sorted(names - set(wanted)):
            raise GraphError(f"has an {kind} '{extra[0][:80]}', which the manifest does not know")
        for spec in found:
            _require(spec, kind, *wanted[spec.name])


def _require(spec: TensorSpec, kind: str, dtype: int, shape: Shape) -> None:
    if spec.dtype != dtype:
        raise GraphError(f"has an {kind} '{spec.name}' that is not {DTYPES[dtype]}")
    if spec.shape is None or len(spec.shape) != len(shape) or not all(map(_fits, spec.shape, shape)):
        declared = "of open shape" if spec.shape is None else list(spec.shape)
        raise GraphError(f"has an {kind} '{spec.name}' that is {declared}, not {list(shape)}")


def _fits(declared: int | None, wanted: int | str) -> bool:
    if isinstance(wanted, int):
        return declared == wanted
    if wanted.startswith("~"):
        return declared is not None and declared > 0
    return declared is None
