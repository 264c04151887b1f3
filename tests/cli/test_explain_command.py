"""sise-ort explain: one bad picture, name or size never stops the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from sise_ort.cli.main import main
from sise_ort.errors import OutputError
from sise_ort.explanation import Explanation


def explain(bundle: Path, *arguments: object) -> Result:
    words = ["explain", bundle, *arguments, "--provider", "cpu", "--mu", "0.9", "--json"]
    return CliRunner().invoke(main, [str(word) for word in words])


def png(path: Path, picture: Any) -> Path:
    done, data = cv2.imencode(".png", picture)
    assert done
    path.write_bytes(data.tobytes())
    return path


def good_and_bad(folder: Path, frame: Any, rng: np.random.Generator) -> tuple[list[Path], list[Path]]:
    good = [
        png(folder / "tall.png", rng.integers(0, 256, (4000, 1, 3), dtype=np.uint8)),
        png(folder / "taller.png", rng.integers(0, 256, (10_000, 1), dtype=np.uint8)),
        png(folder / "wide.png", rng.integers(0, 256, (1, 4000, 3), dtype=np.uint8)),
        png(folder / "one.png", rng.integers(0, 256, (1, 1, 3), dtype=np.uint8)),
        png(folder / "clear.png", np.dstack([frame, frame[:, :, 0]])),
        png(folder / "\x1b[31mred\n.png", frame),
        png(folder / "\udcff.png", frame),
        png(folder / ("n" * 250 + ".png"), frame),
    ]
    bad = [
        folder / name
        for name in ("folder", "pipe", "none.png", "a\udcfe.png", "cut.png", "text.png", "deep.png")
    ]
    bad[0].mkdir()
    os.mkfifo(bad[1])
    bad[4].write_bytes(good[0].read_bytes()[:-20])
    bad[5].write_text("no picture")
    png(bad[6], frame.astype(np.uint16) * 16)
    return good, bad


def test_bad_pictures_do_not_stop_the_others(
    tiny_bundle: Path, frame: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    good, bad = good_and_bad(tmp_path, frame, rng)
    mixed = [path for pair in zip(good, [*bad, bad[0]], strict=True) for path in pair]
    done = explain(tiny_bundle, *mixed, "-o", tmp_path / "out")
    assert done.exit_code == 1, done.output
    assert done.stderr.count(": failed: ") == 8
    assert "8 of 16 pictures could not be explained or saved" in done.stderr
    assert "\x1b" not in done.stderr and "\udcfe" not in done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["source"] for r in records] == [str(p) for p in good]
    assert all(Path(f).is_file() for r in records for f in r["files"])
    assert "transparent pixels" in records[4]["notes"][-1]


def test_a_result_that_cannot_be_saved_does_not_stop_the_others(
    tiny_bundle: Path, frame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [png(tmp_path / f"{name}.png", frame) for name in "abc"]
    save = Explanation.save

    def failing(self: Explanation, *arguments: Any, **options: Any) -> list[Path]:
        if self.source.endswith("b.png"):
            raise OutputError("cannot write 'b.png': No space left on device")
        return save(self, *arguments, **options)

    monkeypatch.setattr(Explanation, "save", failing)
    done = explain(tiny_bundle, *pictures, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "b.png: failed: cannot write 'b.png': No space left on device" in done.stderr
    assert "1 of 3 pictures could not be explained or saved" in done.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png"]
    assert len(done.stdout.splitlines()) == 2


def test_levels_on_the_command_line(tiny_bundle: Path, frame: Any, tmp_path: Path) -> None:
    deep = png(tmp_path / "deep.png", frame[:, :, ::-1].astype(np.uint16) * 16)
    done = explain(tiny_bundle, deep, "-o", tmp_path / "out")
    assert done.exit_code == 1 and "--levels 4095" in done.stderr
    for words, expected in (("4080", [0, 4080]), ("100,3000", [100, 3000])):
        done = explain(tiny_bundle, deep, "-o", tmp_path / "out", "--levels", words)
        assert done.exit_code == 0, done.output
        record = json.loads(done.stdout)
        assert record["levels"] == expected
        assert any(
            note.startswith(f"pixel values {expected[0]} to {expected[1]}") for note in record["notes"]
        )
    for words in ("a", "3,2", "1,2,3", "-1", "nan", ""):
        done = explain(tiny_bundle, deep, "-o", tmp_path / "out", "--levels", words)
        assert done.exit_code == 2 and "--levels" in done.stderr, words


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_an_output_folder_that_cannot_be_is_refused_at_once(
    make: Any, tiny_bundle: Path, frame: Any, tmp_path: Path
) -> None:
    make(tmp_path / "out")
    done = explain(tiny_bundle, png(tmp_path / "a.png", frame), "-o", tmp_path / "out")
    assert done.exit_code == 1 and done.stderr.count("cannot write into") == 1 and done.stdout == ""


def test_checks_are_said_recorded_and_drawn(tiny_bundle: Path, frame: Any, tmp_path: Path) -> None:
    picture = png(tmp_path / "a.png", frame)
    mask = png(tmp_path / "mask.png", np.full(frame.shape[:2], 255, np.uint8))
    plain = explain(tiny_bundle, picture, "-o", tmp_path / "plain")
    done = explain(tiny_bundle, picture, "-o", tmp_path / "out", "--checks", "--part-mask", mask)
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["trust"] in ("sound", "weak", "none") and verdict["checks"]["off_part"] == 0
    assert f"{verdict['trust']}: {verdict['reason']}" in done.stderr
    assert json.loads(plain.stdout)["verdict"] is None
    heights = [cv2.imread(str(tmp_path / folder / "a.png")).shape[0] for folder in ("plain", "out")]
    assert heights[1] > heights[0]  # a bar for the verdict
    alone = explain(tiny_bundle, picture, "-o", tmp_path / "no", "--part-mask", mask)
    assert alone.exit_code == 2 and "--part-mask needs --checks" in alone.output
    small = png(tmp_path / "small.png", np.full((3, 4), 255, np.uint8))
    unfit = explain(tiny_bundle, picture, "-o", tmp_path / "no", "--checks", "--part-mask", small)
    assert unfit.exit_code == 1 and "--part-mask is 3 × 4" in unfit.stderr
