"""The V2 protocol (Open Inference Protocol): the model ``NAME`` predicts, the model ``NAME-explain`` explains."""

from __future__ import annotations

import base64
from typing import Any

import anyio.to_thread
import numpy as np
from fastapi import Request, Response
from numpy.typing import NDArray

from sise_ort import __version__
from sise_ort.errors import shown
from sise_ort.explanation import Explanation
from sise_ort.line.server import answers
from sise_ort.line.server.memory import Share
from sise_ort.line.server.models import EXPLAIN, Model, Models
from sise_ort.line.server.pictures import Source
from sise_ort.line.server.refusal import Refusal
from sise_ort.line.server.settings import Settings
from sise_ort.line.server.tensors import HEADER_LENGTH, InferBody, Tensor, arrays, joined, split
from sise_ort.line.server.uploads import body_of
from sise_ort.line.server.wishes import Wish, levels_of, wish_of

IMAGE, PICTURE = "image", "picture"
CLIENTS_OWN = ("binary_data_output", "priority", "timeout", "sequence_id", "sequence_start", "sequence_end")
"""Parameters that clients send of themselves."""
Outputs = dict[str, NDArray[Any] | list[bytes]]


def server_metadata() -> dict[str, Any]:
    """What the server is."""
    return {"name": "sise-ort", "version": __version__, "extensions": ["binary_tensor_data"]}


def split_name(models: Models, name: str) -> tuple[Model, bool]:
    """The model of a name, and whether its explanations are meant."""
    if name not in models.names and name.endswith(EXPLAIN) and name[: -len(EXPLAIN)] in models.names:
        return models.get(name[: -len(EXPLAIN)]), True
    return models.get(name), False


def metadata(model: Model, explains: bool) -> dict[str, Any]:
    """Inputs and outputs of a model; a length of -1 is any."""
    manifest = model.manifest
    spec = manifest.input
    pixels = "UINT8" if spec.frame_dtype == "uint8" else "FP32"
    inputs = [(IMAGE, pixels, [-1, -1, -1, 3]), (PICTURE, "BYTES", [-1])]
    if explains:
        outputs = [
            ("heatmap", "FP32", [-1, spec.height, spec.width]), ("target", "INT64", [-1]), ("label", "BYTES", [-1]),
            ("confidence", "FP32", [-1]), ("score", "FP32", [-1]), ("record", "BYTES", [-1]), ("overlay", "BYTES", [-1]),
        ]  # fmt: skip
    else:
        lengths = manifest.task.outputs(manifest.head)
        outputs = [(name, "FP32", [-1, *own]) for name, own in lengths.items()]
    return {
        "name": model.name + (EXPLAIN if explains else ""),
        "versions": [],
        "platform": "sise-ort",
        "inputs": [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in inputs],
        "outputs": [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in outputs],
    }


async def infer(request: Request, models: Models, name: str, settings: Settings, share: Share) -> Response:
    """Answer an inference request."""
    model, explains = split_name(models, name)
    body = await body_of(request, settings, share)
    header = request.headers.get(HEADER_LENGTH)
    asked, sources = await anyio.to_thread.run_sync(_read, body, header, settings)
    fields = {key: value for key, value in asked.parameters.items() if key not in CLIENTS_OWN}
    wanted = _wanted(asked, metadata(model, explains))
    binary = _binary(asked, wanted)
    if explains:
        wish = await anyio.to_thread.run_sync(wish_of, fields, model.manifest, settings)
        if isinstance(wish.target, list) or wish.target == "positive":
            raise Refusal(400, "target: one target for a request; send one request for each", "target")
        found = await model.answers(request, sources, wish, share)
        outputs: Outputs = await anyio.to_thread.run_sync(_explained, found, wanted, wish, binary)
    else:
        unknown = [key for key in fields if key != "levels"]
        if unknown:
            raise Refusal(
                400,
                f"a prediction has no parameter {shown(unknown[0])}; explanations are asked of the model {name}{EXPLAIN}",
                unknown[0],
            )
        found = await model.answers(request, sources, None, share, levels_of(fields.get("levels")))
        outputs = {key: np.stack([one[key] for one in found]) for key in wanted}
    answer = {"model_name": name, "model_version": "1", **({"id": asked.id} if asked.id else {})}
    content, length = await anyio.to_thread.run_sync(joined, answer, outputs, binary)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(length)})


def _read(body: bytes, header: str | None, settings: Settings) -> tuple[InferBody, list[Source]]:
    """The request, and its pictures."""
    asked, behind = split(body, header)
    found = arrays(asked, behind)
    if len(found) != 1 or not found.keys() <= {IMAGE, PICTURE}:
        raise Refusal(
            400,
            f"the inputs are {shown(list(found))}; one is needed: '{IMAGE}', pixels [n, height, width, 3], or '{PICTURE}', "
            "picture files as BYTES [n] (in JSON, base64)",
        )
    (tensor,) = asked.inputs
    (value,) = found.values()
    return asked, _pictures(tensor, value)


def _pictures(tensor: Tensor, value: Any) -> list[Source]:
    if (tensor.datatype == "BYTES") != (tensor.name == PICTURE):
        raise Refusal(
            400,
            f"'{tensor.name}' is of {tensor.datatype}; '{PICTURE}' is of BYTES, '{IMAGE}' of numbers",
            tensor.name,
        )
    if tensor.name == PICTURE:
        return list(value)
    if value.ndim != 4 or value.dtype.kind == "b":
        raise Refusal(
            400,
            f"'{IMAGE}' is {tensor.datatype} {tensor.shape}; numbers [n, height, width, 3] are needed",
            IMAGE,
        )
    return list(value if value.dtype != np.float16 else value.astype(np.float32))


def _wanted(asked: InferBody, known: dict[str, Any]) -> list[str]:
    names = [row["name"] for row in known["outputs"]]
    if not asked.outputs:
        return [name for name in names if name != "overlay"]
    for one in asked.outputs:
        if one.name not in names:
            raise Refusal(
                400, f"there is no output {shown(one.name)}; there are {', '.join(names)}", "outputs"
            )
    return list(dict.fromkeys(one.name for one in asked.outputs))


def _binary(asked: InferBody, wanted: list[str]) -> list[str]:
    """Names of the outputs that the client wants as bytes."""
    everything = asked.parameters.get("binary_data_output") is True
    own = {one.name: one.parameters.get("binary_data", everything) is True for one in asked.outputs or ()}
    return [name for name in wanted if own.get(name, everything)]


def _explained(found: list[Explanation], wanted: list[str], wish: Wish, binary: list[str]) -> Outputs:
    made: Outputs = {}
    for name in wanted:
        if name == "heatmap":
            made[name] = np.stack([answers.sized(one, "network") for one in found])
        elif name == "target":
            made[name] = np.array([one.target for one in found], np.int64)
        elif name in ("confidence", "score"):
            made[name] = np.array([getattr(one, name) for one in found], np.float32)
        elif name == "label":
            made[name] = [one.label.encode("utf-8", "backslashreplace") for one in found]
        elif name == "record":
            made[name] = [answers.to_bytes(one.record()) for one in found]
        else:
            pictures = [answers.png(one, wish.drawing) for one in found]
            made[name] = pictures if name in binary else [base64.b64encode(one) for one in pictures]
    return made
