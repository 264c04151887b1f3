"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class ProviderName(click.ParamType):  # type: ignore[type-arg]
    """The name of an execution provider, such as "cuda", "openvino:GPU" or "plugin:webgpu"."""

    name = "NAME"
    choices = ("auto", "cpu", "cuda", "tensorrt", "openvino")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        first, colon, words = str(value).partition(":")
        named = colon and words and first in ("openvino", "plugin")
        if value not in self.choices and not named:
            self.fail(
                f"'{value}' is not one of {', '.join(self.choices)}, openvino:DEVICE, plugin:NAME", param, ctx
            )
        return str(value)


provider_option = click.option(
    "--provider",
    type=ProviderName(),
    metavar="auto|cpu|cuda|tensorrt|openvino[:DEVICE]|plugin:NAME",
    default="auto",
    show_default=True,
    help="ONNX Runtime execution provider to run on; auto takes the fastest one that is known to work here.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Number format in which masks are scored; auto is the bundle's own, bf16 and fp16 need provider openvino.",
)

untrusted_option = click.option(
    "--untrusted",
    is_flag=True,
    help="Try the bundle first in a process of its own with limited memory and time: for bundles from people you do not know.",
)

MOST_INPUTS = 65_536
MOST_THREADS = 4_096
MOST_CLASSES = 1_000_000
LONGEST_DEADLINE_MS = 86_400_000  # a day

batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1, MOST_INPUTS),
    help="Number of masks to score at once [measured by `sise-ort bench`, else by the picture's size].",
)

threads_option = click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="Number of CPU threads to use [all cores]."
)


class Number(click.ParamType):  # type: ignore[type-arg]
    """A finite number between two bounds.

    Parameters
    ----------
    low, high : float
        The bounds.
    above : bool
        Whether `low` itself is refused.
    below : bool
        Whether `high` itself is refused.
    """

    name = "NUMBER"

    def __init__(self, low: float, high: float, *, above: bool = False, below: bool = False) -> None:
        self.low, self.high, self.above, self.below = low, high, above, below

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        inside = self.low <= number <= self.high  # False for NaN
        if not inside or (self.above and number == self.low) or (self.below and number == self.high):
            interval = f"{'(' if self.above else '['}{self.low:g}, {self.high:g}{')' if self.below else ']'}"
            self.fail(f"'{value}' is not a number in {interval}", param, ctx)
        return number


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated numbers: one for gray, three for colour."""

    name = "R,G,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(v) for v in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or not all(map(math.isfinite, numbers)):
            self.fail(f"'{value}' is not a list of numbers such as 123.7,116.3,103.5", param, ctx)
        return numbers


class Names(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated names."""

    name = "NAME,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        names = [v.strip() for v in value.split(",") if v.strip()]
        if value.strip() and not names:
            self.fail(f"'{value}' holds no name", param, ctx)
        return list(dict.fromkeys(names))


class Formats(Names):
    """Comma-separated names of formats."""

    name = "NAME,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        from sise_ort.errors import ParameterError, on_command_line
        from sise_ort.saving import check_formats

        names = super().convert(value, param, ctx)
        try:
            return list(check_formats(names))
        except ParameterError as error:
            self.fail(on_command_line(error), param, ctx)


class LevelsType(click.ParamType):  # type: ignore[type-arg]
    """The pixel value of white, or those of black and white."""

    name = "WHITE|BLACK,WHITE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from sise_ort.errors import ParameterError, on_command_line
        from sise_ort.levels import check_levels

        if not isinstance(value, str):
            return value
        try:
            ends = tuple(float(v) for v in value.split(","))
            check_levels(ends[0] if len(ends) == 1 else ends)
        except ParameterError as error:
            self.fail(on_command_line(error), param, ctx)
        except ValueError:
            self.fail(f"'{value}' is neither a number such as 4095 nor two such as 100,3000", param, ctx)
        return ends[0] if len(ends) == 1 else ends


class Mu(click.ParamType):  # type: ignore[type-arg]
    """A number in [0, 1) or "adaptive"."""

    name = "MU"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        from sise_ort.errors import ParameterError, on_command_line
        from sise_ort.formulas.selection import check_mu

        try:
            return check_mu(value)
        except ParameterError as error:
            self.fail(on_command_line(error), param, ctx)


