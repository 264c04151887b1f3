"""Every way in which a command can end: its exit code, one line, no traceback, what was open is closed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from sise_ort.cli.exits import Stopped
from sise_ort.cli.main import LazyGroup, main
from sise_ort.errors import BundleError, ExportError, ParameterError, option


def run_and_raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    @click.command("fail")
    def fail() -> None:
        raise error

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: fail)
    return CliRunner().invoke(main, ["fail"])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ExportError(f"pass {option('layers')}"), 1, "Error: pass --layers"),
        (ParameterError(f"pass {option('graphs')}"), 2, "Error: pass --with"),
        (BundleError("label \x1b[31m\ud800\u202e"), 1, r"Error: label \x1b[31m\ud800\u202e"),
        (click.UsageError("no\x1b[2J"), 2, r"Error: no\x1b[2J"),
        (click.Abort(), 130, "Stopped."),
        (KeyboardInterrupt(), 130, "Stopped."),
        (Stopped(signal.SIGTERM), 143, "Stopped by SIGTERM."),
        (Stopped(signal.SIGHUP), 129, "Stopped by SIGHUP."),
        (MemoryError(), 1, "Error: there is not enough memory: take smaller pictures or a smaller --batch-size"),
        (OSError(errno.ENOSPC, "x", "a\x1b"), 1, r"Error: 'a\x1b': No space left on device (ENOSPC)"),
        (BrokenPipeError(), 1, None),
        (OSError(errno.EPIPE, "pipe"), 1, None),
        (ImportError("libfoo.so is missing", name="cv2"), 1, "Error: a package is missing or broken: libfoo.so"),
        (ZeroDivisionError("1/0\n2/0"), 70, "Error: this is a bug in sise-ort, please report it: ZeroDivisionError"),
        (RecursionError(), 70, "Error: this is a bug in sise-ort"),
        (SystemExit(1), 1, None),
    ],
)  # fmt: skip
def test_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str | None
) -> None:
    result = run_and_raise(monkeypatch, error)
    assert result.exit_code == code, result.output
    lines = [
        words for words in result.stderr.splitlines() if not words.startswith(("Usage: ", "Try '")) and words
    ]
    assert len(lines) == (line is not None) and result.stdout == ""
    if line:
        assert lines[0].startswith(line) and len(lines[0]) <= 510
    assert "Traceback" not in result.output


def test_a_bug_names_its_place_and_the_way_to_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise LookupError("so" * 5000)

    monkeypatch.setattr(LazyGroup, "get_command", broken)
    result = CliRunner().invoke(main, ["layers"])
    assert (
        result.exit_code == 70
        and "SISE_ORT_TRACEBACK=1" in result.stderr
        and "LookupError in " in result.stderr
    )
    assert "Traceback" not in result.stderr and len(result.stderr) < 500
    monkeypatch.setenv("SISE_ORT_TRACEBACK", "1")
    result = CliRunner().invoke(main, ["layers"])
    assert result.exit_code == 70 and "Traceback (most recent call last)" in result.stderr


def test_a_nul_in_the_command_line_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["layers", "a\0b"])
    assert result.exit_code == 2 and "NUL" in result.stderr and "Traceback" not in result.output


def test_the_handlers_of_signals_are_as_before() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0
    assert CliRunner().invoke(main, ["--nothing"]).exit_code == 2
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


WAITING = """
import sys, time, contextlib, click
from pathlib import Path
from sise_ort.cli.main import LazyGroup, main

@click.command("wait")
def wait():
    half = Path(sys.argv[2])
    try:
        half.write_text("half")
        print("ready", flush=True)
        time.sleep(60)
    finally:
        half.unlink()

LazyGroup.get_command = lambda *_: wait
sys.argv[1:2] = []
half = sys.argv[1]
sys.argv = ["sise-ort", "wait", half]
main(["wait"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_unwinds(tmp_path: Path, number: str) -> None:
    half = tmp_path / "half"
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, "wait", half], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n" and half.exists()
    process.send_signal(getattr(signal, number))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, number)
    assert errors.strip().startswith("Stopped") and len(errors.strip().splitlines()) == 1
    assert not half.exists()


def command(*words: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    arguments = [sys.executable, "-m", "sise_ort.cli.main", *words]
    return subprocess.run(
        arguments, capture_output="stdout" not in settings, timeout=60, check=False, **settings
    )


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of Unix")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_are_never_given_to_a_file(tmp_path: Path, closed: tuple[int, ...]) -> None:
    code = (
        "import os\n"
        "from sise_ort.cli.exits import complete_streams\n"
        "complete_streams()\n"
        f"file = open({str(tmp_path / 'mine')!r}, 'wb')\n"
        "assert file.fileno() > 2\n"
        "os.write(1, b'noise'), os.write(2, b'noise')\n"
        "print('noise'), file.write(b'mine'), file.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, preexec_fn=lambda: [os.close(d) for d in closed]
    )
    assert done.returncode == 0 and (tmp_path / "mine").read_bytes() == b"mine"
    done = subprocess.run(
        [sys.executable, "-m", "sise_ort.cli.main", "--version"],
        check=False,
        preexec_fn=lambda: [os.close(d) for d in closed],
    )
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = command("--help", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["Error: No space left on device (ENOSPC)"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Unix")
def test_a_reader_who_went_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    with contextlib.closing(os.fdopen(write, "w")) as pipe:
        done = command("--help", stdout=pipe, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr == b""


@pytest.mark.skipif(sys.platform == "win32", reason="file names are bytes on Unix")
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_file_name_can_be_printed(tmp_path: Path, encoding: str) -> None:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    name = os.fsdecode(b"caf\xe9-\x1b[31m-\xe7\x8c\xab.onnx")
    done = command("layers", name, cwd=tmp_path, env=environment)  # no HOME, no TERM, no locale
    assert done.returncode == 1 and done.stdout == b""
    assert b"\x1b" not in done.stderr and rb"\x1b[31m" in done.stderr and b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_waits_for_an_import(tmp_path: Path, number: str) -> None:
    """C extensions that are being loaded crash where an exception comes out of a handler."""
    (tmp_path / "module_in_the_making.py").write_text(
        f"import os, signal, time\nos.kill(os.getpid(), signal.{number})\ntime.sleep(0.1)\nprint('whole', flush=True)"
    )
    code = (
        "import time, click\nfrom sise_ort.cli.main import LazyGroup, main\n"
        "@click.command('x')\ndef x():\n    import module_in_the_making\n    time.sleep(30)\n"
        "LazyGroup.get_command = lambda *_: x\nmain(['x'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=False, timeout=60, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert done.stdout == "whole\n" and done.returncode == 128 + getattr(signal, number)
    assert len(done.stderr.strip().splitlines()) == 1
