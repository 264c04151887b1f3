"""KServe's V1 protocol: ``/v1/models/NAME:predict`` and ``:explain``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import msgspec
from fastapi import Request, Response

from sise_ort.explanation import Explanation
from sise_ort.line.server import answers
from sise_ort.line.server.memory import Share
from sise_ort.line.server.models import Model
from sise_ort.line.server.pictures import Source, from_json
from sise_ort.line.server.refusal import Refusal
from sise_ort.line.server.settings import Settings
from sise_ort.line.server.uploads import body_of
from sise_ort.line.server.wishes import Wish, levels_of, wish_of

JSON, PNG, NPZ = "application/json", "image/png", "application/x-npz"
KINDS = (JSON, PNG, NPZ)
FACTS = "Sise-Ort-Explanation"
"""Header of a PNG or npz: label and confidence as JSON in ASCII."""


class Body(msgspec.Struct):
    """A JSON request.

    Attributes
    ----------
    instances : list
        The pictures.
    parameters : dict
        What is asked about them.
    """

    instances: list[Any]
    parameters: dict[str, Any] = {}


def accepted(header: str) -> str:
    """The kind of answer that an Accept header prefers; JSON where it leaves the choice.

    Raises
    ------
    Refusal
        With status 406: it is none that there is.
    """
    best, weight = "", 0.0
    for part in (header or "*/*").split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        for known in KINDS:
            if kind in (known, "*/*", known.split("/")[0] + "/*") and quality > weight:
                best, weight = known, quality
                break
    if not best:
        raise Refusal(406, f"the answer is {', '.join(KINDS)}; Accept asks for another", "Accept")
    return best


def parsed(body: bytes, content_type: str, query: Mapping[str, str]) -> tuple[list[Source], dict[str, Any]]:
    """The pictures and the fields of a request.

    Parameters
    ----------
    body : bytes
        JSON, or a picture file where the content type is ``image/…`` or ``application/octet-stream``.
    content_type : str
    query : mapping
        Fields of the address.

    Raises
    ------
    Refusal
        400: it is no such JSON, or a field stands in both places.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        if not body:
            raise Refusal(400, "the body is empty: send a picture file")
        return [body], dict(query)
    try:
        content = msgspec.json.decode(body, type=Body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(
            400, f'the body is no JSON such as {{"instances": [{{"b64": "…"}}]}}: {error}'
        ) from error
    twice = sorted(set(query) & set(content.parameters))
    if twice:
        raise Refusal(400, f"{twice[0]} stands in the address and in the body; keep one of them", twice[0])
    sources = [from_json(value, f"instances[{i}]") for i, value in enumerate(content.instances)]
    return sources, {**content.parameters, **query}


async def predict(request: Request, model: Model, settings: Settings, share: Share) -> Response:
    """The network's answers to some pictures."""
    body = await body_of(request, settings, share)
    sources, fields = await anyio.to_thread.run_sync(
        parsed, body, request.headers.get("content-type", JSON), request.query_params
    )
    unknown = [name for name in fields if name != "levels"]
    if unknown:
        raise Refusal(400, f"a prediction has no field {unknown[0]!r}; it has levels", unknown[0])
    found = await model.answers(request, sources, None, share, levels_of(fields.get("levels")))
    rows = {"predictions": [answers.prediction(model.manifest, one) for one in found]}
    return Response(await anyio.to_thread.run_sync(answers.to_bytes, rows), media_type=JSON)


async def explain(request: Request, model: Model, settings: Settings, share: Share) -> Response:
    """Explanations of the network's decisions on some pictures."""
    kind = accepted(request.headers.get("accept", ""))
    body = await body_of(request, settings, share)
    sources, fields = await anyio.to_thread.run_sync(
        parsed, body, request.headers.get("content-type", JSON), request.query_params
    )
    wish = await anyio.to_thread.run_sync(wish_of, fields, model.manifest, settings)
    found = await model.answers(request, sources, wish, share)
    return await anyio.to_thread.run_sync(_answer, found, wish, kind)


def _answer(found: list[Explanation | list[Explanation]], wish: Wish, kind: str) -> Response:
    if kind == JSON:
        rows = [
            [answers.explanation(part, wish) for part in one]
            if isinstance(one, list)
            else answers.explanation(one, wish)
            for one in found
        ]
        return Response(answers.to_bytes({"explanations": rows}), media_type=JSON)
    flat = [part for one in found for part in (one if isinstance(one, list) else [one])]
    if len(flat) != 1:
        raise Refusal(
            406, f"there are {len(flat)} explanations, and {kind} holds one: ask for {JSON}", "Accept"
        )
    (result,) = flat
    content = answers.png(result, wish.drawing) if kind == PNG else answers.npz(result, wish.size)
    facts = {"label": result.label, "confidence": result.confidence, "target": result.target}
    ascii_only = msgspec.json.encode(facts).decode().encode("ascii", "backslashreplace").decode()
    return Response(content, media_type=kind, headers={FACTS: ascii_only})
