"""Evaluations in several processes, killed and stopped at any moment."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from evaluating import arguments, count_rows, rows_without_seconds, run, without_seconds

from sise_ort.datasets import open_dataset
from sise_ort.errors import SiseError, on_command_line
from sise_ort.runtime.evaluation import Plan, evaluate, workers
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.store import DATABASE


@pytest.mark.parametrize(("workers", "moments"), [("1", [0, 5, 17, 18, 40]), ("2", [12])])
def test_killed_and_started_again(
    evaluated: Path, tiny_bundle: Path, pictures: Path, tmp_path: Path, workers: str, moments: list[int]
) -> None:
    """SIGKILL after so many rows, started again each time: the rows and files of an unbroken run."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "sise_ort.cli.main",
        *arguments(tiny_bundle, pictures, out, "--workers", workers),
    ]
    for moment in moments:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if (out / DATABASE).is_file() and count_rows(out) >= moment:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert moment <= count_rows(out) < 48 and not (out / "rows.csv").exists()
    result = run(*arguments(tiny_bundle, pictures, out, "--workers", workers))
    assert result.exit_code == 0, result.output
    rows = rows_without_seconds(out)
    assert len({(row["sample"], row["variant"]) for row in rows}) == len(rows) == 48
    assert without_seconds(out) == without_seconds(evaluated)
    for row, unbroken in zip(rows, rows_without_seconds(evaluated), strict=True):
        assert row.pop("conditions") and unbroken.pop("conditions")
        if workers == "1":
            assert row == unbroken
    assert sorted(p.name for p in out.rglob("*")) == sorted(p.name for p in evaluated.rglob("*"))


def test_workers_end_with_their_parent(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sise_ort.cli.main",
               *arguments(tiny_bundle, pictures, tmp_path / "out", "--workers", "2", "--steps", "2000")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[int] = []
    deadline = time.monotonic() + 60
    listing = Path(f"/proc/{process.pid}/task")
    if not (listing / str(process.pid) / "children").is_file():
        process.kill()
        pytest.skip("this system does not list a process's children")
    while len(children) < 3 and time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            children = [int(w) for file in listing.glob("*/children") for w in file.read_text().split()]
        time.sleep(0.05)
    assert len(children) >= 2
    process.kill()
    process.wait()
    while any(_lives(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_lives(child) for child in children)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_killed_worker_costs_its_sample_alone(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed while it explains; its sample is a problem, the others are done, the next run does it."""
    plan = Plan(
        str(tiny_bundle),
        variants(["rise"], settings={"rise": {"masks": 300}}),
        ("drop",),
        provider="cpu",
        batch_size=4,
    )
    data = open_dataset("folder", pictures)
    killed: list[str] = []
    give = workers._Crew._give

    def give_and_kill(crew: Any, task: Any) -> None:
        give(crew, task)
        if task.sample.name == "bee/1.png" and not killed:
            killed.append(task.sample.name)
            (process,) = [p for p, own in crew._busy.values() if own is task]
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(workers._Crew, "_give", give_and_kill)
    first = evaluate(plan, data, tmp_path / "out", workers=2)
    assert killed == ["bee/1.png"]
    assert len(first.rows) == 7 and "bee/1.png" not in {row["sample"] for row in first.rows}
    assert any(
        "bee/1.png: the process that evaluated it was killed by SIGKILL" in str(p) for p in first.problems
    )
    second = evaluate(plan, data, tmp_path / "out", workers=2)
    assert len(second.rows) == 8 and not any("SIGKILL" in str(p) for p in second.problems)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_keeps_what_was_found(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sise_ort.cli.main",
               *arguments(tiny_bundle, pictures, out, "--workers", "2", "--steps", "1000")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and count_rows(out) < 12:
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert 12 <= count_rows(out) < 48
    assert {path.name for path in out.iterdir()} <= {DATABASE, "gallery"}


@pytest.fixture
def plan(tiny_bundle: Path) -> Plan:
    return Plan(str(tiny_bundle), variants(["gradcam"]), ("drop",), provider="cpu", batch_size=4)


def refuse(monkeypatch: pytest.MonkeyPatch, allowed: int, error: Exception) -> None:
    """Let the system start this many processes and no more."""
    start, started = BaseProcess.start, []

    def limited(process: Any) -> None:
        if len(started) >= allowed:
            raise error
        started.append(process)
        start(process)

    monkeypatch.setattr(BaseProcess, "start", limited)


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(errno.EAGAIN, "Resource temporarily unavailable"), "Resource temporarily unavailable"),
     (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
     (RuntimeError("can't start new thread"), "can't start new thread")],
)  # fmt: skip
def test_no_worker_starts(
    plan: Plan, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    data = open_dataset("folder", pictures)
    refuse(monkeypatch, 0, error)
    with pytest.raises(SiseError, match=rf"no worker process can be started \({words}\).*workers=1") as found:
        evaluate(plan, data, tmp_path / "out", workers=3)
    assert "--workers 1" in on_command_line(found.value)
    assert len(evaluate(plan, data, tmp_path / "out").rows) == 8


def test_no_thread_starts(
    plan: Plan, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no thread left for starting workers, that is said in the same words."""
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith("sise-ort workers"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(SiseError, match=r"no worker process can be started \(can't start new thread\)"):
        evaluate(plan, open_dataset("folder", pictures), tmp_path / "out", workers=2)


def test_fewer_workers_than_asked_for(
    plan: Plan, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system starts one process and no second one, that one does everything."""
    refuse(monkeypatch, 1, OSError(errno.EAGAIN, "Resource temporarily unavailable"))
    assert len(evaluate(plan, open_dataset("folder", pictures), tmp_path / "out", workers=3).rows) == 8


def test_an_interrupt_while_the_starting_thread_starts(
    plan: Plan, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after a thread has begun, before the pool knows it: no process outlives the evaluation."""
    start_thread, start_process = threading.Thread.start, BaseProcess.start
    threads: list[threading.Thread] = []
    processes: list[BaseProcess] = []

    def interrupted(thread: threading.Thread) -> None:
        start_thread(thread)
        if thread.name.startswith("sise-ort workers"):
            threads.append(thread)
            raise KeyboardInterrupt

    def noted(process: BaseProcess) -> None:
        start_process(process)
        processes.append(process)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    monkeypatch.setattr(BaseProcess, "start", noted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, open_dataset("folder", pictures), tmp_path / "out", workers=2)
    (thread,) = threads
    thread.join(60)
    assert not thread.is_alive()
    assert not any(process.is_alive() for process in processes)


def test_an_interrupt_while_a_process_starts(
    plan: Plan,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C as a process starts: it is ended, with nothing on standard error."""
    start, started = BaseProcess.start, []

    def interrupted(process: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        start(process)
        started.append(process)

    monkeypatch.setattr(BaseProcess, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, open_dataset("folder", pictures), tmp_path / "out", workers=2)
    assert len(started) == 1 and not started[0].is_alive()
    assert capfd.readouterr().err == ""
