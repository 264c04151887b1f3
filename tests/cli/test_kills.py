"""Killed at any moment, or with a full disk: nothing half-written under a final name; the next run is as an unbroken one."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort.bundle import read_bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and forks of Unix")

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
FEW, MANY = 1, 30


class Server:
    """Command lines in processes that start at once (kill_server.py)."""

    def __init__(self) -> None:
        place = Path(__file__).parents[1] / "support" / "kill_server.py"
        # run so, its folder is not searched for modules: tests/sise_ort is no package
        start = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def run(
        self,
        *words: object,
        after: float | None = None,
        number: int = 9,
        group: bool = False,
        file_size: int = 0,
    ) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"words": [str(w) for w in words], "after": after, "signal": number, "group": group}
        request["file_size"] = file_size
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        done: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert done["left"] == [], done  # no process outlives its command
        return done

    def whole(self, *words: object) -> float:
        """Run a command to its end; its seconds."""
        done = self.run(*words)
        assert done["code"] == 0, done["errors"]
        return float(done["seconds"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    with contextlib.suppress(BrokenPipeError):
        found.process.communicate(timeout=30)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Four pictures of two classes, as a data set of the kind `folder`."""
    found = []
    for number in range(4):
        path = tmp_path / "data" / ("ant", "bee")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, (32, 48, 3), np.uint8))
        found.append(path)
    return found


def moments(name: str, seconds: float, count: int) -> list[float]:
    """Moments of a run of so many seconds, one at random in each of `count` equal parts."""
    rng = random.Random(zlib.crc32(name.encode()))
    return [seconds * (part + rng.random()) / count for part in range(count)]


def ended_well(done: dict[str, Any], name: str) -> None:
    """The exit code that a signal asks for, or 0 where the command was faster; never a traceback."""
    expected = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}[name]
    early = {"SIGTERM": (-15,), "SIGINT": (1, -2)}.get(name, ())  # before the command line had begun
    assert done["code"] in (0, expected, *early), done
    if done["code"] not in early:
        assert "Traceback" not in done["errors"], done["errors"]
        lines = [line for line in done["errors"].splitlines() if line.startswith(("Stopped", "Error"))]
        assert len(lines) == (done["code"] in (130, 143)), done["errors"]


def hidden(folder: Path) -> list[str]:
    """Files in the making."""
    return sorted(p.name for p in folder.rglob(".*")) if folder.exists() else []


def exported(folder: Path) -> dict[str, str]:
    return dict(read_bundle(folder).files)


def killed_exports(server: Server, tmp_path: Path, model: Path, name: str, count: int) -> None:
    home = tmp_path / "models"
    words = ("export", model, "-o", home / "m.sise", "--normalize", "tf", "--force")
    server.whole(*words)
    seconds = server.whole(*words)
    unbroken = exported(home / "m.sise")
    other = ("export", model, "-o", home / "m.sise", "--normalize", "none", "--force")
    server.whole(*other)
    before = exported(home / "m.sise")
    assert before != unbroken
    for after in moments(f"export {name}", seconds, count):
        ended_well(server.run(*words, after=after, number=getattr(signal, name)), name)
        assert exported(home / "m.sise") in (before, unbroken)  # one of the two, whole
        if name != "SIGKILL":
            assert hidden(home) == []
        server.whole(*words)
        assert exported(home / "m.sise") == unbroken and hidden(home) == []
        server.whole(*other)
    shutil.rmtree(home)
    for after in moments(f"first export {name}", seconds, count):
        ended_well(server.run(*words, after=after, number=getattr(signal, name)), name)
        if (home / "m.sise").exists():
            assert exported(home / "m.sise") == unbroken
            shutil.rmtree(home / "m.sise")
        server.whole(*words[:-1])
        assert exported(home / "m.sise") == unbroken and hidden(home) == []
        shutil.rmtree(home / "m.sise")


