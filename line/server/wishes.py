"""What a request asks for: target, method and its parameters, and the form of the answer, each checked with one clear error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sise_ort.bundle import Manifest
from sise_ort.errors import ParameterError, shown
from sise_ort.levels import Range, check_levels
from sise_ort.line.server.pictures import from_base64, pixels_held
from sise_ort.line.server.refusal import Refusal, about
from sise_ort.line.server.settings import Settings
from sise_ort.runtime.asking import require_target
from sise_ort.runtime.methods import method_named
from sise_ort.runtime.methods.method import Method
from sise_ort.runtime.methods.registry import DEFAULT
from sise_ort.targets import Detection, LikenessTo, RatherThan, Region, Value, value_index

Heatmap = Literal["numbers", "npz", "png", "none"]
HEATMAPS = ("numbers", "npz", "png", "none")
DRAWINGS = ("overlay", "heatmap")
SIZES = ("network", "frame")
EXCLUSIVE = ("rather_than", "region", "region_mask", "detection", "like", "value")
OWN = ("target", "target_index", *EXCLUSIVE, "method", "levels", "heatmap", "drawing", "size")
"""Fields that are no parameters of a method."""


@dataclass(frozen=True)
class Wish:
    """What a request asks for about its pictures.

    Attributes
    ----------
    target : object
        As `Explainer.explain` takes it.
    method : Method
        The method with its parameters.
    levels : Range
        The values of black and white.
    heatmap : str
        How JSON holds the heat map: "numbers", "npz" or "png" (both in base64), or "none".
    drawing : str
        What a PNG shows: "overlay", or "heatmap" in gray.
    size : str
        Size of the heat map's numbers: "network" or "frame".
    """

    target: Any
    method: Method
    levels: Range = None
    heatmap: str = "numbers"
    drawing: str = "overlay"
    size: str = "network"


def wish_of(fields: Mapping[str, Any], manifest: Manifest, settings: Settings) -> Wish:
    """Read and check the fields of a request.

    Parameters
    ----------
    fields : mapping
        Values by name, of JSON or as texts.
    manifest : Manifest
        The bundle that is asked.
    settings : Settings

    Raises
    ------
    Refusal
        With status 400: the first field that is wrong, by name.
    """
    method = _method(fields)
    method_graph = method.graph
    if method_graph and not manifest.has(method_graph):
        with about("method"):
            method.require(manifest)
    return Wish(
        target=_target(fields, manifest, settings),
        method=method,
        levels=levels_of(fields.get("levels")),
        heatmap=_one_of("heatmap", fields.get("heatmap", "numbers"), HEATMAPS),
        drawing=_one_of("drawing", fields.get("drawing", "overlay"), DRAWINGS),
        size=_one_of("size", fields.get("size", "network"), SIZES),
    )


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise Refusal(400, f"{name} is {shown(value)}; it is one of {', '.join(known)}", name)
    return value


def _method(fields: Mapping[str, Any]) -> Method:
    with about("method"):
        kind = method_named(fields.get("method", DEFAULT))
    given: dict[str, Any] = {}
    for name, value in fields.items():
        if name in OWN:
            continue
        if name not in kind.defaults():
            has = ", ".join((*OWN, *kind.defaults()))
            raise Refusal(
                400, f"there is no field {shown(name)} for the method {kind.name}; there are {has}", name
            )
        with about(name):
            given[name] = kind.parse(name, value) if isinstance(value, str) else _plain(name, value)
            kind.of({name: given[name]})
    with about("method"):
        return kind.of(given)


def _plain(name: str, value: Any) -> Any:
    """A parameter's value as JSON holds it."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping):
        raise ParameterError(f"{name} is {shown(value)}; a number or text is needed")
    return value


def levels_of(value: Any) -> Range:
    """The values of black and white that a request gives; see `sise_ort.frame.read`.

    Raises
    ------
    Refusal
        They are none.
    """
    if value is None:
        return None
    with about("levels"):
        numbers = _numbers(value, "levels")
        levels: Range = numbers[0] if len(numbers) == 1 else tuple(numbers)  # type: ignore[assignment]
        check_levels(levels)
        return levels


def _numbers(value: Any, name: str) -> list[float]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    try:
        if any(isinstance(part, bool) for part in parts):
            raise ValueError
        return [float(part) for part in parts]
    except (TypeError, ValueError, OverflowError):
        raise Refusal(400, f"{name} is {shown(value)}; numbers such as 0,255 are needed", name) from None


