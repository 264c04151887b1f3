"""Runs command lines in forks of a process that has imported everything, and sends them a signal after a while.

Reads JSON lines {"words", "after", "signal", "group", "file_size"} and answers {"code", "seconds", "errors", "left"}; `after`
None lets the command end. `group` sends the signal to all its processes, as a terminal does with Ctrl-C; "left" are those
that were still there 20 s after the command. `file_size` limits every file's bytes, as a full disk does.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sise_ort.cli.main import COMMANDS, main


def answer(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        child = os.fork()
        if not child:
            os.dup2(errors.fileno(), 2)
            faulthandler.enable(2)  # where it crashes, if it does
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.setsid()  # as the shell's job has a group of its own
            if request.get("file_size"):
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
            code = 1
            try:
                main([str(word) for word in request["words"]])
            except SystemExit as error:
                code = int(error.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        if request["after"] is not None:
            time.sleep(request["after"])
            # not yet reaped, so that the number is still its own
            (os.killpg if request.get("group") else os.kill)(child, request["signal"])
        _, status = os.waitpid(child, 0)
        seconds = time.perf_counter() - began
        left = still_there(child)
        errors.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": seconds,
            "errors": errors.read().decode(errors="replace"),
            "left": left,
        }


def still_there(session: int) -> list[str]:
    """Command lines of the processes of a session that do not end by themselves."""
    end = time.monotonic() + 20
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                state, _, _, own = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(own) == session and state != "Z":
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.02)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for command in COMMANDS:
        importlib.import_module(f"sise_ort.cli.{command}")
    for module in (
        "exporter.export",
        "runtime.explainer",
        "runtime.evaluation",
        "datasets",
        "cli.evaluation.plots",
    ):
        importlib.import_module(f"sise_ort.{module}")
    with contextlib.suppress(ImportError):
        importlib.import_module("matplotlib.pyplot")
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
