"""Which folders a new bundle may replace, and that one of the two bundles is in place whatever happens."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sise_ort
from sise_ort.bundle import MANIFEST, read_bundle
from sise_ort.errors import ExportError
from sise_ort.exporter import writing
from sise_ort.exporter.writing import folder_in_the_making, move_into_place, recover, refuse_existing


@pytest.fixture
def home(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A folder with a bundle `m.sise` in it."""
    shutil.copytree(tiny_bundle, tmp_path / "home" / "m.sise")
    return tmp_path / "home"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def draft(folder: Path, source: Path, name: str = "new") -> None:
    """The same bundle under another name, in a folder in the making."""
    for path in source.iterdir():
        shutil.copy(path, folder)
    facts = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**facts, "name": name}))


def replace(home: Path, source: Path, name: str = "new") -> None:
    with folder_in_the_making(home / "m.sise") as folder:
        draft(folder, source, name)
        move_into_place(folder, home / "m.sise", True)


def web_application(home: Path) -> None:
    (home / "m.sise" / MANIFEST).write_text('{"name": "shop", "icons": [], "start_url": "/"}')


def edit(**changes: Any) -> Callable[[Path], None]:
    def edited(home: Path) -> None:
        facts = json.loads((home / "m.sise" / MANIFEST).read_text())
        (home / "m.sise" / MANIFEST).write_text(json.dumps({**facts, **changes}))

    return edited


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (web_application, "is not a bundle"),
        (lambda home: (home / "m.sise" / MANIFEST).write_text("{"), "is not a bundle"),
        (lambda home: (home / "m.sise" / MANIFEST).unlink(), "is not a bundle"),
        (edit(files=["a"]), "is not a bundle"),
        (lambda home: (home / "m.sise" / "thesis.tex").write_text("x"), "holds 'thesis.tex', which is no file"),
        (lambda home: (home / "m.sise" / "results").mkdir(), "holds 'results'"),
        (lambda home: (home / "m.sise").rename(home / "x") and (home / "m.sise").symlink_to("x"), "is a link"),
        (lambda home: shutil.rmtree(home / "m.sise") or (home / "m.sise").write_text("x"), "is not a bundle"),
    ],
)  # fmt: skip
def test_only_bundles_are_replaced(
    tiny_bundle: Path, home: Path, change: Callable[[Path], object], words: str
) -> None:
    change(home)
    before = contents(home)
    with pytest.raises(ExportError, match=words):
        replace(home, tiny_bundle)
    assert contents(home) == before and not list(home.glob(".*"))


@pytest.mark.parametrize("change", [lambda home: None, edit(version=1), edit(version=3, more=1)])
@pytest.mark.parametrize("exchanges", [True, False])
def test_bundles_of_any_version_are_replaced(
    tiny_bundle: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    exchanges: bool,
) -> None:
    change(home)
    if not exchanges:
        monkeypatch.setattr(writing, "_renameat2", lambda *_: False)
    replace(home, tiny_bundle)
    assert read_bundle(home / "m.sise").name == "new"
    assert [p.name for p in home.iterdir()] == ["m.sise"]


def test_without_force_nothing_is_replaced(tiny_bundle: Path, home: Path) -> None:
    before = contents(home)
    with pytest.raises(ExportError, match="exists already"):
        refuse_existing(home / "m.sise", False)
    (home / "empty").mkdir()
    with pytest.raises(ExportError, match="exists already"), folder_in_the_making(home / "empty") as folder:
        draft(folder, tiny_bundle)
        move_into_place(folder, home / "empty", False)
    assert contents(home) == before


