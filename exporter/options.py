"""Export options in four groups, checked; what the user leaves out comes from the source, else from the defaults."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sise_ort.bundle import EXPLAIN, OPTIONAL_PHASES, Fit, InputSpec, Preprocessing
from sise_ort.bundle.format import LARGEST_PICTURE, LONGEST_SIDE
from sise_ort.errors import ExportError, ParameterError, option
from sise_ort.exporter.pixel_units import require_pixel_units
from sise_ort.exporter.randomisation import Checked

NORMALIZATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "tf": ((127.5,) * 3, (127.5,) * 3),
    "none": ((0.0,) * 3, (1.0,) * 3),
}
CHOICES = {
    "normalize": tuple(NORMALIZATIONS),
    "color": ("rgb", "bgr", "gray"),
    "fit": ("stretch", "crop", "letterbox"),
    "head": ("auto", "softmax", "sigmoid", "none"),
    "task": ("auto", "classes", "segmentation", "detection", "embedding", "value"),
    "hidden": ("mean", "black"),
    "frame_dtype": ("uint8", "float32"),
    "precision": ("fp32", "fp16", "int8"),
}
LEAST_CORRELATION = 0.97
MOST_CLASSES = 1 << 24
G = TypeVar("G")


def check_choice(name: str, value: Any) -> str:
    """Return the value if it is among the option's choices.

    Raises
    ------
    ParameterError
    """
    if not isinstance(value, str) or value not in CHOICES[name]:
        raise ParameterError(f"{option(name)} is {value!r}; it must be one of {', '.join(CHOICES[name])}")
    return value


@dataclass(frozen=True)
class Input:
    """How a frame becomes the network's input.

    Attributes
    ----------
    input_size : int, str or (int, int), optional
        Size of the network's input, N, "HxW" or (H, W), where the model leaves it open.
    color : str, optional
        Channel order that the network wants: "rgb", "bgr" or "gray". None takes gray for one input channel, else rgb.
    normalize : str, optional
        "imagenet", "tf" or "none", in place of mean and std.
    mean, std : float or sequence of float, optional
        Per channel in the network's order, in pixel units 0 to 255.
    fit : str, optional
        How frames get the network's size: "stretch" (default), "crop" or "letterbox". Torchvision and timm names bring
        their own resize and centre crop.
    hidden : str
        What masks hide becomes "mean" (0 of the network's input) or "black".
    frame_dtype : str
        Type of a pixel, "uint8" or "float32".
    inputs : mapping, optional
        Constants for inputs other than the picture, by name: a number, a list of numbers, an array or an .npy file.
    """

    input_size: str | int | Sequence[int] | None = None
    color: str | None = None
    normalize: str | None = None
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    fit: str | None = None
    hidden: str = "mean"
    frame_dtype: str = "uint8"
    inputs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("color", "normalize", "fit"):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name))
        check_choice("hidden", self.hidden)
        check_choice("frame_dtype", self.frame_dtype)
        _ = self.size  # refuses what is no size

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that were asked for."""
        return parse_size(self.input_size)

    def preprocessing(self, channels: int, defaults: Mapping[str, Any]) -> Preprocessing:
        """Colour order, mean and std for a network with 1 or 3 input channels.

        Parameters
        ----------
        channels : int
            Input channels of the network, 1 or 3.
        defaults : mapping
            What the source knows: mean and std in RGB order.

        Raises
        ------
        ExportError
            Neither the user nor the source says how pixels are normalised.
        ParameterError
            Values that contradict one another, or cannot be in pixel units.
        """
        color = self.color or ("gray" if channels == 1 else "rgb")
        if (color == "gray") != (channels == 1):
            raise ParameterError(
                f"{option('color', color)} does not fit a network with {channels} input channels"
            )
        mean, std = self._statistics(color, defaults)
        mean, std = mean * (channels if len(mean) == 1 else 1), std * (channels if len(std) == 1 else 1)
        if len(mean) != channels or len(std) != channels:
            raise ParameterError(
                f"{option('mean')} {mean} and {option('std')} {std} need {channels} values each"
            )
        if not np.isfinite([*mean, *std]).all() or min(std) <= 0:
            raise ParameterError(f"{option('mean')} {mean} must be finite and {option('std')} {std} positive")
        require_pixel_units(mean, std)
        return Preprocessing(color, mean, std, self.hidden)

    def _statistics(
        self, color: str, defaults: Mapping[str, Any]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self.normalize is not None and (self.mean is not None or self.std is not None):
            raise ParameterError(
                f"pass either {option('normalize')} or {option('mean')} and {option('std')}, not both"
            )
        if (self.mean is None) != (self.std is None):
            raise ParameterError(
                f"{option('mean')} and {option('std')} belong together: pass both, in pixel units 0 to 255"
            )
        if self.mean is not None and self.std is not None:
            return _numbers("mean", self.mean), _numbers("std", self.std)
        if self.normalize is not None:
            mean, std = NORMALIZATIONS[self.normalize]
            if color == "gray" and self.normalize == "imagenet":
                raise ParameterError(
                    f"{option('normalize', 'imagenet')} is for colour; a gray network needs {option('mean')} and "
                    f"{option('std')}"
                )
        elif "mean" in defaults:
            mean, std = defaults["mean"], defaults["std"]
        else:
            raise ExportError(
                "the model does not say how its pixels are normalised, and a wrong guess would give wrong heat maps: pass "
                f"{option('normalize')} imagenet, tf or none; or {option('mean')} and {option('std')} in pixel units 0 to 255"
            )
        if color == "gray":
            return tuple(mean[:1]), tuple(std[:1])
        return (tuple(mean[::-1]), tuple(std[::-1])) if color == "bgr" else (tuple(mean), tuple(std))

    def placement(self, spec: InputSpec, facts: Preprocessing, defaults: Mapping[str, Any]) -> Fit:
        """How frames are brought to network size; a letterbox's border takes the mean colour, in the frame's order.

        Parameters
        ----------
        spec : InputSpec
            The network's input.
        facts : Preprocessing
            Its normalisation, whose mean is the border's colour.
        defaults : mapping
            What the source knows: fit and resize.

        Returns
        -------
        Fit
        """
        mode = self.fit or str(defaults.get("fit", "stretch"))
        size = (spec.height, spec.width)
        resize = defaults.get("resize", size) if self.fit is None else size
        border: tuple[int, ...] = ()
        if mode == "letterbox":
            colors = facts.mean[::-1] if facts.color == "bgr" else facts.mean
            border = tuple(int(np.clip(round(c), 0, 255)) for c in colors)
        return Fit(mode, (int(resize[0]), int(resize[1])), border)


@dataclass(frozen=True)
class Outputs:
    """What the network's outputs are.

    Attributes
    ----------
    output : str, optional
        Name of the output to explain, where there are several, or of any other tensor of the graph.
    task : str
        What the outputs are: "auto" (seen from their form), "classes", "segmentation", "detection", "embedding" or "value".
    head : str
        What turns class scores into confidences: "auto" (read off the graph), "softmax", "sigmoid" or "none".
    classes : int, optional
        Number of classes of a torchvision or timm network; None takes that of the published network.
    labels : sequence of str, or path, optional
        Class names, or a file with one a line (or a JSON list).
    """

    output: str | None = None
    task: str = "auto"
    head: str = "auto"
    classes: int | None = None
    labels: str | Path | Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_choice("task", self.task)
        check_choice("head", self.head)
        if self.output is not None and not isinstance(self.output, str):
            raise ParameterError(f"{option('output')} is {self.output!r}; it must be a name")
        whole = isinstance(self.classes, Integral) and not isinstance(self.classes, bool)
        if self.classes is not None and not (whole and 1 <= self.classes <= MOST_CLASSES):
            raise ParameterError(
                f"{option('classes')} is {self.classes!r}; it must be a whole number from 1 to {MOST_CLASSES:,}"
            )
        if self.classes is not None:
            object.__setattr__(self, "classes", int(self.classes))  # NumPy's integers, too


@dataclass(frozen=True)
class Blocks:
    """Which tensors and graphs the bundle has.

    Attributes
    ----------
    layers : sequence of str, optional
        Tensor names or module paths that replace the found blocks.
    graphs : sequence of str
        Further graphs, for methods other than SISE: "head", "image-gradient", "full-gradient"; and "explain", the whole method
        in one file (docs/everywhere.md).
    """

    layers: Sequence[str] | None = None
    graphs: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", None if self.layers is None else _names("layers", self.layers))
        object.__setattr__(self, "graphs", _names("graphs", self.graphs))
        known = {phase.replace("_", "-") for phase in (*OPTIONAL_PHASES, EXPLAIN)}
        for name in self.graphs:
            if name not in known:
                raise ParameterError(
                    f"{option('graphs')}: there is no graph '{name}'; it must be one of {', '.join(sorted(known))}"
                )

    @property
    def phases(self) -> frozenset[str]:
        """The further graphs by their names in a bundle."""
        return frozenset(name.replace("-", "_") for name in self.graphs)


@dataclass(frozen=True)
class Lowered:
    """Number format in which masks are scored.

    Attributes
    ----------
    precision : str
        Of predict.onnx: "fp32", "fp16" (for GPUs) or "int8" (for CPUs). Gradients stay in float32.
    calibration : path, optional
        Folder of typical pictures: "int8" takes the ranges of activations from them, and the heat maps of some are
        compared with float32's.
    least_correlation : float
        Smallest mean correlation allowed with float32 heat maps.
    """

    precision: str = "fp32"
    calibration: str | Path | None = None
    least_correlation: float = LEAST_CORRELATION

    def __post_init__(self) -> None:
        check_choice("precision", self.precision)
        least = self.least_correlation
        if self.precision == "int8" and self.calibration is None:
            raise ParameterError(
                f"{option('precision', 'int8')} needs {option('calibration')}: a folder of typical pictures, from which the "
                "ranges of activations are taken"
            )
        if self.precision == "fp32" and self.calibration is not None:
            raise ParameterError(f"{option('calibration')} is for {option('precision')} fp16 and int8")
        if self.calibration is not None and not isinstance(self.calibration, (str, Path)):
            raise ParameterError(f"{option('calibration')} is {self.calibration!r}; it must be a folder")
        if isinstance(least, bool) or not isinstance(least, (int, float)) or not -1 <= least <= 1:
            raise ParameterError(
                f"{option('least_correlation')} is {least!r}; it must be a number from -1 to 1"
            )


@dataclass(frozen=True)
class Options:
    """All options of an export but the source, the target and their handling.

    Attributes
    ----------
    input : Input
    outputs : Outputs
    blocks : Blocks
    lowered : Lowered
    checked : Checked
    """

    input: Input = field(default_factory=Input)
    outputs: Outputs = field(default_factory=Outputs)
    blocks: Blocks = field(default_factory=Blocks)
    lowered: Lowered = field(default_factory=Lowered)
    checked: Checked = field(default_factory=Checked)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """The groups, from flat keywords.

        Raises
        ------
        ParameterError
            There is no such option, or a value is out of its range.
        """
        known = {f.name for group in GROUPS.values() for f in dataclasses.fields(group)}
        for name in (n for n in given if n not in known):
            close = difflib.get_close_matches(name, [*known, "weights", "force"], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ParameterError(f"an export has no option '{name}'{hint}")
        return cls(**{key: _filled(group, given) for key, group in GROUPS.items()})


GROUPS: Mapping[str, Any] = {
    "input": Input, "outputs": Outputs, "blocks": Blocks, "lowered": Lowered, "checked": Checked,
}  # fmt: skip


def _filled(group: type[G], given: Mapping[str, Any]) -> G:
    names = {f.name for f in dataclasses.fields(group)}  # type: ignore[arg-type]
    return group(**{name: value for name, value in given.items() if name in names})


def with_options(signature: inspect.Signature) -> inspect.Signature:
    """A signature whose ``**options`` are spelled out, for `help` and tools."""
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    listed = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for group in GROUPS.values()
        for f in dataclasses.fields(group)
    ]
    return signature.replace(parameters=[*own, *listed])


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return tuple(float(v) for v in (value if np.ndim(value) else [value]))
    except (TypeError, ValueError, OverflowError) as error:
        raise ParameterError(f"{option(name)} is {value!r}; numbers are needed, one per channel") from error


def _names(name: str, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple, set, frozenset)) or not all(isinstance(n, str) for n in names):
        raise ParameterError(f"{option(name)} is {value!r}; a list of names is needed")
    return tuple(names)


def parse_size(text: str | int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width from ``224``, ``"256x1600"`` (height × width) or ``(256, 1600)``.

    Raises
    ------
    ParameterError
    """
    if text is None:
        return None
    pair = isinstance(text, (list, tuple))
    parts = [str(p) for p in text] if pair else str(text).lower().split("x")  # type: ignore[union-attr]
    parts = [p.strip() for p in parts] * (2 if len(parts) == 1 else 1)
    digits = all(p.isascii() and p.isdigit() and len(p) < 8 and int(p) > 0 for p in parts)
    if len(parts) != 2 or not digits:
        raise ParameterError(
            f"{option('input_size')} is {text!r}: pass N, or height x width such as 256x1600"
        )
    height, width = int(parts[0]), int(parts[1])
    if height * width > LARGEST_PICTURE or max(height, width) > LONGEST_SIDE:
        raise ParameterError(
            f"{option('input_size')} of {height} x {width} has more than {LARGEST_PICTURE:,} pixels, or a side over {LONGEST_SIDE:,}"
        )
    return height, width
