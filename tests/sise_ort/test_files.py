"""Names that are safe everywhere, and files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sise_ort.errors import OutputError
from sise_ort.files import LEFTOVER, file_name, new_file, remove_leftovers, write_file


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("strip 7", "strip-7"),
        ("a/b\\c:d", "a-b-c-d"),
        ("../x", "x"),
        ("..", "frame"),
        ("", "frame"),
        ("☃", "frame"),
        ("-1", "1"),
        ("x.tar.gz", "x.tar.gz"),
        ("缺陷 हिन्दी", "缺陷-हिन्दी"),
        ("a\0b\x1b[31mc\ud800d", "a-b-31mc-d"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        (unicodedata.normalize("NFD", "é"), "é"),
    ],
)
def test_safe_names(words: str, name: str) -> None:
    assert file_name(words) == name


@pytest.mark.parametrize("letter", ["a", "é", "缺", "𝒳"])
def test_long_names_keep_their_ends_and_stay_distinct(letter: str) -> None:
    names = [
        file_name(f"front{letter * n}{middle}{letter * n}-back") for n in (300, 10_000) for middle in "xy"
    ]
    assert len(set(names)) == 4
    for name in names:
        assert len(name.encode()) <= 231
        assert name.startswith("front") and name.endswith("-back")


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"
    assert write_file(path, b"one") == path
    write_file(path, b"two", lasting=False)
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_links_are_replaced_and_never_followed(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("precious")
    (tmp_path / "a.json").symlink_to(foreign)
    (tmp_path / "a.json.part").symlink_to(foreign)
    write_file(tmp_path / "a.json", b"ours")
    assert foreign.read_text() == "precious"
    assert (tmp_path / "a.json").read_bytes() == b"ours" and not (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "a.json.part").is_symlink()


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = write_file(tmp_path / "a.bin", b"before")
    with pytest.raises(type(error)), new_file(path) as stream:
        stream.write(b"half")
        raise error
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / "a.bin", b"before")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"cannot write .*a\.bin': No space left on device"):
        write_file(path, b"after")
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("name", ["a\0b", "a\ud800", "n" * 5000, "folder"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write") as caught:
        write_file(tmp_path / name, b"x")
    assert len(str(caught.value)) < 500
    str(caught.value).encode()  # can be printed
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


WRITER = """
    import sys
    from pathlib import Path
    from sise_ort.files import new_file, write_file
    path, what = Path(sys.argv[1]), sys.argv[2]
    if what == "hang":
        with new_file(path) as stream:
            stream.write(b"half")
            stream.flush()
            print("ready", flush=True)
            sys.stdin.read()
    for _ in range(60):
        write_file(path, what.encode() * 100_000, lasting=False)
"""


def writer(path: Path, what: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(WRITER)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_leftovers_of_the_dead_are_removed_and_of_the_living_kept(tmp_path: Path) -> None:
    other = tmp_path / ".sise-ort-notes.part"
    other.write_text("not ours")
    living, dead = writer(tmp_path / "a.bin", "hang"), writer(tmp_path / "b.bin", "hang")
    for process in (living, dead):
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    assert len([p for p in tmp_path.iterdir() if LEFTOVER.fullmatch(p.name)]) == 2
    assert remove_leftovers(tmp_path) == 1
    living.communicate("")
    assert living.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [".sise-ort-notes.part", "a.bin"]
    assert remove_leftovers(tmp_path / "none") == 0


def test_four_processes_writing_one_path_never_show_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    several = [writer(path, letter) for letter in "wxyz"]
    seen: set[bytes] = set()
    while any(process.poll() is None for process in several):
        if path.exists():
            seen.add(path.read_bytes())
        remove_leftovers(tmp_path)
        time.sleep(0.001)
    for process in several:
        process.communicate()
        assert process.returncode == 0
    assert seen and all(re.fullmatch(rb"(.)\1{99999}", content) for content in seen)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_lasting_files_reach_the_disk_with_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Any] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    write_file(tmp_path / "a.bin", b"x", lasting=False)
    assert synced == []
    write_file(tmp_path / "a.bin", b"x")
    assert LEFTOVER.fullmatch(synced[0].name) and synced[1] == tmp_path
