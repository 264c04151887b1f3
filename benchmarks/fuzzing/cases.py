"""What a case is: a function of a place with its own folders and its own random numbers."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 500
"""Characters of an error's message at most."""
FLAG = re.compile(r"(?<![\w-])--[a-z]")

FOREIGN = re.compile(r"\[[WEVIF]:onnxruntime:|^\[ ?(WARN|ERROR|INFO):\d")
"""What onnxruntime and OpenCV write to standard error themselves."""


class Wrong(Exception):
    """What a case found: an answer that is not sound, or an error that is not clear."""


@dataclass(frozen=True)
class Case:
    """A kind of input, by its area and name, and how often it is tried.

    Parameters
    ----------
    run : function
        Called with a `Place`. It passes where it returns or raises a SiseError.
    weight : float
        How often it is drawn beside the others.
    alone : bool
        Whether each one needs a process of its own, because it may take that process along.
    """

    area: str
    name: str
    run: Callable[[Place], None]
    weight: float
    alone: bool

    @property
    def key(self) -> str:
        return f"{self.area}.{self.name}"


CASES: dict[str, Case] = {}


def case(area: str, weight: float = 1.0, alone: bool = False) -> Callable[[Any], Any]:
    """Register a function as a case."""

    def register(run: Callable[[Place], None]) -> Callable[[Place], None]:
        found = Case(area, run.__name__, run, weight, alone)
        CASES[found.key] = found
        return run

    return register


@dataclass
class Place:
    """Where one case runs.

    Parameters
    ----------
    folder : Path
        Its own; `inputs` must be unchanged afterwards, results may stand in `out` only.
    samples : Path
        Networks, bundles and pictures to start from (`samples.py`); never changed.
    rng : random.Random
        The case's own.
    explainers : dict
        Shared by the cases of one process.
    """

    folder: Path
    samples: Path
    rng: random.Random
    explainers: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> Path:
        return self.folder / "in"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def numbers(self) -> np.random.Generator:
        return np.random.default_rng(self.rng.getrandbits(64))

    def explainer(self, name: str = "tiny") -> Any:
        """An explainer of a sample bundle on the CPU."""
        import sise_ort

        if name not in self.explainers:
            self.explainers[name] = sise_ort.load(self.samples / f"{name}.sise", "cpu", batch_size=4)
        return self.explainers[name]

    def picture(self) -> Path:
        """One of the sample pictures."""
        return self.rng.choice(sorted((self.samples / "pictures").iterdir()))

    def freeze(self) -> None:
        """What stands in `inputs` from now on must be the same at the end."""
        self.frozen = snapshot(self.inputs)

    def command(self, *words: Any) -> None:
        """Run a command line and judge its exit code and messages."""
        from click.testing import CliRunner

        from sise_ort.cli.main import main

        result = CliRunner().invoke(main, [str(w) for w in words])
        judge_command(result.exit_code, result.stdout, result.stderr)


def judge_command(code: int, output: str, errors: str) -> None:
    """Raise `Wrong` where a command did not end in a result or one clear line.

    Raises
    ------
    Wrong
    """
    if "Traceback (most recent call last)" in errors or "Exception ignored" in errors:
        raise Wrong(f"traceback: {errors[-2000:]}")
    if code not in (0, 1, 2):
        raise Wrong(f"exit code {code}: {errors[-2000:]}")
    errors = "\n".join(line for line in errors.splitlines() if not FOREIGN.search(line))
    lines = [line for line in errors.splitlines() if line.startswith("Error: ")]
    problems = "problem: " in output  # doctor's
    if code and len(lines) != 1 and not problems:
        raise Wrong(f"exit code {code} with {len(lines)} error lines: {errors[-2000:]}")
    for line in errors.splitlines():
        judge_words(line, LONGEST + 200)


def judge_error(error: Exception) -> None:
    """Raise `Wrong` where an error's message is not one clear line for a Python user.

    Raises
    ------
    Wrong
    """
    text = str(error)
    if len(text) < 10:
        raise Wrong(f"a message that says nothing: {text!r}")
    judge_words(text, LONGEST)
    if FLAG.search(re.sub(r"`[^`]*`|'[^']*'", "", text)):
        raise Wrong(f"a flag of the command line in a Python message: {text}")


