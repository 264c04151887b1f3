"""Runs cases one after the other in one process, and reports each one as a JSON line."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from fuzzing.cases import CASES, Place, Wrong, differences, judge_error, snapshot

ADDRESS_SPACE = 24 << 30
"""So that a case cannot take the whole machine between two looks at its memory."""

OTHERS = ("cache", ".cache", ".config", ".ses")
"""What onnxruntime, OpenCV and matplotlib write in HOME, and this package's own cache."""


def run_all(jobs: list[dict[str, Any]], work: Path, samples: Path, reports: Any) -> None:
    """Run cases in order.

    Parameters
    ----------
    jobs : list of {"number", "key", "seed"}
    work : Path
        Folder for this process; a canary tree stands in it, which nothing may touch.
    samples : Path
        Folder of `samples.make`.
    reports : text file
        One JSON line when a case begins, one when it ends.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    home, temporary = work / "home", work / "tmp"
    home.mkdir(parents=True)
    temporary.mkdir()
    os.environ.update(HOME=str(home), SISE_ORT_CACHE=str(home / "cache"), TMPDIR=str(temporary))
    canary = plant(work / "canary")
    explainers: dict[str, Any] = {}
    for job in jobs:
        tell(reports, begin=job["number"])
        place = Place(work / f"case-{job['number']}", samples, random.Random(job["seed"]), explainers)
        verdict, words, seconds = run_one(job["key"], place, work, canary)
        tell(reports, end=job["number"], verdict=verdict, words=words[:4000], seconds=seconds, peak=peak())
        remove(place.folder)


def run_one(key: str, place: Place, work: Path, canary: dict[str, Any]) -> tuple[str, str, float]:
    """Run one case and judge it; the verdict is "sound", "refused" or what went wrong."""
    from sise_ort.errors import SiseError

    for folder in (place.inputs, place.out, place.folder / "cwd"):
        folder.mkdir(parents=True)
    os.chdir(place.folder / "cwd")
    place.freeze()
    clear_peak()
    began = time.perf_counter()
    verdict, words = "sound", ""
    try:
        CASES[key].run(place)
    except SiseError as error:
        verdict, words = "refused", str(error)
        try:
            judge_error(error)
        except Wrong as wrong:
            verdict, words = "unclear", str(wrong)
    except Wrong as error:
        verdict, words = "wrong", str(error)
    except Exception:  # noqa: BLE001 - that is what is looked for
        verdict, words = "traceback", traceback.format_exc()
    seconds = time.perf_counter() - began
    os.chdir(work)
    if verdict in ("sound", "refused") and (foreign := strays(place, work, canary)):
        verdict, words = "files", "; ".join(foreign[:10])
    return verdict, words, seconds


def strays(place: Place, work: Path, canary: dict[str, Any]) -> list[str]:
    """Files that the case lost, changed or left where nothing may be."""
    found = differences(place.frozen, snapshot(place.inputs)) + differences(canary, snapshot(work / "canary"))
    found += differences({}, snapshot(place.folder / "cwd"))
    allowed = {place.folder.name, "home", "canary", "tmp"}
    found += [f"added {name!r}" for name in os.listdir(work) if name not in allowed]  # noqa: PTH208
    allowed = {"in", "out", "cwd"}
    found += [f"added {name!r}" for name in os.listdir(place.folder) if name not in allowed]  # noqa: PTH208
    found += [
        f"leftover {name!r}" for name in snapshot(place.out) if Path(name).name.startswith(".sise-ort-")
    ]
    found += [f"in HOME {name!r}" for name in os.listdir(work / "home") if name not in OTHERS]  # noqa: PTH208
    return found


def plant(folder: Path) -> dict[str, Any]:
    """A tree that looks like what was lost once: a web application, notes, pictures, links."""
    (folder / "app" / "static").mkdir(parents=True)
    (folder / "app" / "manifest.json").write_text('{"name": "a web application", "files": {"a": "b"}}')
    (folder / "app" / "static" / "index.html").write_text("<p>mine")
    (folder / "strip.png").write_bytes(b"my picture")
    (folder / "notes.txt").write_text("notes")
    (folder / "link").symlink_to("notes.txt")
    (folder / "strip.png.part").symlink_to("notes.txt")
    return snapshot(folder)


def tell(reports: Any, **facts: Any) -> None:
    reports.write(json.dumps(facts) + "\n")
    reports.flush()


def peak() -> int:
    """Bytes of memory at most since `clear_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def clear_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def remove(folder: Path) -> None:
    """Delete a case's folder, whatever stands in it."""
    for root, _, _ in os.walk(os.fsencode(folder)):
        with contextlib.suppress(OSError):
            os.chmod(root, 0o700)  # noqa: PTH101 - names that are no text
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit("run benchmarks/fuzz.py")
