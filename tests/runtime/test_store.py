"""The rows of an evaluation on disk: kept through kills, torn files, full disks and second processes."""

from __future__ import annotations

import math
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sise_ort.datasets import Problem
from sise_ort.errors import OutputError, ParameterError
from sise_ort.runtime.evaluation.lock import LOCK
from sise_ort.runtime.evaluation.store import DATABASE, OUTPUTS, Row, Store

SETTINGS = {"the bundle": "b1", "the data set": "d1", "metrics": ["ebpg", "drop"], "steps": 8}
VARIANTS = {"sise mu=0": {"mu": 0.0, "passes": None}, "rise": {"masks": 40}}


def row(sample: str = "a", variant: str = "rise", **more: Any) -> Row:
    return {
        "sample": sample, "variant": variant, "label": "ant", "target": 3, "confidence": 0.25, "ebpg": 0.1,
        "drop": math.nan, "tied": 0.0, "forward_passes": 40, "backward_passes": 0, "seconds": 0.5,
        "conditions": "cpu", "notes": "", **more,
    }  # fmt: skip


def opened(folder: Path, write: bool = True, **more: Any) -> Store:
    return Store(folder, {**SETTINGS, **more}, VARIANTS, write=write)


def filled(folder: Path, count: int = 3) -> list[Row]:
    """A store with `count` samples of two rows each, closed; returns its rows."""
    with opened(folder) as store:
        for i in range(count):
            rows = [row(f"s{i:03}", variant, ebpg=i / 7) for variant in VARIANTS]
            store.keep(f"s{i:03}", rows, [Problem("f", i, "m")], [[i, i, "x"]])
        return store.rows()


def same(one: list[Row], other: list[Row]) -> bool:
    return repr(one) == repr(other)  # NaN is NaN


TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(TEXT, TEXT, TEXT, FLOAT, FLOAT, st.integers(0, 2**40))
def test_rows_come_back_as_they_were(
    tmp_path: Path, sample: str, label: str, notes: str, ebpg: float, seconds: float, target: int
) -> None:
    """Any text, lone surrogates and NUL included, and any number."""
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    given_row = row(sample, label=label, notes=notes, ebpg=ebpg, seconds=seconds, target=target)
    with opened(tmp_path / "out") as store:
        store.keep(sample, [given_row], [Problem(label, 3, notes)], [[1, 2, "x"]])
    with opened(tmp_path / "out", write=False) as store:
        (found,) = store.rows()
        assert store.problems() == {sample: [Problem(label, 3, notes)]}
        assert store.files() == {sample: [[1, 2, "x"]]}
    expected = {k: v + 0.0 if isinstance(v, float) else v for k, v in given_row.items()}  # no -0.0
    assert same([found], [expected])


def test_a_row_is_there_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.keep("a", [row(ebpg=0.1)], [Problem("a", 0, "old")], [])
        store.keep("a", [row(ebpg=0.2)], [], [])
        assert [r["ebpg"] for r in store.rows()] == [0.2] and store.problems() == {}


def test_a_closed_store_is_one_plain_file(tmp_path: Path) -> None:
    filled(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("the bundle", "b2", "the bundle has changed since .another network, or an export with another fit"),
        ("the data set", "d2", "the data set has changed since .other pictures, annotations or options"),
        ("steps", 9, "steps was 8 and is now 9"),
        ("metrics", ["ebpg"], 'metrics was \\["ebpg", "drop"\\] and is now \\["ebpg"\\]'),
        ("a new setting", 1, "a new setting was null and is now 1"),
    ],
)
@pytest.mark.parametrize("write", [True, False])
def test_other_settings_are_refused(tmp_path: Path, name: str, value: Any, words: str, write: bool) -> None:
    filled(tmp_path)
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(ParameterError, match=words):
        opened(tmp_path, write, **{name: value})
    assert (tmp_path / DATABASE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


def test_other_parameters_of_the_same_variant_are_refused(tmp_path: Path) -> None:
    """Such as a default that has changed between two versions."""
    filled(tmp_path)
    with pytest.raises(ParameterError, match="masks of rise was 40 and is now 50"):
        Store(tmp_path, SETTINGS, {"rise": {"masks": 50}})
    with Store(tmp_path, SETTINGS, {"gradcam": {}}) as store:
        assert len(store.rows()) == 6


def test_a_refusal_makes_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        opened(tmp_path / "file" / "out")
    with pytest.raises(OutputError):
        opened(tmp_path / "a\0b")
    with pytest.raises(OutputError, match="cannot write to"):
        opened(tmp_path / ("n" * 300))
    with opened(tmp_path / "nothing", write=False) as store:
        assert store.rows() == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.9999])
def test_a_torn_database_is_refused_and_left_as_it_is(tmp_path: Path, share: float) -> None:
    filled(tmp_path, 60)
    (tmp_path / "rows.csv").write_text("sample\n")
    path = tmp_path / DATABASE
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    before = path.read_bytes()
    for write in (True, False):
        with pytest.raises(
            OutputError, match=r"is damaged .* was not changed: choose another folder with folder="
        ):
            opened(tmp_path, write)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [DATABASE, "rows.csv"]


def test_no_damaged_byte_passes_for_a_result(tmp_path: Path) -> None:
    """Bytes overwritten anywhere: an error, or the very rows that were written."""
    rows = filled(tmp_path / "whole", 150)
    content = (tmp_path / "whole" / DATABASE).read_bytes()
    dice = random.Random(0)
    refused = 0
    for case in range(60):
        folder = tmp_path / str(case)
        folder.mkdir()
        damaged = bytearray(content)
        start = dice.randrange(len(content))
        damaged[start : start + 40] = dice.randbytes(len(damaged[start : start + 40]))
        (folder / DATABASE).write_bytes(damaged)
        try:
            with opened(folder, write=False) as store:
                assert same(store.rows(), rows)
        except (OutputError, ParameterError):
            refused += 1
    assert refused > 20