def judge_words(text: str, longest: int) -> None:
    """Raise `Wrong` where a line is too long or holds codes.

    Raises
    ------
    Wrong
    """
    if len(text) > longest:
        raise Wrong(f"a message of {len(text)} characters: {text[:300]}")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise Wrong(f"control characters in a message: {text!r}")


def judge_result(result: Any) -> None:
    """Raise `Wrong` where an explanation is not sound.

    Raises
    ------
    Wrong
    """
    for one in result if isinstance(result, list) else [result]:
        for heatmap in (one.heatmap, one.frame_heatmap):
            if not np.isfinite(heatmap).all() or heatmap.min() < 0 or heatmap.max() > 1:
                raise Wrong(f"a heat map outside [0, 1]: {heatmap.min()} to {heatmap.max()}")
        if not 0 <= one.confidence <= 1 and '"none' not in json.dumps(
            one.record(), default=str
        ):  # no head: scores
            raise Wrong(f"confidence {one.confidence}")
        try:
            json.dumps(one.record(), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise Wrong(f"the record is no JSON: {error}") from error


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What stands in a folder: kind, size, time of change and content of small files."""
    found: dict[str, tuple[Any, ...]] = {}
    for root, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            path = os.path.join(root, name)  # noqa: PTH118 - names that are no text
            status = os.lstat(path)
            content: Any = None
            if os.path.islink(path):  # noqa: PTH114
                content = os.readlink(path)  # noqa: PTH115
            elif os.path.isfile(path) and status.st_size < 1 << 20:  # noqa: PTH113
                with open(path, "rb") as file:  # noqa: PTH123
                    content = file.read()
            size = status.st_size if not os.path.isdir(path) else 0  # noqa: PTH112
            found[os.fsdecode(path)] = (status.st_mode, size, content)
    return found


def differences(before: dict[str, tuple[Any, ...]], after: dict[str, tuple[Any, ...]]) -> list[str]:
    """What was lost, changed or added, in words."""
    lost = [f"lost {name!r}" for name in before.keys() - after.keys()]
    added = [f"added {name!r}" for name in after.keys() - before.keys()]
    changed = [f"changed {name!r}" for name in before.keys() & after.keys() if before[name] != after[name]]
    return sorted(lost + changed + added)


NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 256, 4000, 65536, 2**31, 2**63, -(2**63), 10**9, 10**30, 10**400,
    0.0, -0.0, 0.3, 0.5, 1.0, 1.5, -3.2, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"),
    "", " ", "x", "0", "1", "-1", "0.3", "1e9", "nan", "inf", "none", "None", "true", "auto", "adaptive", "positive", "cpu",
    "cuda", "sise", "rise", "gradcam", "imagenet", "rgb", "bgr", "gray", "ant", "not:ant", "not:", "\0", "a\0b", "\x1b[31mred",
    "\ud800", "\udcff", "\u202egnp", "👩‍🔬", "猫", "../x", "/", ".", "..", "~", "%s%n", "{0}", "[red]", "a" * 10_000, "é" * 300,
    "con", "nul.txt", "-o", "--help", "a/b", "a\\b", "a\nb", "32x48", "0x0", "100000x100000", "1e3", "-1x-1",
    b"", b"\xff\xfe", b"x" * 1000, [], [0], [0, 1], ["ant"], ["ant", "ant"], [None], [[]], (), (1,), (1, 2, 3), (0, 0, 0),
    (127.5, 127.5, 127.5), {}, {"a": 1}, {"use_tf32": 0}, set(), object(), Exception("x"), 1j, range(3), iter([]), len, int,
    np.float32(0.5), np.int64(3), np.nan, np.array(3), np.zeros(3), np.array([]), Path("x"), Path("/dev/null"),
]  # fmt: skip
"""Values that somebody once passes, or that a fault makes."""
