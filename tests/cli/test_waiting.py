"""What commands say about how long they will take: with clocks that tests set, and paces that they know."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from rich.console import Console
from tiny import tiny_model

import sise_ort
from sise_ort.cli import console
from sise_ort.cli.main import main
from sise_ort.cli.waiting import Waiting, about, sentence, watched
from sise_ort.estimate import Estimate
from sise_ort.runtime.pace import Pace


class Watch:
    """A clock that stands still until it is moved."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "under 1 s"), (0.99, "under 1 s"), (1.0, "about 1 s"), (74.6, "about 75 s"), (99.4, "about 99 s"),
        (99.6, "about 2 min"), (3600, "about 60 min"), (5900, "about 98 min"), (6000, "about 2 h"), (1e6, "about 278 h"),
    ],
)  # fmt: skip
def test_times_in_words(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_the_sentence_names_masks_time_and_the_budget_that_shortens_it() -> None:
    estimate = Estimate(1904, "masks", 75.2, 1.1, 64, 3.9)
    assert sentence(estimate) == "1,904 masks take about 75 s (with --passes 64: about 4 s)"
    assert sentence(estimate, 20) == (
        "1,904 masks take about 75 s, 20 pictures about 25 min (with --passes 64: about 4 s, 20 pictures about 78 s)"
    )
    assert sentence(Estimate(800, "iterations", 60.0, 1.1, 0, 60.0)) == "800 iterations take about 60 s"


def test_a_long_run_is_announced_once(capsys: pytest.CaptureFixture[str]) -> None:
    short, long = Estimate(9, "masks", 4.9, 0.1, 0, 4.9), Estimate(90, "masks", 49.0, 0.1, 64, 7.0)
    waiting = Waiting(1)
    with waiting.picture("[1/1] a.png"):
        waiting.expect(short)
    assert capsys.readouterr().err == ""
    waiting = Waiting(3)
    for title in ("[1/3] a.png", "[2/3] b.png", "[3/3] c.png"):
        with waiting.picture(title):
            waiting.expect(short if title.startswith("[1") else long)
    # three short ones are long together
    assert capsys.readouterr().err == "[1/3] a.png: 9 masks take about 5 s, 3 pictures about 15 s\n"
    waiting = Waiting(1, quiet=True)
    with waiting.picture("a"):
        waiting.expect(long)
    assert capsys.readouterr().err == ""


def test_the_time_left_is_that_of_all_pictures() -> None:
    watch = Watch()
    waiting = Waiting(4, clock=watch)
    assert waiting.left() is None
    with waiting.picture("a"):
        watch.now += 10
        waiting(50, 100)
        assert waiting.left() == pytest.approx(70)  # an eighth took 10 s
        watch.now += 10
        waiting(100, 100)
        waiting(2, 100)  # the next picture begins before this one is handed out
        assert waiting.left() == pytest.approx(60)
    with waiting.picture("b"):
        watch.now += 20
        waiting(60, 60)
        assert waiting.left() == pytest.approx(40)


def test_a_bar_shows_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    file, watch = io.StringIO(), Watch()
    terminal = Console(file=file, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(console, "errors", terminal)
    waiting = Waiting(2, clock=watch)
    with waiting.picture("[1/2] a.png"):
        watch.now += 100
        waiting(10, 100)
    shown = file.getvalue()
    assert "[1/2] a.png" in shown and "10/100 0:31:40 left" in shown
    assert console.clock(None) == "-:--:--" and console.clock(3725.4) == "1:02:05"


def test_counted_work_is_announced_and_followed(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    with watched("samples", after=2, clock=watch) as progress:
        for done in range(1, 31):
            watch.now += 9
            progress(done, 30)
    assert capsys.readouterr().err.splitlines() == [
        "30 samples take about 4 min",
        "7 of 30 samples, about 3 min left",
        "14 of 30 samples, about 2 min left",
        "21 of 30 samples, about 81 s left",
        "28 of 30 samples, about 18 s left",
        "30 of 30 samples",
    ]
    for quiet, step in ((True, 9.0), (False, 0.1)):
        with watched("rounds", quiet=quiet, clock=watch) as progress:
            for done in range(1, 7):
                watch.now += step
                progress(done, 6)
    assert capsys.readouterr().err == ""


# Commands -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with more masks than a budget of 64 passes scores."""
    folder = tmp_path_factory.mktemp("wide")
    onnx.save(tiny_model(seed=3, width=12), folder / "tiny.onnx")
    sise_ort.export(folder / "tiny.onnx", folder / "tiny.sise", normalize="tf")
    return folder / "tiny.sise"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step seems to take half a second."""
    typical = Pace.typical

    def told(self: Pace, kind: str, otherwise: float) -> float:
        return 0.5 if kind.startswith("step of ") else typical(self, kind, otherwise)

    monkeypatch.setattr(Pace, "typical", told)


@pytest.fixture
def pictures(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    found = [tmp_path / f"{name}.png" for name in "ab"]
    for path in found:
        cv2.imwrite(str(path), rng.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    return found


def explain(bundle: Path, pictures: list[Path], *words: Any) -> Any:
    arguments = ["explain", bundle, *pictures, "-o", pictures[0].parent / "out", "--provider", "cpu", *words]
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.usefixtures("slow")
def test_explain_says_how_long_a_long_run_takes(wide: Path, pictures: list[Path]) -> None:
    done = explain(wide, pictures[:1])
    (said,) = [line for line in done.stderr.splitlines() if "take about" in line]
    title, _, words = said.partition(": ")
    assert title == f"[1/1] {pictures[0]}"
    masks = int(words.split()[0])
    assert masks > 64 and f"({masks} masks" in done.stderr
    assert re.fullmatch(rf"{masks} masks take about \d+ (s|min) \(with --passes 64: about \d+ s\)", words)
    rise = explain(wide, pictures, "--method", "rise", "--set", "masks=30").stderr
    assert rise.count("take about") == 1
    assert re.search(r"a\.png: 30 masks take about \d+ s, 2 pictures about \d+ s\n", rise)


@pytest.mark.usefixtures("slow")
def test_budgets_get_no_advice_and_json_no_estimate(wide: Path, pictures: list[Path]) -> None:
    assert re.search(r"60 masks take about \d+ s\n", explain(wide, pictures[:1], "--passes", 60).stderr)
    for words in (["--deadline-ms", 60_000], ["--passes", 60, "--tolerance", 0.001], ["--method", "gradcam"]):
        assert "take about" not in explain(wide, pictures[:1], *words).stderr
    assert "take about" not in explain(wide, pictures, "--json").stderr


def test_bench_says_how_long_it_takes(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sise_ort.cli.waiting.LONG", 0.0)
    done = CliRunner().invoke(main, ["bench", str(tiny_bundle), "--provider", "cpu", "--rounds", "2"])
    assert done.exit_code == 0, done.output
    assert "3 rounds of all batch sizes take " in done.stderr
    done = CliRunner().invoke(
        main, ["bench", str(tiny_bundle), "--provider", "cpu", "--rounds", "2", "--json"]
    )
    assert "rounds" not in done.stderr
