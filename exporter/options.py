"""Export options, checked and completed: what the user said, else what the source knows, else the default."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sise_ort.bundle import OPTIONAL_PHASES, Fit, InputSpec, Preprocessing
from sise_ort.errors import ExportError, ParameterError

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
    "hidden": ("mean", "black"),
    "frame_dtype": ("uint8", "float32"),
}


def check_choice(option: str, value: str) -> str:
    if value not in CHOICES[option]:
        raise ParameterError(f"{option} is {value!r}; it must be one of {', '.join(CHOICES[option])}")
    return value


def optional_phases(graphs: Sequence[str]) -> frozenset[str]:
    """The further graphs asked for, by their names in a bundle.

    Raises
    ------
    ParameterError : there is no such graph.
    """
    known = {phase.replace("_", "-"): phase for phase in OPTIONAL_PHASES}
    if isinstance(graphs, str):
        graphs = [graphs]
    for name in graphs:
        if name not in known:
            raise ParameterError(
                f"--with {name}: there is no such graph; it must be one of {', '.join(known)}"
            )
    return frozenset(known[name] for name in graphs)


def preprocessing(
    channels: int,
    *,
    normalize: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    color: str | None,
    hidden: str,
    defaults: Mapping[str, Any],
) -> Preprocessing:
    """Colour order, mean and std for a network with 1 or 3 input channels.

    Raises
    ------
    ExportError : neither the user nor the source says how pixels are normalised.
    ParameterError : values that contradict each other.
    """
    if color is None:
        color = "gray" if channels == 1 else "rgb"
    check_choice("color", color)
    if (color == "gray") != (channels == 1):
        raise ParameterError(f"color {color} does not fit a network with {channels} input channels")
    if normalize is not None and (mean is not None or std is not None):
        raise ParameterError("pass either normalize or mean and std, not both")
    if (mean is None) != (std is None):
        raise ParameterError("mean and std belong together: pass both, in pixel units 0 to 255")
    if normalize is not None:
        mean, std = NORMALIZATIONS[check_choice("normalize", normalize)]
        if color == "bgr":
            mean, std = mean[::-1], std[::-1]
        if color == "gray":
            if normalize == "imagenet":
                raise ParameterError(
                    "normalize imagenet is for colour; a gray network needs --mean and --std"
                )
            mean, std = mean[:1], std[:1]
    elif mean is None or std is None:
        if "mean" not in defaults:
            raise ExportError(
                "the model does not say how its pixels are normalised, and a wrong guess would give wrong heat maps: "
                "pass --normalize imagenet|tf|none, or --mean and --std in pixel units 0 to 255"
            )
        mean, std = defaults["mean"], defaults["std"]
        if color == "bgr":
            mean, std = mean[::-1], std[::-1]
    mean, std = tuple(map(float, mean)), tuple(map(float, std))
    if len(mean) == 1 and channels == 3:
        mean *= 3
    if len(std) == 1 and channels == 3:
        std *= 3
    if len(mean) != channels or len(std) != channels:
        raise ParameterError(f"mean {mean} and std {std} need {channels} values each")
    if not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        raise ParameterError(f"mean {mean} must be finite and std {std} positive")
    return Preprocessing(color, mean, std, check_choice("hidden", hidden))


def fit(mode: str | None, spec: InputSpec, facts: Preprocessing, defaults: Mapping[str, Any]) -> Fit:
    """How frames are brought to network size; a letterbox's border takes the mean colour, in the frame's order."""
    size = (spec.height, spec.width)
    if mode is None:
        mode = defaults.get("fit", "stretch")
        resize = defaults.get("resize", size)
    else:
        resize = size
    assert mode is not None
    border: tuple[int, ...] = ()
    if check_choice("fit", mode) == "letterbox":
        colors = facts.mean[::-1] if facts.color == "bgr" else facts.mean
        border = tuple(int(np.clip(round(c), 0, 255)) for c in colors)
    return Fit(mode, (int(resize[0]), int(resize[1])), border)


def read_labels(
    labels: str | Path | Sequence[str] | None, classes: int, known: tuple[str, ...]
) -> tuple[str, ...]:
    """Class names: a sequence, a text file with one name a line, or a JSON list.

    Raises
    ------
    ExportError : the file cannot be read, or the number of names is not the number of classes.
    """
    if labels is None:
        return known if len(known) == classes else ()
    if isinstance(labels, (str, Path)):
        path = Path(labels)
        try:
            text = path.read_text(encoding="utf-8-sig")
            names = json.loads(text) if path.suffix == ".json" else text.splitlines()
        except (OSError, ValueError) as error:
            raise ExportError(f"the labels in '{path}' cannot be read: {error}") from error
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ExportError(f"'{path}' must hold a JSON list of names")
        names = [n.strip() for n in names]
        while names and not names[-1]:
            names.pop()
        where = f" in '{path}'"
    else:
        names, where = [str(n) for n in labels], ""
    if len(names) != classes:
        raise ExportError(f"there are {len(names)} labels{where}, but the network has {classes} classes")
    return tuple(names)


def parse_size(text: str | int | Sequence[int] | None) -> tuple[int, int] | None:
    """``224`` or ``"256x1600"`` (height × width) as (height, width)."""
    if text is None:
        return None
    parts = str(text).lower().split("x") if isinstance(text, (str, int)) else [str(p) for p in text]
    if len(parts) == 1:
        parts *= 2
    if len(parts) != 2 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise ParameterError(f"input size {text!r}: pass N, or HEIGHTxWIDTH such as 256x1600")
    return int(parts[0]), int(parts[1])
