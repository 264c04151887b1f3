"""Command lines: options with any value, contradictions, missing parts; no HOME, no TERM, closed and full streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from fuzzing.cases import NASTY, Place, Wrong, case, judge_command
from fuzzing.names import NAMES
from fuzzing.pictures import copy

AREA = "commands"
VALUES = [str(v) for v in NASTY if isinstance(v, (str, int, float)) and len(str(v)) < 300] + [
    "a=b",
    "masks=10",
    "mu=0.5",
    "rise.masks=9",
]
VALUES = [
    v.encode("utf-8", "surrogateescape" if "\udcff" in v else "replace").decode("utf-8", "surrogateescape")
    for v in VALUES
]


def options(place: Place, command: str, most: int = 3) -> list[str]:
    """A few of a command's options with any values."""
    import importlib

    found: click.Command = importlib.import_module(f"sise_ort.cli.{command}").command
    known = [
        p
        for p in found.params
        if isinstance(p, click.Option)
        and p.name not in ("folder", "bundle", "workers", "weights", "calibration")
    ]
    words: list[str] = []
    for option in place.rng.sample(known, min(len(known), place.rng.randint(0, most))):
        words.append(place.rng.choice(option.opts))
        if not option.is_flag:
            words += [value(place, option) for _ in range(max(option.nargs, 1))]
    if place.rng.random() < 0.1:
        words.append(place.rng.choice(("--nothing", "-x", "--help", "--", "-", "@file", *VALUES)))
    return words


def value(place: Place, option: click.Option) -> str:
    if isinstance(option.type, click.Choice) and place.rng.random() < 0.7:
        return str(place.rng.choice(list(option.type.choices)))
    return place.rng.choice(VALUES)


@case(AREA, 3)
def explain(place: Place) -> None:
    picture = copy(place, "strip.png")
    place.freeze()
    place.command(
        "explain", place.samples / "tiny.sise", picture, "-o", place.out / "o", *options(place, "explain")
    )


@case(AREA, 2)
def export(place: Place) -> None:
    place.command(
        "export",
        place.samples / "tiny.onnx",
        "-o",
        place.out / "m.sise",
        *place.rng.choice(([], ["--normalize", "tf"])),
        *options(place, "export"),
    )


@case(AREA, 1)
def layers(place: Place) -> None:
    place.command("layers", place.samples / "tiny.onnx", *options(place, "layers"))


@case(AREA, 1)
def bench(place: Place) -> None:
    place.command("bench", place.samples / "tiny.sise", "--rounds", "1", *options(place, "bench", 1))


@case(AREA, 1)
def evaluate(place: Place) -> None:
    place.command(
        "evaluate", place.samples / "tiny.sise", "--dataset", "folder", place.samples / "dataset", "-o", place.out / "e",
        "--limit", "1", "--steps", "4", "--provider", "cpu", *options(place, "evaluate", 2),
    )  # fmt: skip


@case(AREA, 1)
def words(place: Place) -> None:
    """Words in any order."""
    pool = [
        "export",
        "explain",
        "layers",
        "bench",
        "doctor",
        "evaluate",
        "-o",
        "--help",
        "--version",
        "--json",
        *VALUES,
        *NAMES[:40],
    ]
    chosen = [place.rng.choice(pool) for _ in range(place.rng.randint(0, 4))]
    place.command(*(w for w in chosen if w != "demo"))


@case(AREA, 1)
def surroundings(place: Place) -> None:
    """A process without HOME, TERM or locale, with closed, full or unread streams."""
    picture = copy(
        place,
        os.fsdecode(place.rng.choice((b"strip.png", b"caf\xe9.png", b"\x1b[31m.png", "猫.png".encode()))),
    )
    place.freeze()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    for name, values in {
        "LC_ALL": ("C", "C.UTF-8", "nothing"), "HOME": (str(place.out / "home"), "/dev/null", ""), "TERM": ("dumb", "", "xterm"),
        "PYTHONIOENCODING": ("ascii", "latin-1"), "COLUMNS": ("1", "0", "x"), "SISE_ORT_CACHE": ("/dev/null/x", str(place.out / "cache")),
        "PYTHONUTF8": ("0", "1"), "XDG_CACHE_HOME": ("/dev/null/x",), "TMPDIR": ("/nonexistent",),
    }.items():  # fmt: skip
        if place.rng.random() < 0.5:
            environment[name] = place.rng.choice(values)
    command = place.rng.choice(
        (
            ["explain", str(place.samples / "tiny.sise"), str(picture), "-o", str(place.out / "o"), "--json"],
            ["layers", str(place.samples / "tiny.onnx")], ["doctor"], ["--help"], ["explain", "--help"], ["bench", "nothing.sise"],
        )
    )  # fmt: skip
    closed = [d for d in (0, 1, 2) if place.rng.random() < 0.2]
    stdout: Any = subprocess.PIPE
    full = place.rng.random() < 0.15
    if full:
        stdout = Path("/dev/full").open("w")  # noqa: SIM115
    done = subprocess.run(
        [sys.executable, "-m", "sise_ort.cli.main", *command], env=environment, stdout=stdout, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, check=False, preexec_fn=lambda: [os.close(d) for d in closed],
    )  # fmt: skip
    errors = done.stderr.decode(errors="backslashreplace")
    if closed or full:
        if done.returncode not in (0, 1, 2) or "Traceback" in errors:
            raise Wrong(f"exit code {done.returncode}: {errors}")
        return
    judge_command(done.returncode, (done.stdout or b"").decode(errors="replace"), errors)
