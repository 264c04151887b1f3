"""`sise-ort watch`: every picture once, whatever ends the process; it stops in order; its options are read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from sise_ort.cli.main import main
from sise_ort.line.evidence import Evidence
from sise_ort.line.evidence.finding import find

COMMAND = [sys.executable, "-c", "from sise_ort.cli.main import main; main()", "watch"]


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["watch", *words, "--provider", "cpu", "--threads", "1"])


def strips(folder: Path, count: int, first: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(first, first + count):
        small = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i:03}.png.part.png"), cv2.resize(small, (48, 32)))
        (folder / f"{i:03}.png.part.png").rename(folder / f"{i:03}.png")


def recorded(folder: Path) -> list[str]:
    with Evidence(folder, create=False) as evidence:
        return sorted(kept.part.part_id for kept in find(evidence))


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *words, "--provider", "cpu", "--threads", "1"], stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"{words!r} was not said")


def test_a_folder_is_watched_once_and_again(sigmoid_bundle: Path, tmp_path: Path) -> None:
    source, evidence = tmp_path / "in", tmp_path / "evidence"
    strips(source, 3)
    (source / "bad.png").write_bytes(b"no picture")
    words = [str(source), str(sigmoid_bundle), "-o", str(evidence), "--once", "--settle-ms", "100", "--json"]
    result = call(*words, "--checks", "--set", "passes=8", "--grid", "1x2", "--zone", "edge=0,0,32,4")
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(row["part_id"] for row in rows) == ["000", "001", "002", "bad"]
    with Evidence(evidence, create=False) as store:
        records = {kept.part.part_id: kept.part for kept in find(store)}
        assert store.heads()["line"].link in {row["record"] for row in rows}
    assert records["bad"].decision == "failed" and records["bad"].picture is not None
    assert {f.role for f in records["bad"].files} == {"frame"}
    for part in (p for p in records.values() if p.decision == "rejected"):
        first = part.explanations[0]
        assert part.trust in ("sound", "weak", "none") and first.verdict.reason
        assert first.zones["row 1, column 1"] + first.zones["row 1, column 2"] == pytest.approx(1)
        assert 0 <= first.zones["edge"] <= first.zones["row 1, column 1"]
        assert {"frame", "map-1", "overlay-1"} <= {f.role for f in part.files}
        assert part.meta == {"file": f"{part.part_id}.png"}
    assert any(p.decision == "rejected" for p in records.values())
    strips(source, 1, first=3)
    again = call(*words)
    assert [json.loads(line)["part_id"] for line in again.stdout.splitlines()] == ["003"]


def test_pictures_move_when_their_records_are_safe(sigmoid_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    strips(source, 2)
    (source / "bad.png").write_bytes(b"no picture")
    # the evidence lies in the watched folder: its files are no pictures to watch
    words = [str(source), str(sigmoid_bundle), "-o", str(source / "evidence"), "--once", "--settle-ms", "100"]
    for _ in range(2):
        result = call(*words, "--after", "move", "--set", "passes=0")
        assert result.exit_code == 0, result.stderr
    assert sorted(p.name for p in (source / "done").iterdir()) == ["000.png", "001.png"]
    assert [p.name for p in (source / "quarantined").iterdir()] == ["bad.png"]
    assert recorded(source / "evidence") == ["000", "001", "bad"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals")
def test_after_a_kill_nothing_is_lost_and_nothing_twice(sigmoid_bundle: Path, tmp_path: Path) -> None:
    source, evidence = tmp_path / "in", tmp_path / "evidence"
    strips(source, 8)
    words = [str(source), str(sigmoid_bundle), "-o", str(evidence), "--settle-ms", "100", "--set", "passes=0"]
    with running(*words, "--json", "--after", "move") as process:
        deadline = time.monotonic() + 60
        while not (source / "done").is_dir() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    result = call(*words, "--once", "--after", "move")
    assert result.exit_code == 0, result.stderr
    assert recorded(evidence) == [f"{i:03}" for i in range(8)]
    assert len(list((source / "done").iterdir())) == 8
    assert not list(source.glob("*.png"))


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_sigterm_ends_it_after_what_it_has_begun(sigmoid_bundle: Path, tmp_path: Path) -> None:
    source, evidence = tmp_path / "in", tmp_path / "evidence"
    source.mkdir()
    with running(str(source), str(sigmoid_bundle), "-o", str(evidence), "--settle-ms", "100") as process:
        until(process, "watches the folder")
        strips(source, 2)
        deadline = time.monotonic() + 60
        while (
            not (evidence / "evidence.db").exists() or not recorded(evidence)
        ) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert "its head is" in said
    assert recorded(evidence)[:1] == ["000"]


def test_paths_on_standard_input(
    sigmoid_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strips(tmp_path / "in", 2)
    lines = "".join(f"{tmp_path / 'in' / name}\n" for name in ("000.png", "001.png", "none.png", "000.png"))
    words = [
        "watch",
        "-",
        str(sigmoid_bundle),
        "-o",
        str(tmp_path / "evidence"),
        "--provider",
        "cpu",
        "--json",
    ]
    result = CliRunner().invoke(main, [*words, "--set", "passes=0"], input=lines)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(row["part_id"]).name for row in rows if row["decision"] == "failed"] == ["none"]
    assert [Path(name).name for name in recorded(tmp_path / "evidence")] == ["000", "001", "none"]


def test_a_video_goes_on_where_it_was(sigmoid_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "strip.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))  # type: ignore[attr-defined]
    for i in range(6):
        video.write(np.full((32, 48, 3), 40 * i, np.uint8))
    video.release()
    words = [
        str(path),
        str(sigmoid_bundle),
        "-o",
        str(tmp_path / "evidence"),
        "--set",
        "passes=0",
        "--every",
        "2",
    ]
    for _ in range(2):
        result = call(*words)
        assert result.exit_code == 0, result.stderr
    assert recorded(tmp_path / "evidence") == ["strip-000000", "strip-000002", "strip-000004"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "2by8"], "--grid"),
        (["--zone", "a=1,2,3"], "--zone"),
        (["--webhook", "ftp://host"], "--webhook"),
        (["--mqtt", "mqtt://host/a/#"], "--mqtt"),
        (["--metrics", "many"], "--metrics"),
        (["--part-mask", __file__], "--part-mask needs --checks"),
        (["--into", "x"], "--after move"),
        (["--class", "none of them"], "none of them"),
        (["--line", "a\tb"], "name is"),
        (["--webhook", "http://a", "--webhook", "http://b"], "same name"),
    ],
)
def test_wrong_words_are_refused(
    sigmoid_bundle: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "in").mkdir()
    given = [str(tmp_path / "in"), str(sigmoid_bundle), "-o", str(tmp_path / "evidence"), "--once", *words]
    result = call(*given)
    assert result.exit_code in (1, 2) and message in result.stderr, result.stderr


def test_a_source_that_is_none(sigmoid_bundle: Path, tmp_path: Path) -> None:
    result: Any = call(str(tmp_path / "missing"), str(sigmoid_bundle), "-o", str(tmp_path / "evidence"))
    assert result.exit_code == 2 and "neither a folder" in result.stderr