def read_results(folder: Path) -> dict[str, Any]:
    """Every result file, read whole; what is no result is an error."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        if path.name.startswith("."):
            continue
        if path.suffix == ".npz":
            found[path.name] = sise_ort.read_heatmap(path).tobytes()
        elif path.suffix == ".json":
            record = json.loads(path.read_text(encoding="utf-8"))
            found[path.name] = (record["target"], record["confidence"], record["label"])
        else:
            assert path.suffix == ".png"
            picture = cv2.imread(str(path))
            assert picture is not None
            found[path.name] = picture.tobytes()
    return found


def killed_explanations(
    server: Server, tmp_path: Path, bundle: Path, pictures: list[Path], name: str, count: int
) -> None:
    def words(folder: str) -> tuple[object, ...]:
        return ("explain", bundle, *pictures, "-o", tmp_path / folder, "--provider", "cpu", "--batch-size", 4)

    server.whole(*words("warm"))
    seconds = server.whole(*words("unbroken"))
    unbroken = read_results(tmp_path / "unbroken")
    assert len(unbroken) == 12
    for number, after in enumerate(moments(f"explain {name}", seconds, count)):
        folder = f"out-{number}"
        ended_well(server.run(*words(folder), after=after, number=getattr(signal, name)), name)
        for file, content in read_results(tmp_path / folder).items():
            assert unbroken[file] == content
        if name != "SIGKILL":
            assert hidden(tmp_path / folder) == []
        server.whole(*words(folder))
        assert read_results(tmp_path / folder) == unbroken and hidden(tmp_path / folder) == []


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of an evaluation without what depends on the clock."""
    with (folder / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return sorted(
        ({k: v for k, v in row.items() if k != "seconds"} for row in rows), key=lambda r: sorted(r.items())
    )


def killed_evaluations(
    server: Server,
    tmp_path: Path,
    bundle: Path,
    pictures: list[Path],
    name: str,
    count: int,
    workers: int = 1,
) -> None:
    """With several workers, SIGINT reaches all of their processes, as Ctrl-C in a terminal does."""
    data = pictures[0].parent.parent
    group = workers > 1 and name == "SIGINT"

    def words(folder: str) -> tuple[object, ...]:
        return (
            "evaluate", bundle, "--dataset", "folder", data, "-o", tmp_path / folder, "--provider", "cpu", "--steps", 4,
            "--methods", "sise,gradcam", "--metrics", "drop,increase,insertion", "--batch-size", 4,
            "--workers", workers,
        )  # fmt: skip

    server.whole(*words("warm"))
    seconds = server.whole(*words("unbroken"))
    unbroken = read_rows(tmp_path / "unbroken")
    assert len(unbroken) == 8
    for number, after in enumerate(moments(f"evaluate {name}", seconds, count)):
        folder = f"out-{number}"
        ended_well(server.run(*words(folder), after=after, number=getattr(signal, name), group=group), name)
        server.whole(*words(folder))
        assert read_rows(tmp_path / folder) == unbroken and hidden(tmp_path / folder) == []
        assert (tmp_path / folder / "index.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SIGNALS)
def test_export(server: Server, tmp_path: Path, tiny_onnx: Path, name: str, count: int) -> None:
    killed_exports(server, tmp_path, tiny_onnx, name, count)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SIGNALS)
def test_explain(
    server: Server, tmp_path: Path, tiny_bundle: Path, pictures: list[Path], name: str, count: int
) -> None:
    killed_explanations(server, tmp_path, tiny_bundle, pictures, name, count)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SIGNALS)
def test_evaluate(
    server: Server, tmp_path: Path, tiny_bundle: Path, pictures: list[Path], name: str, count: int
) -> None:
    killed_evaluations(server, tmp_path, tiny_bundle, pictures, name, count)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SIGNALS)
def test_evaluate_in_two_processes(
    server: Server, tmp_path: Path, tiny_bundle: Path, pictures: list[Path], name: str, count: int
) -> None:
    killed_evaluations(server, tmp_path, tiny_bundle, pictures, name, count, workers=2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(
    server: Server, tmp_path: Path, small_disk: Path, tiny_onnx: Path, tiny_bundle: Path, pictures: list[Path]
) -> None:
    """Room for a part of the results only: one line, nothing half-written; with room again everything comes."""
    filler = small_disk / "filler"
    export = ("export", tiny_onnx, "-o", small_disk / "m.sise", "--normalize", "tf")
    explain = ("explain", tiny_bundle, *pictures, "-o", small_disk / "out", "--provider", "cpu")
    data = pictures[0].parent.parent
    evaluate = (
        "evaluate", tiny_bundle, "--dataset", "folder", data, "-o", small_disk / "e", "--provider", "cpu", "--steps", 4,
        "--metrics", "drop", "--methods", "gradcam",
    )  # fmt: skip
    for words, folder in ((export, "m.sise"), (explain, "out"), (evaluate, "e")):
        for left in (0, 16, 40):
            filler.write_bytes(b"\0" * ((3 << 20) - (left << 10)))
            done = server.run(*words)
            assert done["code"] in (0, 1) and "Traceback" not in done["errors"], done["errors"]
            assert hidden(small_disk) == []
            if done["code"]:
                errors = [line for line in done["errors"].splitlines() if line.startswith("Error: ")]
                assert len(errors) == 1, done["errors"]
            if folder == "m.sise" and (small_disk / folder).exists():
                exported(small_disk / folder)
            elif folder == "out":
                read_results(small_disk / folder)
            if not done["code"]:
                shutil.rmtree(small_disk / folder)
        filler.unlink()
        server.whole(*words)
        assert hidden(small_disk) == []
        shutil.rmtree(small_disk / folder)
        del words


def test_files_that_may_not_grow(
    server: Server, tmp_path: Path, tiny_onnx: Path, tiny_bundle: Path, pictures: list[Path]
) -> None:
    """The system refuses files over a size: as with a full disk, one line and nothing half-written."""
    export = ("export", tiny_onnx, "-o", tmp_path / "m.sise", "--normalize", "tf")
    done = server.run(*export, file_size=2000)
    assert done["code"] == 1 and "Traceback" not in done["errors"], done["errors"]
    assert not (tmp_path / "m.sise").exists() and hidden(tmp_path) == []
    done = server.run("explain", tiny_bundle, *pictures, "-o", tmp_path / "out", file_size=1000)
    assert done["code"] == 1 and "Traceback" not in done["errors"], done["errors"]
    assert read_results(tmp_path / "out") == {} and hidden(tmp_path / "out") == []
