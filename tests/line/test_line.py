"""`Line`: nothing blocks the camera, every part has an outcome and a record, and what each queue did is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sise_ort
from sise_ort.errors import ClosedError, OutputError, ParameterError
from sise_ort.line.evidence import Evidence
from sise_ort.line.jobs import Result
from sise_ort.line.line import Line
from sise_ort.line.settings import LineSettings
from sise_ort.runtime.explainer import Explainer


@pytest.fixture(scope="module")
def explainer(sigmoid_bundle: Path) -> Iterator[Explainer]:
    with sise_ort.load(sigmoid_bundle, provider="cpu", threads=1) as found:
        yield found


def threshold(explainer: Explainer, frame: Any) -> tuple[str, float]:
    """The surest class of a frame, and a threshold just below it."""
    found = explainer.explain(frame, passes=0)
    return found.label, found.confidence * 0.999


class Held:
    """Holds up the line's work until it is let go, but for maps without passes."""

    def __init__(self, line: Line, name: str) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        work = getattr(line._decider, name)

        def held(*given: Any, **more: Any) -> Any:
            if more.get("passes", True):
                self.begun.release()
                assert self.go.wait(30)
            return work(*given, **more)

        setattr(line._decider, name, held)


def test_a_reject_is_explained_as_the_explainer_explains_it(explainer: Explainer, frame: Any) -> None:
    label, least = threshold(explainer, frame)
    with Line(explainer, explain=(label,), threshold=least) as line:
        result = line.submit(frame, "48213", meta={"coil": 7}).result(30)
        assert line.status()["explained_in_time"] == 1
    alone = explainer.explain(frame, label)
    assert (result.decision, result.explained, result.label) == ("rejected", "in time", label)
    np.testing.assert_array_equal(result.explanations[0].heatmap, alone.heatmap)
    assert result.confidence == pytest.approx(alone.confidence, abs=1e-6)
    assert result.meta == {"coil": 7} and not result.without_passes
    assert set(result.seconds) == {"wait", "classify", "wait_explain", "explain", "end", "total"}


def test_below_the_threshold_a_part_is_accepted(explainer: Explainer, frame: Any) -> None:
    heard: list[Result] = []
    with Line(explainer, threshold=1.0) as line:
        result = line.submit(frame, "1", done=heard.append).result(30)
    assert heard == [result]
    assert (result.decision, result.explanations, result.explained) == ("accepted", (), "")
    assert result.confidence == max(result.confidences.values())


def test_a_full_queue_of_frames_gives_unclassified_parts_at_once(
    explainer: Explainer, frame: Any, tmp_path: Path
) -> None:
    alarms: list[str] = []
    settings = LineSettings(queue=2, alarm=lambda kind, message: alarms.append(kind))
    with Line(explainer, tmp_path, threshold=1.0, settings=settings) as line:
        held = Held(line, "classify")
        first = line.submit(frame, "0")
        assert held.begun.acquire(timeout=30)  # the queue is empty again
        rest = [line.submit(frame, str(i)) for i in range(1, 6)]
        assert [f.done() for f in rest] == [False, False, True, True, True]
        assert rest[2].result().decision == "unclassified"
        held.go.set()
        wait([first, *rest], 30)
    counts = line.status()
    assert (counts["submitted"], counts["accepted"], counts["unclassified"], counts["kept"]) == (6, 3, 3, 6)
    assert alarms == ["unclassified"] * 3
    with Evidence(tmp_path, create=False) as evidence:
        assert evidence.heads()["line"].number == 6


@pytest.mark.parametrize(
    ("policy", "dropped", "without"),
    [("oldest", ["2", "3"], []), ("newest", ["1", "2"], []), ("no-passes", [], ["2", "3"])],
)
def test_a_full_queue_of_rejects_follows_the_policy(
    explainer: Explainer, frame: Any, policy: str, dropped: list[str], without: list[str]
) -> None:
    _, least = threshold(explainer, frame)
    with Line(explainer, threshold=least, settings=LineSettings(rejects=1, policy=policy)) as line:
        held = Held(line, "explain")
        futures = [line.submit(frame, "0")]
        assert held.begun.acquire(timeout=30)  # "0" is being explained, the queue is empty
        futures += [line.submit(frame, str(i)) for i in range(1, 4)]
        while sum(f.done() for f in futures) < 2:
            threading.Event().wait(0.01)
        held.go.set()
        results = [f.result(30) for f in futures]
    assert [r.part_id for r in results if r.explained == "dropped"] == dropped
    assert [r.part_id for r in results if r.without_passes] == without
    counts = line.status()
    assert counts["rejected"] == 4 == counts["explained_in_time"] + counts["explained_dropped"]
    assert counts["without_passes"] == len(without)


