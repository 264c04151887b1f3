"""The pictures of a data set: which are found, under which names, and what their bytes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sise_ort.errors import FrameError, ParameterError
from sise_ort.line.cluster.dataset import tasks_of
from sise_ort.line.cluster.sources import Run, contents, listed


def parquet(file: Path, /, groups: int = 3, **columns: Any) -> Path:
    arrow, written = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    written.write_table(arrow.table(columns), file, row_group_size=groups)
    return file


def read(runs: list[Run], most: int) -> dict[str, bytes]:
    """All pictures of tasks by their names."""
    found: dict[str, bytes] = {}
    for task in tasks_of(runs, set(), most):
        assert task.rows is not None and len(task.pictures) <= most
        found.update(zip(task.pictures, contents(task.rows, task.wanted), strict=True))
    return found


def test_folders_are_searched_and_the_results_are_left_out(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "deep/c.tif", "notes.txt", "out/files/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (run,) = listed([tmp_path, tmp_path / "b.png", "missing.png"], without=str(tmp_path / "out"))
    assert run.names == [*(str(tmp_path / n) for n in ("a.JPG", "b.png", "deep/c.tif")), "missing.png"]


def test_what_is_no_list_of_pictures_is_refused(tmp_path: Path) -> None:
    for given, says in (
        (3, "paths or addresses"),
        ([3], "paths or addresses"),
        ([], "no picture"),
        (tmp_path, "no picture"),
    ):
        with pytest.raises(ParameterError, match=says):
            listed(given)


@pytest.mark.parametrize("most", [1, 2, 64])
def test_pictures_of_a_parquet_file_come_back_whole(tmp_path: Path, most: int) -> None:
    names, data = [f"p{i}.png" for i in range(8)], [bytes([i]) * 5 for i in range(8)]
    plain = parquet(tmp_path / "plain.parquet", path=names, bytes=data)
    assert read(listed(plain), most) == dict(zip(names, data, strict=True))
    # as Hugging Face's data sets have them
    nested = parquet(
        tmp_path / "nested.parquet", image=[{"bytes": d, "path": None} for d in data], label=[0] * 8
    )
    expected = {f"{nested}#{i}": d for i, d in enumerate(data)}
    assert read(listed(nested), most) == expected
    left = list(tasks_of(listed(nested), {f"{nested}#{i}" for i in (0, 1, 4, 6)}, most))
    found: dict[str, bytes] = {}
    for task in left:
        assert task.rows is not None
        found.update(zip(task.pictures, contents(task.rows, task.wanted), strict=True))
    assert found == {f"{nested}#{i}": data[i] for i in (2, 3, 5, 7)}


def test_a_name_that_is_there_twice_names_nothing(tmp_path: Path) -> None:
    file = parquet(tmp_path / "twice.parquet", path=["a", "b", "a"], bytes=[b"1", b"2", b"3"])
    assert read(listed(file), 64) == {f"{file}#0": b"1", f"{file}#1": b"2", f"{file}#2": b"3"}


def test_a_parquet_file_of_addresses(tmp_path: Path) -> None:
    file = parquet(tmp_path / "links.parquet", path=["a.png", "/b.png", "memory://c.png"], label=[1, 2, 3])
    (run,) = listed(file)
    assert run.names == [str(tmp_path / "a.png"), "/b.png", "memory://c.png"] and run.rows is None
    with pytest.raises(FrameError, match="no column of pictures"):
        listed(parquet(tmp_path / "none.parquet", label=[1, 2, 3]))
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(FrameError, match="cannot be read as a Parquet file"):
        listed(tmp_path / "bad.parquet")


def test_a_store_of_fsspec_is_listed() -> None:
    system = pytest.importorskip("fsspec").filesystem("memory")
    for name in ("listed/a.png", "listed/b/c.png", "listed/out/d.png", "listed/e.txt"):
        system.pipe_file(f"/{name}", b"x")
    try:
        (run,) = listed("memory://listed", without="memory://listed/out")
        assert [name.replace(":///", "://") for name in run.names] == [
            "memory://listed/a.png",
            "memory://listed/b/c.png",
        ]
    finally:
        system.rm("/listed", recursive=True)
