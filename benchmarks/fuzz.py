"""Bad inputs and accidents, by the thousand: does each one end in a sound result or in one clear error?

    python benchmarks/fuzz.py --cases 5000 --seed 1            # all areas; minutes to an hour
    python benchmarks/fuzz.py --cases 200 --only pictures      # one area, or one kind of case
    python benchmarks/fuzz.py --replay fuzz-failures.json      # only the cases that failed, with their reports

A case passes where it ends in a result that is sound (heat maps in [0, 1], a record that is JSON), in a SiseError, or, on
the command line, in exit code 0, 1 or 2 with one line. It fails where there is a traceback, an unclear message, a crash,
more than 60 s of processor time (or 180 s on the clock: the machine may be busy), more than 2 GiB of memory, or a file that
was lost, changed or left where nothing may be. Cases run in child processes; kinds that may take their process along have
one each. Every case is made from its kind and its seed alone, so that it can be replayed. Needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import random
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import commands, frames, graphs, manifests, names, onnx_files, parameters, pictures, samples
from fuzzing.cases import CASES
from fuzzing.child import run_all

AREAS = (manifests, onnx_files, graphs, frames, pictures, names, parameters, commands)
SECONDS, MEMORY, TOGETHER = 60.0, 2 << 30, 25
PASSED = ("sound", "refused")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=5000, help="number of cases")
    parser.add_argument("--seed", type=int, default=0, help="seed of the whole run")
    parser.add_argument("--only", help="an area, or AREA.KIND")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--failures", default="fuzz-failures.json", help="file for the cases that failed")
    parser.add_argument("--replay", help="run the cases of such a file again")
    parser.add_argument("--list", action="store_true", help="list the kinds of cases")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        job = json.loads(Path(arguments.child).read_text())
        with os.fdopen(job["reports"], "w") as reports:
            run_all(job["jobs"], Path(job["work"]), Path(job["samples"]), reports)
        return
    if arguments.list:
        for kind in CASES.values():
            print(f"{kind.key:40} {'alone' if kind.alone else ''}")
        return
    replayed = json.loads(Path(arguments.replay).read_text()) if arguments.replay else None
    jobs = replayed or draw(arguments.cases, arguments.seed, arguments.only)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder:
        samples.make(Path(folder) / "samples")
        done = run(jobs, Path(folder), arguments.jobs)
    report(done, time.perf_counter() - began, arguments.seed)
    failed = [d for d in done if d["verdict"] not in PASSED]
    if arguments.replay:
        for d in failed:
            print(f"\n{d['key']} (seed {d['seed']}): {d['verdict']}\n{d['words']}")
    elif failed:
        Path(arguments.failures).write_text(json.dumps(failed, indent=1))
        print(f"\nto see them again: python benchmarks/fuzz.py --replay {arguments.failures}")
    sys.exit(bool(failed))


def draw(cases: int, seed: int, only: str | None) -> list[dict[str, Any]]:
    """The cases of a run: every area has the same share, and kinds within it by their weight."""
    kinds = [k for k in CASES.values() if only in (None, k.area, k.key)]
    if not kinds:
        sys.exit(f"there is no area or kind '{only}'; see --list")
    areas = defaultdict(list)
    for kind in kinds:
        areas[kind.area].append(kind)
    rng, jobs = random.Random(seed), []
    for number in range(cases):
        area = list(areas.values())[number % len(areas)]
        kind = rng.choices(area, [k.weight for k in area])[0]
        jobs.append({"number": number, "key": kind.key, "seed": rng.getrandbits(48)})
    return jobs


def run(jobs: list[dict[str, Any]], folder: Path, workers: int) -> list[dict[str, Any]]:
    """Run all cases in child processes; each with its verdict, seconds and peak of memory."""
    waiting: queue.Queue[list[dict[str, Any]]] = queue.Queue()
    together = [j for j in jobs if not CASES[j["key"]].alone]
    for start in range(0, len(together), TOGETHER):
        waiting.put(together[start : start + TOGETHER])
    for job in jobs:
        if CASES[job["key"]].alone:
            waiting.put([job])
    done: dict[int, dict[str, Any]] = {}

    def work(worker: int) -> None:
        turn = 0
        while True:
            try:
                batch = waiting.get_nowait()
            except queue.Empty:
                return
            while batch:
                turn += 1
                for result in watch(batch, folder / f"work-{worker}-{turn}", folder / "samples"):
                    done[result["number"]] = result
                    if sys.stderr.isatty():
                        print(f"\r{len(done)} of {len(jobs)}", end="", file=sys.stderr, flush=True)
                batch = [job for job in batch if job["number"] not in done]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [done[n] for n in sorted(done)]


def watch(batch: list[dict[str, Any]], work: Path, shared: Path) -> list[dict[str, Any]]:
    """Run a batch in one process until it ends or one of its cases goes too far; the verdicts so far."""
    work.mkdir()
    read, write = os.pipe()
    job = {"jobs": batch, "work": str(work / "child"), "samples": str(shared), "reports": write}
    (work / "job.json").write_text(json.dumps(job))
    words = work / "stderr.txt"
    with words.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", str(work / "job.json")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, pass_fds=[write], start_new_session=True,
        )  # fmt: skip
    os.close(write)
    results, current, why = follow(process, read, {j["number"]: j for j in batch})
    if why == "hang":
        process.send_signal(signal.SIGUSR1)  # says where it stands
        time.sleep(0.5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    if current is not None:
        verdict = why or ("crash" if code else "vanished")
        tail = words.read_bytes()[-3000:].decode(errors="replace")
        results.append(
            {**current, "verdict": verdict, "words": f"exit {code}\n{tail}", "seconds": 0.0, "peak": 0}
        )
    elif not results:  # it could not even begin
        tail = words.read_bytes()[-3000:].decode(errors="replace")
        results.append(
            {**batch[0], "verdict": "crash", "words": f"exit {code}\n{tail}", "seconds": 0.0, "peak": 0}
        )
    shutil.rmtree(work, ignore_errors=True)
    return results


def follow(
    process: subprocess.Popen[bytes], read: int, batch: dict[int, dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None, str]:
    """Read a child's reports; stops where a case takes too long or too much memory, or the child ends.

    Returns
    -------
    results : what ended. current : the case that was running, None for none. why : "hang", "memory" or "".
    """
    results: list[dict[str, Any]] = []
    current: dict[str, Any] | None = None
    began, spent, text = time.perf_counter(), 0.0, b""
    with selectors.DefaultSelector() as selector, os.fdopen(read, "rb", buffering=0) as pipe:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=0.2):
                part = pipe.read(65536)
                if not part:
                    return results, current, ""
                text += part
                *lines, text = text.split(b"\n")
                for line in lines:
                    facts = json.loads(line)
                    if "begin" in facts:
                        current, began, spent = batch[facts["begin"]], time.perf_counter(), busy(process.pid)
                        continue
                    ended = {**batch[facts.pop("end")], **facts}
                    if ended["peak"] > MEMORY and ended["verdict"] in PASSED:
                        ended |= {
                            "verdict": "memory",
                            "words": f"{ended['peak'] >> 20} MiB. {ended['words']}",
                        }
                    results.append(ended)
                    current = None
            seconds = time.perf_counter() - began
            if (
                current is not None
                and seconds > SECONDS
                and (busy(process.pid) - spent > SECONDS or seconds > 3 * SECONDS)
            ):
                return results, current, "hang"
            if current is not None and resident(process.pid) > 2 * MEMORY:
                return results, current, "memory"


def busy(pid: int) -> float:
    """Seconds of processor time of a process and its children that ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def resident(pid: int) -> int:
    """Bytes of memory of a process and its children."""
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(resident(int(child)) for child in (task / "children").read_text().split())
    return total