def test_other_databases_stay(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / DATABASE)
    base.execute("CREATE TABLE rows (mine TEXT)")
    base.commit()
    base.close()
    with pytest.raises(ParameterError, match="is no evaluation of sise-ort"):
        opened(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"a text file\n" * 100)
    with pytest.raises(OutputError, match="is damaged"):
        opened(tmp_path)
    assert (tmp_path / DATABASE).read_bytes() == b"a text file\n" * 100


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    base = sqlite3.connect(tmp_path / DATABASE)
    base.execute("PRAGMA user_version = 99")
    base.close()
    with pytest.raises(ParameterError, match="written by a newer sise-ort"):
        opened(tmp_path)


@pytest.mark.parametrize("name", OUTPUTS)
def test_files_of_others_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(ParameterError, match=f"has {name} but no {DATABASE}"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


# Two processes, and the end of one --------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store import opened, row
store = opened(Path(sys.argv[1]))
print("open", flush=True)
number = len(store.rows())
while True:
    store.keep(f"s{number:06}", [row(f"s{number:06}", ebpg=float(number))], [], [])
    print(number, flush=True)
    number += 1
"""


def writer(folder: Path) -> subprocess.Popen[str]:
    """A process that keeps row after row and says which ones it has kept."""
    command = [sys.executable, "-c", WRITER, str(folder), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    return process


def test_two_at_once(tmp_path: Path) -> None:
    """The second writer hears who holds the folder; a reader reads; when the first is killed the folder is free."""
    process = writer(tmp_path)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(OutputError, match=rf"another evaluation \(process {process.pid}\) is writing to"):
            opened(tmp_path)
        with opened(tmp_path, write=False) as store:
            first = len(store.rows())
            assert first >= 1
    finally:
        process.kill()
        process.communicate()
    with opened(tmp_path) as store:
        assert len(store.rows()) >= first
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Every row that was said to be kept is there, none twice, none half; the next process goes on."""
    dice = random.Random(1)
    kept = -1
    for _ in range(6):
        process = writer(tmp_path)
        time.sleep(dice.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        lines = [int(line) for line in out.splitlines() if line.isdigit()]
        kept = max([kept, *lines])
        with opened(tmp_path, write=False) as store:
            rows = store.rows()
        assert [r["ebpg"] for r in rows] == [float(i) for i in range(len(rows))]
        assert len(rows) in (kept + 1, kept + 2)  # the last one may be kept and not be said to be
    assert kept > 5


def test_killed_while_it_is_made(tmp_path: Path) -> None:
    """A database without its first transaction is as none."""
    base = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    base.execute("PRAGMA journal_mode = WAL")
    base.close()
    (tmp_path / LOCK).write_text("123\n")
    (tmp_path / ".sise-ort-0123456789abcdef.part").write_text("left by a killed run")
    assert len(filled(tmp_path)) == 6
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


def limited(size: int) -> None:
    """In this process files may not grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 300 kB, where the machine lets us mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or os.geteuid()
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    out = small_disk / "out"
    number = 0
    with (
        pytest.raises(OutputError, match="what was found before is kept, start again to go on"),
        opened(out) as store,
    ):
        while True:
            store.keep(f"s{number:06}", [row(f"s{number:06}", notes="x" * 3000, ebpg=float(number))], [], [])
            number += 1
    assert number > 5
    with opened(out, write=False) as store:
        assert [r["ebpg"] for r in store.rows()] == [float(i) for i in range(number)]
    (small_disk / "filler").write_bytes(b"")
    with pytest.raises(OutputError), opened(out) as store:  # still full: an error again, and nothing lost
        while True:
            store.keep("more", [row("more", notes="x" * 300_000)], [], [])
    with opened(out, write=False) as store:
        assert len(store.rows()) == number


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    number = 0
    try:
        with pytest.raises(OutputError, match="is kept, start again"), opened(tmp_path) as store:
            limited(200_000)
            while True:
                store.keep(f"s{number:06}", [row(f"s{number:06}", notes="x" * 3000)], [], [])
                number += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with opened(tmp_path) as store:
        assert len(store.rows()) == number > 5
        store.keep("more", [row("more")], [], [])
        assert len(store.rows()) == number + 1


def test_a_read_only_folder(small_disk: Path) -> None:
    rows = filled(small_disk / "out")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match="cannot write to"):
        opened(small_disk / "out")
    with pytest.raises(OutputError, match="cannot write to"):
        opened(small_disk / "new")
    with opened(small_disk / "out", write=False) as store:
        assert same(store.rows(), rows)


@pytest.mark.parametrize("write", [True, False])
def test_a_transaction_that_a_killed_writer_left_is_undone(tmp_path: Path, write: bool) -> None:
    """Without WAL, as while the journal's mode changes, SQLite leaves a journal that must be played back."""
    with opened(tmp_path / "a") as store:
        store.keep("s1", [row("s1")], [], [])
        expected = store.rows()
    base = sqlite3.connect(tmp_path / "a" / DATABASE, isolation_level=None)
    base.execute("PRAGMA cache_size = 1")
    base.execute("BEGIN IMMEDIATE")
    for number in range(200):
        base.execute("INSERT INTO samples VALUES (?, ?)", (f"torn{number}", "x" * 4000))
    (tmp_path / "b").mkdir()
    for name in (DATABASE, f"{DATABASE}-journal"):  # as a kill at this moment leaves them
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    base.execute("ROLLBACK")
    base.close()
    with opened(tmp_path / "b", write=write) as store:
        assert store.rows() == expected and list(store.files()) == ["s1"]
