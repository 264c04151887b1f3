"""From a bundle to a model repository of Triton Inference Server: explain and predict, each with its config.pbtxt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from sise_ort.bundle import Bundle, open_bundle
from sise_ort.errors import ExportError, OutputError, ParameterError, option, shown
from sise_ort.exporter.compose import LARGEST, composed, graph_of
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, UINT8, network_input, tensor_input
from sise_ort.exporter.phases.predict import finish_as_predict
from sise_ort.files import file_name, write_files

ACCELERATORS = ("none", "tensorrt", "openvino")
TYPES: Mapping[int, str] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT64: "TYPE_INT64",
}
"""Triton's names of ONNX's element types."""
MOST_AT_ONCE = 64
"""Frames that Triton may join to one batch of `predict`."""


@dataclass(frozen=True)
class Served:
    """A model of the repository.

    Attributes
    ----------
    name : str
    content : bytes
        The ONNX file.
    batches : int
        Frames at once, 0 where the model takes no batch.
    """

    name: str
    content: bytes
    batches: int


def write_repository(
    bundle: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    instances: int = 1,
    accelerator: str = "none",
    force: bool = False,
) -> list[Path]:
    """Write two models for Triton: NAME_explain, the whole method, and NAME_predict, frames to scores and confidences.

    Parameters
    ----------
    bundle : str or Path
        A bundle of class scores.
    out : str or Path
        Folder of the model repository; other models in it stay.
    name : str, optional
        First part of the models' names. None takes the bundle's.
    instances : int
        Copies of each model that run at the same time.
    accelerator : str
        "none", "tensorrt" (GPU) or "openvino" (CPU, NAME_predict alone): what onnxruntime runs on inside of Triton.
    force : bool
        Replace models of these names.

    Returns
    -------
    list of Path
        Folders of the models.

    Raises
    ------
    ExportError
        The bundle's answers are no class scores, or it would be too large (see `compose`).
    ParameterError, OutputError, BundleError
    """
    if accelerator not in ACCELERATORS:
        raise ParameterError(
            f"{option('accelerator')} is {shown(accelerator)}; it must be one of {', '.join(ACCELERATORS)}"
        )
    if isinstance(instances, bool) or not isinstance(instances, int) or not 1 <= instances <= 1024:
        raise ParameterError(
            f"{option('instances')} is {shown(instances)}; it must be a whole number from 1 to 1024"
        )
    read, root = open_bundle(bundle), Path(out)
    first = file_name(read.manifest.name if name is None else name)
    folders = [root / f"{first}_{part}" for part in ("explain", "predict")]
    for folder in folders:
        if folder.exists() and not force:
            raise OutputError(
                f"'{folder}' exists already; pass {option('force', True)} to replace it, or another {option('name')}"
            )
        if folder.exists() and not _is_ours(folder):
            raise OutputError(f"'{folder}' holds more than a model of ours; it will not be replaced")
    models = [
        Served(folders[0].name, composed(read, scalar=(1,)), 0),
        Served(folders[1].name, predict_on_frames(read), 0 if read.manifest.input.batch else MOST_AT_ONCE),
    ]
    labels = "".join(f"{label}\n" for label in read.manifest.labels).encode()
    files: dict[Path, bytes | memoryview] = {}
    for folder, model in zip(folders, models, strict=True):
        # OpenVINO's provider does not take loops whose bodies read values from outside
        own = "none" if accelerator == "openvino" and model is models[0] else accelerator
        text = config(model, bool(labels), instances, own)
        files |= {folder / "1" / "model.onnx": model.content, folder / "config.pbtxt": text.encode()}
        if labels:
            files[folder / "labels.txt"] = labels
        if folder.exists():
            shutil.rmtree(folder)
    write_files(files)
    return folders


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds nothing but what this module writes."""
    known = {Path("1"), Path("1/model.onnx"), Path("config.pbtxt"), Path("labels.txt")}
    return (
        folder.is_dir()
        and not folder.is_symlink()
        and {p.relative_to(folder) for p in folder.rglob("*")} <= known
    )


def predict_on_frames(bundle: Bundle) -> bytes:
    """predict.onnx with the preprocessing in front of it and the weights inside: image [n, H, W, C] to scores and confidence."""
    manifest, spec = bundle.manifest, bundle.manifest.input
    size = len(bundle.contents["predict.onnx"]) + sum(t.length for t in bundle.graphs["predict"].external)
    if size > LARGEST:
        raise ExportError(f"predict would have {size / 2**30:.1f} GiB, and an ONNX file ends at 2 GiB")
    graph = graph_of(bundle, "predict").graph
    dtype = UINT8 if spec.frame_dtype == "uint8" else FLOAT
    image = tensor_input("image", dtype, [spec.batch or "n", spec.height, spec.width, spec.channels])
    graph.inputs[0].replace_all_uses_with(
        network_input(Ops(graph, prefix="frames"), image, manifest.preprocessing)
    )
    graph.inputs[:] = [image]
    graph.outputs[:] = [value for value in graph.outputs if value.name != "confidence"]
    model = finish_as_predict(graph, Ops(graph, prefix="served"), spec, manifest.task, manifest.head)
    return bytes(ir.to_proto(model).SerializeToString())


def config(model: Served, labelled: bool, instances: int, accelerator: str) -> str:
    """The text of a model's config.pbtxt, its names, types and shapes read off the graph.

    Parameters
    ----------
    model : Served
    labelled : bool
        Whether labels.txt stands beside it.
    instances : int
    accelerator : str
    """
    graph = onnx.load_from_string(model.content).graph
    given = [_tensor(value, bool(model.batches)) for value in graph.input]
    found = [
        _tensor(value, bool(model.batches), labelled and value.name in ("scores", "confidence"))
        for value in graph.output
    ]
    lines = [
        f"name: {json.dumps(model.name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {model.batches}",
        f"input [\n{_joined(given)}\n]",
        f"output [\n{_joined(found)}\n]",
        f"instance_group [\n  {{ count: {instances} kind: KIND_AUTO }}\n]",
    ]
    if model.batches:
        lines.append("dynamic_batching { }")
    if accelerator != "none":
        where = "gpu_execution_accelerator" if accelerator == "tensorrt" else "cpu_execution_accelerator"
        lines.append(
            f'optimization {{\n  execution_accelerators {{\n    {where}: [ {{ name: "{accelerator}" }} ]\n  }}\n}}'
        )
    return "\n".join(lines) + "\n"


def _joined(entries: Sequence[str]) -> str:
    return ",\n".join(f"  {{ {entry} }}" for entry in entries)


def _tensor(value: onnx.ValueInfoProto, batched: bool, labelled: bool = False) -> str:
    """An input or output as Triton writes it; the first axis of a model that takes batches is left out."""
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim][
        1 if batched else 0 :
    ]
    shape = ", ".join(str(length) for length in dims)
    labels = ' label_filename: "labels.txt"' if labelled else ""
    return f'name: "{value.name}" data_type: {TYPES[kind.elem_type]} dims: [ {shape} ]{labels}'