def report(done: list[dict[str, Any]], seconds: float, seed: int) -> None:
    """Print the table of areas and what failed, most frequent first."""
    verdicts = [*PASSED, *sorted({d["verdict"] for d in done} - set(PASSED))]
    rows = [["area", "cases", *verdicts, "longest s", "peak MiB"]]
    areas = defaultdict(list)
    for d in done:
        areas[d["key"].split(".")[0]].append(d)
    for area, found in [*areas.items(), ("all", done)]:
        counts = Counter(d["verdict"] for d in found)
        longest, peak = max(d["seconds"] for d in found), max(d["peak"] for d in found) >> 20
        rows.append([area, str(len(found)), *(str(counts[v]) for v in verdicts), f"{longest:.1f}", str(peak)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
        if row is rows[0]:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    print(f"\n{len(done)} cases, seed {seed}, {seconds / 60:.1f} min")
    failed = [d for d in done if d["verdict"] not in PASSED]
    for (key, verdict, last), count in Counter((d["key"], d["verdict"], gist(d)) for d in failed).most_common(
        60
    ):
        print(f"{count:5} {key} {verdict}: {last}")


def gist(failed: dict[str, Any]) -> str:
    """What two failures of one cause have in common: the last line of their report."""
    lines = [line for line in failed["words"].splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


if __name__ == "__main__":
    main()