def _target(fields: Mapping[str, Any], manifest: Manifest, settings: Settings) -> Any:
    given = [name for name in EXCLUSIVE if fields.get(name) is not None]
    if given[:1] == ["region"] and "detection" in given:
        given.remove("region")  # the box of the detection
    classes = _classes(fields)
    if len(given) > 1:
        raise Refusal(400, f"{given[0]} and {given[1]} do not go together", given[1])
    if given and given[0] in ("detection", "like", "value") and classes is not None:
        raise Refusal(400, f"{given[0]} and target do not go together", given[0])
    name = given[0] if given else "target"
    with about(name):
        target = _TARGETS[name](fields, classes, settings) if given else classes
        several = target if isinstance(target, list) else [target]
        for one in several:
            require_target(manifest, one)
    if len(several) > settings.max_targets:
        raise Refusal(400, f"{name} asks for {len(several)} targets; at most {settings.max_targets}", name)
    if not several:
        raise Refusal(400, f"{name} is an empty list", name)
    return target


def _listed(value: Any, name: str, kinds: tuple[type, ...], what: str) -> Any:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, kinds):
            raise Refusal(400, f"{name} is {shown(one)}; {what} is needed", name)
    return value


def _whole(value: Any, name: str) -> Any:
    """Whole numbers, also as texts: one, or a list."""
    if isinstance(value, list):
        return [_whole(one, name) for one in value]
    text = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10
    number = int(value) if text else value
    return _listed(number, name, (int,), "an index from 0")


def _classes(fields: Mapping[str, Any]) -> Any:
    """The classes that `target` and `target_index` name."""
    if fields.get("target") is not None and fields.get("target_index") is not None:
        raise Refusal(400, "target and target_index do not go together", "target_index")
    if fields.get("target_index") is not None:
        return _whole(fields["target_index"], "target_index")
    target = fields.get("target")
    return None if target is None else _listed(target, "target", (int, str), "a label or an index")


def _each(value: Any, make: Callable[[Any], Any]) -> Any:
    return [make(one) for one in value] if isinstance(value, list) else make(value)


def _rather_than(fields: Mapping[str, Any], classes: Any, settings: Settings) -> Any:
    other = fields["rather_than"]
    _listed([other], "rather_than", (int, str), "a label or an index")
    other = None if other == "runner-up" else other
    return _each(classes, lambda one: RatherThan(one, other))


def _region(fields: Mapping[str, Any], classes: Any, settings: Settings) -> Any:
    numbers = _numbers(fields["region"], "region")
    return _each(classes, lambda one: Region(one, box=tuple(numbers)))  # type: ignore[arg-type]


def _region_mask(fields: Mapping[str, Any], classes: Any, settings: Settings) -> Any:
    from sise_ort.frame import read_frame

    mask = read_frame(_file(fields["region_mask"], "region_mask", settings)).max(axis=2) > 0
    return _each(classes, lambda one: Region(one, mask=mask))


def _detection(fields: Mapping[str, Any], classes: Any, settings: Settings) -> Any:
    if fields.get("region") is None:
        return _each(_whole(fields["detection"], "detection"), Detection)
    box = tuple(_numbers(fields["region"], "region"))
    label = _listed(fields["detection"], "detection", (int, str), "a label or an index")
    return _each(label, lambda one: Detection(one, box=box))  # type: ignore[arg-type]


def _like(fields: Mapping[str, Any], classes: Any, settings: Settings) -> Any:
    return LikenessTo(_file(fields["like"], "like", settings))


def _value(fields: Mapping[str, Any], classes: Any, settings: Settings) -> Any:
    value = _listed(fields["value"], "value", (int, str), "an index such as 3, or 0,2:5")
    return _each(value, lambda one: Value(value_index(str(one))))


def _file(value: Any, name: str, settings: Settings) -> bytes:
    """A picture file in base64, as a text or as ``{"b64": text}``; small enough to be decoded."""
    text = value.get("b64") if isinstance(value, Mapping) else value
    data = from_base64(text, name)
    pixels_held(data, settings.max_pixels)
    return data


_TARGETS: dict[str, Callable[[Mapping[str, Any], Any, Settings], Any]] = {
    "rather_than": _rather_than,
    "region": _region,
    "region_mask": _region_mask,
    "detection": _detection,
    "like": _like,
    "value": _value,
}