def test_a_file_that_comes_during_the_export_stays(
    tiny_bundle: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put into the bundle after the last look at it, just before the two folders are exchanged."""
    rename = writing._renameat2

    def late(source: Path, target: Path, flag: int) -> bool:
        if not (target / "notes.txt").exists() and not (source / "notes.txt").exists():
            (target / "notes.txt").write_text("mine")
        return rename(source, target, flag)

    monkeypatch.setattr(writing, "_renameat2", late)
    with pytest.raises(ExportError, match=r"holds 'notes\.txt'"):
        replace(home, tiny_bundle)
    assert (home / "m.sise" / "notes.txt").read_text() == "mine"
    assert read_bundle(home / "m.sise").name == "tiny"


@pytest.mark.parametrize("step", ["aside", "place"])
def test_an_interruption_between_two_renames(
    tiny_bundle: Path, home: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(writing, "_renameat2", lambda *_: False)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if (
            (target.name == "m.sise" and self.suffix == ".making")
            if step == "place"
            else target.suffix == ".old"
        ):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(home, tiny_bundle)
    assert read_bundle(home / "m.sise").name == "tiny" and [p.name for p in home.iterdir()] == ["m.sise"]


def test_the_next_export_recovers_from_a_kill_between_two_renames(tiny_bundle: Path, home: Path) -> None:
    target = home / "m.sise"
    aside = writing._aside(target)
    target.rename(aside)  # killed here
    recover(target)
    assert read_bundle(target).name == "tiny" and not aside.exists()
    shutil.copytree(target, aside)  # killed before the old one was removed
    recover(target)
    assert read_bundle(target).name == "tiny" and not aside.exists()


def test_leftovers_of_dead_exports_are_removed(home: Path) -> None:
    dead, alive = (home / f".sise-ort-{letter * 16}.making" for letter in "ab")
    others = [home / ".sise-ort-notes.making", home / ".git"]
    for folder in (dead, alive, *others):
        folder.mkdir()
        (folder / "weights.bin").write_bytes(b"x")
    number = os.open(alive, os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX)
    with folder_in_the_making(home / "m.sise") as folder:
        assert folder.exists() and not dead.exists()
        with folder_in_the_making(home / "m.sise") as second:  # the first one's writer lives
            assert folder.exists() and second.exists()
        assert folder.exists() and not second.exists()
    os.close(number)
    assert alive.exists() and all((other / "weights.bin").exists() for other in others)


def test_each_file_is_hashed_once(tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing, hashing, comparing with the source: the same bytes in memory."""
    sha256, hashed = hashlib.sha256, []

    def counted(content: Any = b"", **given: Any) -> Any:
        hashed.append(bytes(content))
        return sha256(content, **given)

    monkeypatch.setattr(hashlib, "sha256", counted)
    manifest = sise_ort.export(tiny_onnx, tmp_path / "t.sise", normalize="tf")
    monkeypatch.undo()
    for name, digest in manifest.files.items():
        content = (tmp_path / "t.sise" / name).read_bytes()
        assert hashed.count(content) == 1 and sha256(content).hexdigest() == digest


REPLACER = """
import shutil, sys
from pathlib import Path
from sise_ort.exporter import writing
if sys.argv[3] == "two steps":
    writing._renameat2 = lambda *_: False
target, sources = Path(sys.argv[1]), [Path(p) for p in sys.argv[2].split(":")]
print("ready", flush=True)
while True:
    for source in sources:
        with writing.folder_in_the_making(target) as folder:
            for path in source.iterdir():
                shutil.copy(path, folder)
            writing.move_into_place(folder, target, True)
"""


@pytest.mark.parametrize("how", ["exchange", "two steps"])
def test_kills_between_any_two_steps(tiny_bundle: Path, tmp_path: Path, home: Path, how: str) -> None:
    """SIGKILL at any moment leaves the old bundle or the new one; in two steps, the next export may bring it back."""
    (tmp_path / "other").mkdir()
    draft(tmp_path / "other", tiny_bundle)
    words = [sys.executable, "-c", REPLACER, home / "m.sise", f"{tiny_bundle}:{tmp_path / 'other'}", how]
    rng = random.Random(0)
    for _ in range(4):
        with subprocess.Popen(words, stdout=subprocess.PIPE) as replacer:
            assert replacer.stdout is not None and replacer.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.01, 0.3))
            replacer.kill()
        if how == "two steps":
            recover(home / "m.sise")
        assert read_bundle(home / "m.sise").name in ("tiny", "new")
        with folder_in_the_making(home / "m.sise"):
            pass
        assert [p.name for p in home.iterdir()] == ["m.sise"]


def test_a_folder_that_another_export_is_removing_is_not_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made and not yet locked when the other one took it for a leftover."""
    lock, refused = fcntl.flock, []

    def held_by_another(number: int, operation: int) -> None:
        folder = Path(f"/proc/self/fd/{number}").readlink()
        if folder.suffix == ".making" and not refused:
            refused.append(folder)
            raise BlockingIOError(errno.EAGAIN, "held")
        lock(number, operation)

    monkeypatch.setattr(writing.fcntl, "flock", held_by_another)
    with folder_in_the_making(home / "m.sise") as folder:
        assert refused and folder != refused[0] and folder.exists()