def pairs(words: Sequence[str], flag: str, form: str = "NAME=VALUE") -> dict[str, str]:
    """Read NAME=VALUE words.

    Parameters
    ----------
    words : sequence of str
    flag : str
        The option that they were given to, for messages.
    form : str
        How such a word looks, for messages.

    Raises
    ------
    ParameterError
        A word has no equals sign or no name, or two words give one name different values.
    """
    from sise_ort.errors import ParameterError

    found: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not name:
            raise ParameterError(f"{flag} '{word}': {form} is needed")
        if found.setdefault(name, value) != value:
            raise ParameterError(f"{flag} gives {name} twice: {found[name]} and {value}; keep one of them")
    return found


def method_parameters(
    method: str, settings: Sequence[str], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Collect a method's parameters from NAME=VALUE words and from options of their own.

    Parameters
    ----------
    method : str
        The method's name.
    settings : sequence of str
        The words that --set was given.
    given : mapping
        Values of options of their own by parameter; None where an option was not given.

    Raises
    ------
    ParameterError
        No such method or parameter, a value of the wrong kind, or --set contradicts an option of its own.
    """
    from sise_ort.errors import ParameterError, option
    from sise_ort.runtime.methods import method_named

    chosen = method_named(method)
    parameters = {name: value for name, value in (given or {}).items() if value is not None}
    chosen.of(parameters)  # refuses what the method does not have
    for name, text in pairs(settings, "--set").items():
        value = chosen.parse(name, text)
        if parameters.setdefault(name, value) != value:
            raise ParameterError(
                f"{option(name)} and {option('method.' + name)} contradict each other "
                f"({parameters[name]} and {value}); keep one of them"
            )
    return parameters


def _inputs(ctx: click.Context, param: click.Parameter, words: Sequence[str]) -> dict[str, Any] | None:
    """The values of --input by name; numbers and lists are read, what else there is names a file."""
    import json

    found: dict[str, Any] = {}
    for name, text in pairs(words, "--input").items():
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        found[name] = value if isinstance(value, (bool, int, float, list)) else text
    return found or None


def source_options(command: F) -> F:
    """Add the options that say how a model is loaded, shared by `export` and `layers`."""
    for decorate in reversed(
        [
            click.option(
                "--weights",
                metavar="DEFAULT|NONE|FILE",
                help="Weights of a PyTorch network: the published ones, random ones, or a file "
                "[torchvision, timm: DEFAULT].",
            ),
            click.option(
                "--classes",
                type=click.IntRange(1, MOST_CLASSES),
                help="Number of classes of a torchvision or timm network [that of the published network].",
            ),
            click.option(
                "--input-size",
                metavar="N|HxW",
                help="Height and width of the network's input, where the model leaves them open.",
            ),
            click.option(
                "--color",
                type=click.Choice(["rgb", "bgr", "gray"]),
                help="Order of the network's input channels [gray for one channel, else rgb].",
            ),
            click.option(
                "--task",
                type=click.Choice(["auto", "classes", "segmentation", "detection", "embedding", "value"]),
                default="auto",
                show_default=True,
                help="Kind of the outputs; auto sees it from their form, and says so.",
            ),
            click.option(
                "--head",
                type=click.Choice(["auto", "softmax", "sigmoid", "none"]),
                default="auto",
                show_default=True,
                help="Function that turns class scores into confidences; auto reads it off the graph.",
            ),
            click.option(
                "--output",
                metavar="NAME",
                help="Output to explain, where the model has several, or any other tensor of the graph.",
            ),
            click.option(
                "--input",
                "inputs",
                metavar="NAME=VALUE",
                multiple=True,
                callback=_inputs,
                help="Constant for an input other than the picture: a number, a list such as [0,1] or an .npy file; repeatable.",
            ),
            click.option(
                "--layers",
                type=Names(),
                help="Tensors or modules to take as block outputs [the last of each resolution].",
            ),
        ]
    ):
        command = decorate(command)
    return command