def test_where_the_deadline_is_over_a_reject_gets_a_map_without_passes(
    explainer: Explainer, frame: Any
) -> None:
    _, least = threshold(explainer, frame)
    with Line(explainer, threshold=least, deadline=1e-6) as line:
        result = line.submit(frame, "1").result(30)
    assert (result.explained, result.without_passes) == ("late", True)
    assert result.explanations[0].heatmap.shape == (32, 48)
    assert sum(result.explanations[0].mask_counts) == 0


def test_an_unreadable_picture_fails_alone(explainer: Explainer, frame: Any, tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    with Line(explainer, tmp_path / "evidence", threshold=1.0) as line:
        futures = [
            line.submit(tmp_path / "half.png", "half"),
            line.submit(tmp_path / "missing.png", "missing"),
            line.submit(np.zeros((4, 4, 9), np.uint8), "nine channels"),
            line.submit(frame, "good"),
        ]
        results = [f.result(30) for f in futures]
        assert all(r.kept.result(30) for r in results)
    assert [r.decision for r in results] == ["failed", "failed", "failed", "accepted"]
    assert "missing.png" in results[1].reason


def test_the_camera_may_write_over_its_frame(explainer: Explainer, frame: Any) -> None:
    label, _ = threshold(explainer, frame)
    with Line(explainer, threshold=1.0) as line:
        held = Held(line, "classify")
        future = line.submit(given := frame.copy(), "1")
        given[:] = 0
        held.go.set()
        assert future.result(30).label == label


def test_lines_share_a_process_and_a_store(
    sigmoid_bundle: Path, tiny_bundle: Path, frame: Any, tmp_path: Path
) -> None:
    with (
        Evidence(tmp_path) as evidence,
        Line(sigmoid_bundle, evidence, name="north", threshold=1.0, provider="cpu") as north,
        Line(tiny_bundle, evidence, name="south", threshold=1.0, provider="cpu") as south,
    ):
        lines = [north, south]
        threads = [
            threading.Thread(
                target=lambda line=line: [line.submit(frame, str(i)) for i in range(5)]  # type: ignore[misc]
            )
            for line in lines * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for line in lines:
            line.close()
        assert {name: e.number for name, e in evidence.heads().items()} == {"north": 10, "south": 10}


def test_a_part_is_acknowledged_when_its_record_is_written(
    explainer: Explainer, frame: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Evidence(tmp_path) as evidence, Line(explainer, evidence, threshold=1.0) as line:
        add, full = evidence.add, threading.Event()
        full.set()

        def adding(*given: Any) -> Any:
            if full.is_set():
                raise OutputError("no space left on device")
            return add(*given)

        monkeypatch.setattr(evidence, "add", adding)
        results = [line.submit(frame, str(i)).result(30) for i in range(3)]
        assert not any(r.kept.done() for r in results)
        while not line.status()["store"]:
            threading.Event().wait(0.01)
        full.clear()
        links = [r.kept.result(30) for r in results]
        assert line.status()["store"] == ""
        head = line.head()
        assert head is not None and (head.link, head.number) == (links[-1], 3)


def test_what_is_not_written_in_the_end_says_so(explainer: Explainer, frame: Any, tmp_path: Path) -> None:
    alarms: list[str] = []
    settings = LineSettings(close_seconds=0.2, alarm=lambda kind, message: alarms.append(kind))
    with Evidence(tmp_path) as evidence:
        evidence.add = lambda *_: (_ for _ in ()).throw(OutputError("full"))  # type: ignore[method-assign]
        with Line(explainer, evidence, threshold=1.0, settings=settings) as line:
            result = line.submit(frame, "1").result(30)
    with pytest.raises(OutputError, match="'1' is not recorded: full"):
        result.kept.result(0)
    assert (alarms, line.status()["unkept"]) == (["unkept"], 1)


def test_a_closed_line_takes_nothing(explainer: Explainer, frame: Any) -> None:
    line = Line(explainer, threshold=1.0)
    line.close()
    line.close()
    with pytest.raises(ClosedError):
        line.submit(frame, "1")
    assert explainer.explain(frame, passes=0).label  # it is the caller's


@pytest.mark.parametrize(
    "given",
    [
        {"threshold": 1.5},
        {"explain": "ant"},
        {"explain": ()},
        {"name": ""},
        {"name": "a\nb"},
        {"deadline": -1.0},
        {"settings": lambda: LineSettings(queue=0)},
        {"settings": lambda: LineSettings(policy="none")},
        {"settings": lambda: LineSettings(spool=Path("x"))},
    ],
)
def test_bad_values_are_refused(explainer: Explainer, given: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        Line(explainer, **{k: v() if callable(v) else v for k, v in given.items()})


@pytest.mark.parametrize(
    ("part_id", "meta"), [("", None), ("x" * 201, None), ("a\0", None), ("1", {"a": object()})]
)
def test_bad_parts_are_refused(explainer: Explainer, frame: Any, part_id: str, meta: Any) -> None:
    with Line(explainer, threshold=1.0) as line, pytest.raises(ParameterError):
        line.submit(frame, part_id, meta=meta)


def test_maps_carry_their_verdicts(explainer: Explainer, frame: Any) -> None:
    label, least = threshold(explainer, frame)
    alone = explainer.explain(frame, label, checks=True).verdict
    with Line(explainer, explain=(label,), threshold=least, settings=LineSettings(checks=True)) as line:
        result = line.submit(frame, "1").result(30)
    assert len(result.verdicts) == 1 and result.verdicts[0] == result.explanations[0].verdict
    assert alone is not None and result.verdicts[0].trust == alone.trust
    for name, value in alone.checks.items():
        assert result.verdicts[0].checks[name] == pytest.approx(value, abs=1e-5)


def test_part_ids_name_no_files(explainer: Explainer, frame: Any, tmp_path: Path) -> None:
    evidence = tmp_path / "a" / "evidence"
    names = ["../../x", "/etc/x", "a/b", "..", "con", "a\nb<script>", "x'; DROP TABLE sise_parts; --"]
    with Line(explainer, evidence, name="../line", settings=LineSettings(frames="all")) as line:
        results = [line.submit(frame, name, meta={"coil": "<b>"}).result(30) for name in names]
        assert all(r.kept.result(30) for r in results)
    files = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert all(p.parts[:2] == ("a", "evidence") for p in files)
    kept = {p.stem for p in files if "files" in p.parts}
    assert kept and all(len(name) == 64 and int(name, 16) for name in kept)
    with Evidence(evidence, create=False) as store:
        assert store.heads()["../line"].number == len(names)


def test_a_record_that_cannot_be_made_costs_no_other_one(
    explainer: Explainer, frame: Any, tmp_path: Path
) -> None:
    alarms = list[str]()
    settings = LineSettings(alarm=lambda kind, message: alarms.append(f"{kind}: {message}"))
    with Line(explainer, tmp_path / "evidence", threshold=1.0, settings=settings) as line:
        assert line._keeper is not None
        recorder = line._keeper._recorder
        make = recorder.record

        def record(job: Any) -> Any:
            if job.result.part_id == "bad":
                raise ZeroDivisionError("no record")
            return make(job)

        recorder.record = record  # type: ignore[method-assign]
        bad, good = (line.submit(frame, part).result(30).kept for part in ("bad", "good"))
        with pytest.raises(OutputError, match="cannot be made: ZeroDivisionError: no record"):
            bad.result(30)
        assert len(good.result(30)) == 64
    assert alarms == [
        "unkept: part 'bad' is not recorded: its record cannot be made: ZeroDivisionError: no record"
    ]
