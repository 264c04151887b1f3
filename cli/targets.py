"""Options that say what to explain, and what they mean together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

from sise_ort.cli.options import Numbers

_OPTIONS = (
    click.option(
        "--target",
        "labels",
        multiple=True,
        metavar="LABEL",
        help="Class to explain, by name; with a sigmoid head also not:LABEL (its absence) and positive (every class over 0.5, every detection). Repeatable [the top class].",
    ),
    click.option(
        "--target-index",
        "indices",
        multiple=True,
        type=click.IntRange(0),
        help="Class to explain, by index from 0. Repeatable.",
    ),
    click.option(
        "--rather-than",
        metavar="LABEL",
        help="Explain the class rather than this one, by name or index; runner-up for the second best.",
    ),
    click.option(
        "--region",
        type=Numbers(),
        metavar="X0,Y0,X1,Y1",
        help="Box in pixels of the picture. Segmentation: explain the class in it [where the network sees it]. With --detection LABEL: where the object is.",
    ),
    click.option(
        "--region-mask",
        type=click.Path(exists=True, dir_okay=False),
        help="Segmentation: explain the class where this picture of the same size is not black.",
    ),
    click.option(
        "--detection",
        "detections",
        multiple=True,
        metavar="N|LABEL",
        help="Detector: explain the detection of this number (--list shows them), or with --region the class in that box. Repeatable [the surest].",
    ),
    click.option(
        "--like",
        type=click.Path(exists=True, dir_okay=False),
        help="Embedding: explain the likeness to this picture.",
    ),
    click.option(
        "--value",
        "values",
        multiple=True,
        metavar="INDEX",
        help="Value of the output to explain, as NumPy indexes it: 3, or 0,2:5 for the mean of several. Repeatable [all].",
    ),
)


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what to explain; the command gets them as one argument, `asked`."""
    names = ("labels", "indices", "rather_than", "region", "region_mask", "detections", "like", "values")

    @functools.wraps(command)
    def with_asked(**given: Any) -> Any:
        return command(asked={name: given.pop(name) for name in names}, **given)

    for option in reversed(_OPTIONS):
        with_asked = option(with_asked)
    return with_asked


def target_of(asked: Mapping[str, Any]) -> Any:
    """The target that the options mean together, as `Explainer.explain` takes it; None where none was given.

    Raises
    ------
    click.UsageError
        They contradict one another.
    """
    from sise_ort.targets import LikenessTo, RatherThan, Value

    classes: list[Any] = [*asked["labels"], *asked["indices"]]
    if "positive" in classes and len(classes) > 1:
        raise click.UsageError("--target positive stands alone")
    kinds = {
        "--region or --region-mask": asked["region"] or asked["region_mask"],
        "--detection": asked["detections"],
        "--like": asked["like"],
        "--value": asked["values"],
        "--rather-than": asked["rather_than"],
    }
    if asked["detections"]:
        del kinds["--region or --region-mask"]  # the box of a detection
    given = [name for name, value in kinds.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} do not go together")
    if given and given[0] in ("--detection", "--like", "--value") and classes:
        raise click.UsageError(f"{given[0]} and --target do not go together")
    if asked["detections"]:
        return _detections(asked)
    if asked["like"]:
        return LikenessTo(asked["like"])
    if asked["values"]:
        return [Value(index_of(text)) for text in asked["values"]]
    if asked["rather_than"]:
        other = None if asked["rather_than"] == "runner-up" else _label(asked["rather_than"])
        return [RatherThan(one, other) for one in classes or [None]]
    if asked["region"] or asked["region_mask"]:
        return _regions(asked, classes)
    return "positive" if classes == ["positive"] else classes or None


def _detections(asked: Mapping[str, Any]) -> Any:
    from sise_ort.targets import Detection

    if asked["region_mask"]:
        raise click.UsageError("--detection and --region-mask do not go together; --region gives a box")
    labels = [_label(text) for text in asked["detections"]]
    if asked["region"]:
        return [Detection(one, box=tuple(asked["region"])) for one in labels]
    for one in labels:
        if isinstance(one, str):
            raise click.UsageError(
                f"--detection {one!r} is no number of a detection (--list shows them); a class needs its box, "
                "--region x0,y0,x1,y1"
            )
    return [Detection(one) for one in labels]


def _regions(asked: Mapping[str, Any], classes: list[Any]) -> Any:
    from sise_ort.frame import read_frame
    from sise_ort.targets import Region

    if asked["region"] and asked["region_mask"]:
        raise click.UsageError("--region and --region-mask do not go together")
    if asked["region"]:
        return [Region(one, box=tuple(asked["region"])) for one in classes or [None]]
    mask = read_frame(asked["region_mask"]).max(axis=2) > 0
    return [Region(one, mask=mask) for one in classes or [None]]


def _label(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() else text


def index_of(text: str) -> Any:
    """A place in an array from text such as ``3``, ``0,2:5`` or ``:``.

    Raises
    ------
    click.UsageError
        It is none.
    """

    from sise_ort.errors import TargetError
    from sise_ort.targets import value_index

    try:
        return value_index(text)
    except TargetError as error:
        raise click.UsageError(f"--value {error}") from error
