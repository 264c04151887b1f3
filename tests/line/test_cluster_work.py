"""What a worker of a cluster writes, without Ray: rows that equal a plain call's, once each, also when a task is done again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort.bundle.reading import read_manifest
from sise_ort.errors import OutputError, ParameterError, SiseError, TargetError
from sise_ort.line.cluster.dataset import crew_of, described, plan_of, tasks_of
from sise_ort.line.cluster.results import Results
from sise_ort.line.cluster.sources import listed
from sise_ort.line.cluster.work import Job, Task, Worker
from sise_ort.line.cluster.workers import Workers
from sise_ort.runtime.methods.registry import method_of

pytest.importorskip("pyarrow")

PLAN = {"bundle_sha256": "b", "method": "sise"}


@pytest.fixture
def pictures(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    return folder


def job(bundle: Path, out: Any, token: str, **changes: Any) -> Job:
    with sise_ort.load(bundle, "cpu", threads=1) as explainer:
        digest = explainer.model.digest
    values: dict[str, Any] = {"target": None, "method": "sise", "asked": {"mu": 0.3}, "formats": ()}
    given = Workers(provider="cpu")
    return Job(str(bundle), digest, str(out), token, given, 1, **{**values, **changes})


def tasks(pictures: Any, most: int = 2, done: Any = ()) -> list[Task]:
    return list(tasks_of(listed(pictures), set(done), most))


def test_rows_are_what_a_plain_call_gives(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    results = Results(str(tmp_path / "out"))
    worker = Worker(job(tiny_bundle, tmp_path / "out", results.begin(PLAN), formats=("overlay", "npz")))
    outcomes = [worker.do(task) for task in tasks(pictures)]
    assert [(o.explained, o.failed, o.error) for o in outcomes] == [(2, 0, None), (2, 0, None), (1, 0, None)]
    rows = {row["path"]: row for row in results.rows()}
    assert len(list(results.rows())) == len(rows) == 5
    with sise_ort.load(tiny_bundle, "cpu", threads=1) as explainer:
        for path, row in rows.items():
            plain = explainer.explain(path, mu=0.3)
            assert (row["label"], row["target"], row["confidence"]) == (
                plain.label,
                plain.target,
                plain.confidence,
            )
            assert np.array_equal(row["scores"], plain.scores)
            kept = sise_ort.read_heatmap(row["map"])
            assert np.abs(kept - plain.frame_heatmap).max() < 2e-3  # float16
            record = json.loads(row["record"])
            assert record["source"] == path and record["masks"] == list(plain.mask_counts)
            assert [Path(f).suffix for f in row["files"]] == [".png", ".npz", ".json"]
            there = [tmp_path / "out" / f for f in row["files"]]
            assert np.array_equal(sise_ort.read_heatmap(there[1]), kept)
            assert json.loads(there[2].read_bytes())["source"] == path
    # a task that is done again, since nobody heard that it was done, replaces what it had written
    assert [worker.do(task).explained for task in tasks(pictures)] == [2, 2, 1]
    assert len(list(results.rows())) == 5 and len(list((tmp_path / "out/files").rglob("*.png"))) == 5


def test_what_failed_is_listed_apart_and_tried_again(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "3.png").write_text("no picture")
    results = Results(str(tmp_path / "out"))
    worker = Worker(job(tiny_bundle, tmp_path / "out", results.begin(PLAN)))
    assert sum(worker.do(task).failed for task in tasks(pictures)) == 1
    (failure,) = results.rows("failures")
    assert failure["path"] == str(pictures / "3.png") and "3.png" in failure["error"]
    assert len(results.done()) == 4
    cv2.imwrite(str(pictures / "3.png"), np.zeros((9, 9, 3), np.uint8))
    worker = Worker(job(tiny_bundle, tmp_path / "out", results.begin(PLAN)))
    (left,) = tasks(pictures, done=results.done())
    assert left.pictures == [str(pictures / "3.png")] and worker.do(left).explained == 1
    assert not list(results.rows("failures")) and len(results.done()) == len(list(results.rows())) == 5


def test_pictures_in_parquet_and_in_stores(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    system = pytest.importorskip("fsspec").filesystem("memory")
    files = sorted(pictures.iterdir())
    data = [file.read_bytes() for file in files]
    pyarrow.parquet.write_table(
        pyarrow.table({"bytes": data}), tmp_path / "pictures.parquet", row_group_size=3
    )
    for file, content in zip(files, data, strict=True):
        system.pipe_file(f"/strips/{file.name}", content)
    try:
        found = []
        for source, out in (
            (tmp_path / "pictures.parquet", tmp_path / "out"),
            ("memory://strips", "memory://maps"),
        ):
            results = Results(str(out))
            worker = Worker(job(tiny_bundle, out, results.begin(PLAN), formats=("npz",)))
            assert all(worker.do(task).error is None for task in tasks(source))
            found.append(sorted((row["path"], row["scores"]) for row in results.rows()))
            assert len(found[-1]) == 5 and results.place.read(next(results.rows())["files"][0])
        assert [scores for _, scores in found[0]] == [scores for _, scores in found[1]]
        (system.open("/strips/late.png", "wb")).close()
        gone = Task("gone", ["memory://strips/none.png"])
        assert worker.do(gone).failed == 1
        assert "does not exist" in next(row["error"] for row in results.rows("failures"))
    finally:
        system.rm("/strips", recursive=True)
        system.rm("/maps", recursive=True)


def test_several_targets_and_none(sigmoid_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    label = read_manifest(sigmoid_bundle).labels[0]
    results = Results(str(tmp_path / "out"))
    worker = Worker(
        job(sigmoid_bundle, tmp_path / "out", results.begin(PLAN), target=[label, 1], formats=("json",))
    )
    assert all(worker.do(task).error is None for task in tasks(pictures))
    rows = list(results.rows())
    assert sorted({(row["path"], row["number"]) for row in rows}) == sorted(
        (row["path"], row["number"]) for row in rows
    )
    assert len(rows) == 10 and len({f for row in rows for f in row["files"]}) == 10
    out = Results(str(tmp_path / "positive"))
    worker = Worker(job(sigmoid_bundle, tmp_path / "positive", out.begin(PLAN), target="positive"))
    assert all(worker.do(task).error is None for task in tasks(pictures))
    assert out.done() == {str(p) for p in pictures.iterdir()}  # also those without an answer


def test_an_error_of_the_run_is_told_not_raised(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    results = Results(str(tmp_path / "out"))
    token = results.begin(PLAN)
    (task,) = tasks(pictures, most=9)
    wrong = Worker(job(tiny_bundle, tmp_path / "out", token, target="dog")).do(task)
    assert isinstance(wrong.error, TargetError) and isinstance(
        pickle.loads(pickle.dumps(wrong)).error, TargetError
    )
    gone = job(tiny_bundle, tmp_path / "out", token)
    object.__setattr__(gone, "digest", "0" * 64)
    assert "another one" in str(Worker(gone).do(task).error)
    assert not results.done()


def test_a_worker_of_an_earlier_run_writes_nothing(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    results = Results(str(tmp_path / "out"))
    worker = Worker(job(tiny_bundle, tmp_path / "out", results.begin(PLAN)))
    results.begin(PLAN)
    (task,) = tasks(pictures, most=9)
    error = worker.do(task).error
    assert isinstance(error, SiseError) and "another run" in str(error) and not results.done()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    results = Results(str(tmp_path / "out"))
    results.begin(PLAN)
    with pytest.raises(OutputError, match="another method"):
        results.begin({**PLAN, "method": "rise"})
    (tmp_path / "out/run.json").write_text("{}")
    with pytest.raises(OutputError, match="not sise-ort's"):
        results.begin(PLAN)
    (tmp_path / "out/run.json").unlink()
    (tmp_path / "out/results").mkdir()
    (tmp_path / "out/results/mine.parquet").touch()
    with pytest.raises(OutputError, match="has results without"):
        results.begin(PLAN)


def test_how_many_workers_a_cluster_has_room_for() -> None:
    def crew(
        workers: Workers, cores: int, gpus: float, largest: int, pictures: int = 10**6
    ) -> tuple[int, int, float, Any]:
        found = crew_of(workers, pictures, cores=cores, gpus=gpus, largest=largest)
        return found.count, found.cores, found.gpus, found.threads

    assert crew(Workers(), 64, 0, 16) == (16, 4, 0.0, 4)
    assert crew(Workers(), 2, 0, 2) == (1, 2, 0.0, 2)
    assert crew(Workers(count=2), 2, 0, 2) == (2, 1, 0.0, 1)
    assert crew(Workers(), 64, 8, 32) == (8, 4, 1.0, None)
    assert crew(Workers(gpus=0.5), 64, 8, 32) == (16, 4, 0.5, None)
    assert crew(Workers(provider="cpu"), 64, 8, 32) == (16, 4, 0.0, 4)
    assert crew(Workers(count=8), 64, 0, 16, pictures=3)[0] == 3
    assert crew_of(Workers(), 10**6, cores=64, gpus=0, largest=16).pictures == 64
    assert crew_of(Workers(count=2), 40, cores=2, gpus=0, largest=2).pictures == 2
    for workers in (Workers(count=3), Workers(cores=4), Workers(provider="cuda")):
        with pytest.raises(ParameterError, match="no room"):
            crew(workers, 2, 0, 2)


def test_settings_are_told_apart_by_their_values() -> None:
    mask = np.zeros((3, 3))
    one, other = sise_ort.Region("patch", mask=mask), sise_ort.Region("patch", mask=mask + 1)
    assert described(one) == described(sise_ort.Region("patch", mask=mask.copy())) != described(other)
    assert described(["a", 1, sise_ort.RatherThan("a", "b")]) == [
        "a",
        1,
        {"RatherThan": {"target": "a", "other": "b"}},
    ]


def test_workers_out_of_range_are_refused() -> None:
    for wrong in ({"count": 0}, {"cores": 1.5}, {"gpus": -1}, {"pictures": True}, {"ray": ""}, {"memory": 5}):
        with pytest.raises(ParameterError):
            Workers(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "workers"), [({"color": "bgr"}, {}), ({"levels": 4095}, {}), ({}, {"precision": "bf16"})]
)
def test_what_changes_results_changes_the_plan(
    tmp_path: Path, asked: dict[str, Any], workers: dict[str, Any]
) -> None:
    def plan(asked: dict[str, Any], workers: dict[str, Any]) -> dict[str, Any]:
        return plan_of("b", None, method_of("sise", {}), asked, Workers(**workers), ())

    results = Results(str(tmp_path / "out"))
    assert results.begin(plan({}, {})) != results.begin(plan({"color": "rgb"}, {}))  # goes on
    with pytest.raises(OutputError, match="has results of another"):
        results.begin(plan(asked, workers))
