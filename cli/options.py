"""Options that several commands share, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


provider_option = click.option(
    "--provider",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Execution provider.",
)


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated numbers: one for gray, three for colour."""

    name = "R,G,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(v) for v in value.split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of numbers such as 123.7,116.3,103.5", param, ctx)


class Names(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated names."""

    name = "NAME,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        return value if isinstance(value, list) else [v.strip() for v in value.split(",") if v.strip()]


class Mu(click.ParamType):  # type: ignore[type-arg]
    """A number in [0, 1) or "adaptive"."""

    name = "MU"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        from sise_ort.errors import ParameterError
        from sise_ort.selection import check_mu

        try:
            return check_mu(value)
        except ParameterError as error:
            self.fail(str(error), param, ctx)


def method_parameters(
    method: str, settings: Sequence[str], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A method's parameters from NAME=VALUE words, and those that options of their own gave (None: not given).

    Raises
    ------
    ParameterError : no such method or parameter, or a value of the wrong kind.
    """
    from sise_ort.errors import ParameterError
    from sise_ort.runtime.methods import method_named

    way = method_named(method)
    found = {name: value for name, value in (given or {}).items() if value is not None}
    way.complete(found)  # refuses what the method does not have
    for words in settings:
        name, equals, value = words.partition("=")
        if not equals:
            raise ParameterError(f"--set {words}: NAME=VALUE is needed")
        found[name.strip()] = way.parse(name.strip(), value.strip())
    return found


def source_options(command: F) -> F:
    """How a model is loaded: what `export` and `layers` share."""
    for option in reversed(
        [
            click.option(
                "--weights",
                metavar="DEFAULT|NONE|FILE",
                help="PyTorch: whose weights [torchvision, timm: DEFAULT].",
            ),
            click.option("--classes", type=click.IntRange(1), help="torchvision, timm: number of classes."),
            click.option(
                "--input-size", metavar="N|HxW", help="Picture size, where the model leaves it open."
            ),
            click.option(
                "--color", type=click.Choice(["rgb", "bgr", "gray"]), help="What the network wants."
            ),
            click.option(
                "--head",
                type=click.Choice(["auto", "softmax", "sigmoid", "none"]),
                default="auto",
                show_default=True,
                help="How scores become confidences.",
            ),
            click.option("--output", metavar="NAME", help="Which output holds the class scores."),
            click.option("--layers", type=Names(), help="Tensors or modules to use as blocks."),
        ]
    ):
        command = option(command)
    return command
