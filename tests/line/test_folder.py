"""The hot folder: complete files only, each once, moved or remembered."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sise_ort.errors import ParameterError
from sise_ort.line.sources import Item
from sise_ort.line.sources.folder import HotFolder


class Written:
    """A ledger in memory."""

    def __init__(self, keys: dict[str, str] | None = None) -> None:
        self.keys = keys or {}

    def known(self, key: str) -> bool:
        return key in self.keys

    def outcome(self, key: str) -> str:
        return self.keys[key]


class Taken:
    """Takes what a folder yields, by a thread."""

    def __init__(self, folder: HotFolder, ledger: Written) -> None:
        self.items: list[Item] = []
        self.stop, self._change = threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._take, args=(folder, ledger), daemon=True)
        self._thread.start()

    def _take(self, folder: HotFolder, ledger: Written) -> None:
        for item in folder.items(self.stop, ledger):
            with self._change:
                self.items.append(item)
                ledger.keys[item.key] = "done"
                self._change.notify_all()

    def wait(self, count: int) -> list[str]:
        with self._change:
            assert self._change.wait_for(lambda: len(self.items) >= count, 30), self.items
        return [item.part_id for item in self.items]

    def end(self) -> list[str]:
        self.stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return [item.part_id for item in self.items]


@pytest.fixture
def take() -> Iterator[Callable[..., Taken]]:
    begun: list[Taken] = []

    def taking(folder: HotFolder, ledger: Written | None = None) -> Taken:
        begun.append(Taken(folder, ledger or Written()))
        return begun[-1]

    yield taking
    for one in begun:
        one.stop.set()


def once(folder: Path, ledger: Written | None = None, **more: object) -> list[Item]:
    source = HotFolder(folder, settle=0.1, once=True, **more)  # type: ignore[arg-type]
    return list(source.items(threading.Event(), ledger or Written()))


def test_pictures_that_are_there_come_oldest_first_and_can_wait(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for age, name in enumerate(["new.png", "below/middle.JPG", "old.bmp"]):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    for name in (".hidden.png", "notes.txt", "part.png.part"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "new.png")
    (tmp_path / "fifo.png").mkdir()
    items = once(tmp_path)
    assert [item.part_id for item in items] == ["old", "below/middle", "new"]
    assert all(item.waits for item in items)
    assert items[1].meta == {"file": "below/middle.JPG"}


def test_a_file_counts_when_its_writer_closes_it(tmp_path: Path, take: Callable[..., Taken]) -> None:
    taken = take(HotFolder(tmp_path, settle=3600))
    while not taken.items:  # until the system tells of files
        (tmp_path / "0.png").write_bytes(b"0")
        threading.Event().wait(0.05)
    taken.items.clear()
    with (tmp_path / "a.png").open("wb", buffering=0) as file:
        file.write(b"half")
        (tmp_path / "b.png").write_bytes(b"whole")
        taken.wait(1)
        file.write(b"rest")
    assert taken.wait(2)[-1] == "a"
    assert not taken.items[-1].waits
    assert taken.items[-1].key.split("|")[1] == "8"
    (tmp_path / "c.png.part").write_bytes(b"whole")
    (tmp_path / "c.png.part").rename(tmp_path / "c.png")
    taken.wait(3)
    assert taken.end() == ["b", "a", "c"]


def test_a_file_whose_end_nobody_tells_counts_when_it_does_not_change(
    tmp_path: Path, take: Callable[..., Taken]
) -> None:
    (tmp_path / "in").mkdir()
    taken = take(HotFolder(tmp_path / "in", settle=0.3))
    with (tmp_path / "in" / "slow.png").open("wb", buffering=0) as file:
        file.write(b"still open")
        assert taken.wait(1) == ["slow"]


def test_what_is_recorded_does_not_come_again_unless_it_changed(tmp_path: Path) -> None:
    ledger = Written()
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "b.png").write_bytes(b"2")
    first = once(tmp_path, ledger)
    ledger.keys = {item.key: "done" for item in first}
    assert once(tmp_path, ledger) == []
    (tmp_path / "a.png").write_bytes(b"another")
    assert [item.part_id for item in once(tmp_path, ledger)] == ["a"]


def test_settled_pictures_move_and_none_is_replaced(tmp_path: Path) -> None:
    source = HotFolder(tmp_path, settle=0.1, move=True, once=True)
    for content in (b"1", b"22"):
        (tmp_path / "below").mkdir(exist_ok=True)
        (tmp_path / "below" / "a.png").write_bytes(content)
        for item in source.items(threading.Event(), Written()):
            source.settle(item, "quarantined")
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["quarantined/below/a-2.png", "quarantined/below/a.png"]
    assert (tmp_path / "quarantined/below/a-2.png").read_bytes() == b"22"


@pytest.mark.parametrize("trouble", [errno.EXDEV, errno.EPERM])
def test_a_move_to_another_disk_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    def no_link(*_: Any) -> None:
        raise OSError(trouble, "no hard link")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "a.png").write_bytes(b"mine")
    (tmp_path / "a.png").write_bytes(b"1")
    source = HotFolder(tmp_path, settle=0.1, move=True, once=True)
    (item,) = source.items(threading.Event(), Written())
    source.settle(item, "done")
    left = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"done/a.png": b"mine", "done/a-2.png": b"1"}


def test_a_move_that_was_cut_short_leaves_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    source = HotFolder(tmp_path, settle=0.1, move=True, once=True)
    (item,) = source.items(threading.Event(), Written())
    (tmp_path / "done").mkdir()
    os.link(tmp_path / "a.png", tmp_path / "done" / "a.png")  # killed before the first name was removed
    source.settle(item, "done")
    assert [p.name for p in (tmp_path / "done").iterdir()] == ["a.png"] and not (tmp_path / "a.png").exists()


def test_a_picture_that_changed_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    source = HotFolder(tmp_path, settle=0.1, move=True, once=True)
    (item,) = source.items(threading.Event(), Written())
    (tmp_path / "a.png").write_bytes(b"other")
    source.settle(item, "done")
    assert (tmp_path / "a.png").read_bytes() == b"other"


def test_after_a_crash_between_record_and_move_the_move_is_made_up_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    (item,) = once(tmp_path)
    assert once(tmp_path, Written({item.key: "failed"}), move=True, into=tmp_path / "out") == []
    assert (tmp_path / "out" / "failed" / "a.png").is_file() and not (tmp_path / "a.png").exists()


def test_excluded_folders_are_not_looked_into(tmp_path: Path, take: Callable[..., Taken]) -> None:
    for name in ("evidence", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"1")
    taken = take(HotFolder(tmp_path, settle=0.1, exclude=[tmp_path / "evidence"]))
    (tmp_path / "b.png").write_bytes(b"1")
    taken.wait(1)
    (tmp_path / "evidence" / "c.png").write_bytes(b"1")
    (tmp_path / "d.png").write_bytes(b"1")
    taken.wait(2)
    assert taken.end() == ["b", "d"]


def test_names_that_are_no_text_and_very_long_ones(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.png", os.O_CREAT | os.O_WRONLY))
    deep = tmp_path / ("x" * 120) / ("y" * 120)
    deep.mkdir(parents=True)
    (deep / "1.png").write_bytes(b"1")
    items = once(tmp_path)
    assert sorted(len(item.part_id) for item in items) == [1, 200]
    for item in items:
        assert len(item.key) <= 300
        f"{item.part_id}{item.name}{item.key}{item.meta}".encode()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="missing"):
        HotFolder(tmp_path / "none")
