"""What `sise-ort watch` does once its words are read: opens everything, shows how it goes, and ends in order."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.status import Status
from rich.text import Text

import sise_ort
from sise_ort.cli.console import errors, say
from sise_ort.cli.options import method_parameters, pairs
from sise_ort.errors import ParameterError, printable, shown
from sise_ort.line.evidence import Evidence
from sise_ort.line.line import Line
from sise_ort.line.regions import RegionSettings
from sise_ort.line.settings import LineSettings
from sise_ort.line.sinks import Sink
from sise_ort.line.sinks.opening import open_mqtt, open_webhook
from sise_ort.line.sources import SourceSettings, open_source
from sise_ort.line.submitting import check_name
from sise_ort.line.watching import Watch, tell_head
from sise_ort.runtime.checking import Checks

EVERY = 1.0
"""Seconds between two states of the status line."""
QUIET = 60.0
"""Seconds between two messages about the state where standard error is no terminal."""


def watch(source: str, bundle: str, given: Mapping[str, Any]) -> None:
    """Run the line until its source ends or a signal stops it.

    Parameters
    ----------
    source, bundle : str
        As on the command line.
    given : mapping
        Values of the command's options by their Python names.

    Raises
    ------
    SiseError
        Something cannot be opened.
    """
    check_name(given["name"])
    _write_log()
    if given["part_mask"] is not None and not given["checks"]:
        raise click.UsageError("--part-mask needs --checks")
    settings = LineSettings(
        queue=given["queue"],
        rejects=given["rejects"],
        policy=given["policy"],
        parameters=method_parameters("sise", given["settings"]),
        frames=given["frames"],
        regions=RegionSettings(
            mm_per_pixel=given["mm_per_pixel"], grid=_grid(given["grid"]), zones=_zones(given["zones"])
        ),
        sinks=_sinks(given["webhooks"], given["brokers"]),
        spool=None if given["spool"] is None else Path(given["spool"]),
        checks=given["checks"] and Checks(given["part_mask"]),
    )
    deadline = given["deadline_ms"]
    stop = threading.Event()
    with _signals(stop), contextlib.ExitStack() as stack:
        evidence = stack.enter_context(Evidence(given["evidence"], given["files"]))
        frames = open_source(source, _source_settings(given, evidence))
        explainer = stack.enter_context(
            sise_ort.load(
                bundle,
                given["provider"],
                given["batch_size"],
                given["threads"],
                trusted=not given["untrusted"],
                precision=given["precision"],
            )
        )
        line = stack.enter_context(
            Line(
                explainer,
                evidence,
                name=given["name"],
                explain=given["explain"],
                threshold=given["threshold"],
                deadline=None if deadline is None else deadline / 1000,
                settings=settings,
            )
        )
        _serve_metrics(given["metrics"], line)
        work = Watch(line, frames, _print_json if given["as_json"] else None)
        say(f"line '{line.name}' watches {frames.words}; evidence goes to {given['evidence']}")
        with _status(line, stop):
            work.run(stop)
            if stop.is_set():
                say("stopping: what was begun is finished")
        line.finish()
        tell_head(line)
        line.close()
        status = line.status()
        say(_words(status))
        if status["unkept"]:
            say(f"{status['unkept']} parts have no record: {status['store'] or 'see the messages above'}")
            raise click.exceptions.Exit(1)


def _source_settings(given: Mapping[str, Any], evidence: Evidence) -> SourceSettings:
    own = [evidence.database.folder, *(Path(given[n]) for n in ("spool", "into") if given[n] is not None)]
    if "://" not in evidence.database.files_place:
        own.append(Path(evidence.database.files_place))
    into = given["into"]
    if into is not None and given["after"] == "keep":
        raise ParameterError("--into says where pictures are moved; it goes with --after move")
    more = {"patterns": given["patterns"]} if given["patterns"] else {}
    return SourceSettings(
        settle=given["settle_ms"] / 1000,
        move=given["after"] == "move",
        into=None if into is None else Path(into),
        exclude=tuple(path for path in own if path is not None),
        once=given["once"],
        every=given["every"],
        **more,
    )


def _sinks(webhooks: Sequence[str], brokers: Sequence[str]) -> tuple[Sink, ...]:
    return (*map(open_webhook, webhooks), *map(open_mqtt, brokers))


def _grid(words: str | None) -> tuple[int, int] | None:
    if words is None:
        return None
    found = re.fullmatch(r"([0-9]{1,3})[x×]([0-9]{1,3})", words)
    if found is None:
        raise ParameterError(f"--grid is {shown(words)}; rows and columns such as 2x8 are needed")
    return int(found[1]), int(found[2])


def _zones(words: Sequence[str]) -> dict[str, tuple[float, float, float, float]]:
    found = {}
    for name, text in pairs(words, "--zone", "NAME=TOP,LEFT,BOTTOM,RIGHT").items():
        try:
            top, left, bottom, right = map(float, text.split(","))
        except ValueError as error:
            raise ParameterError(
                f"--zone {shown(name)} is {shown(text)}; NAME=TOP,LEFT,BOTTOM,RIGHT in pixels is needed"
            ) from error
        found[name] = (top, left, bottom, right)
    return found


def _serve_metrics(place: str | None, line: Line) -> None:
    if place is None:
        return
    from sise_ort.line.metrics import LineMetrics

    host, _, port = place.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise ParameterError(f"--metrics is {shown(place)}; a port such as 9108, or HOST:PORT, is needed")
    metrics = LineMetrics()
    metrics.add(line)
    host = host.strip("[]") or "127.0.0.1"
    say(f"metrics at http://{host}:{metrics.serve(int(port), host)}/metrics")


def _print_json(row: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody reads any more; the records are what counts
        sys.stdout.write(json.dumps(row, ensure_ascii=True) + "\n")
        sys.stdout.flush()


def _words(status: Mapping[str, Any]) -> str:
    """How a line does, in one sentence."""
    words = [f"{status['submitted']} parts", f"{status['rejected']} rejected"]
    words += [f"{status[name]} {name}" for name in ("failed", "unclassified") if status[name]]
    if status["rejected"]:
        words.append(f"{100 * status['share_in_time']:.1f} % explained in time")
    if status["explained_dropped"]:
        words.append(f"{status['explained_dropped']} without a map")
    for queue, noun in (("frames", "frames"), ("rejects", "rejects"), ("records", "records")):
        if status[f"waiting_{queue}"]:
            words.append(f"{status[f'waiting_{queue}']} {noun} wait")
    if status["spool"]:
        words.append(f"{status['spool']} records in the spool")
    if status["store"]:
        words.append(f"records cannot be written: {status['store']}")
    words += [f"sink {name} is not reached: {why}" for name, why in status["sinks"].items() if why]
    return ", ".join(words)


@contextlib.contextmanager
def _status(line: Line, stop: threading.Event) -> Iterator[None]:
    """Show how the line does: on a terminal as one line that changes, elsewhere every minute where something happened."""
    over = threading.Event()

    def show() -> None:
        told, moment = "", time.monotonic()
        with Status("", console=errors) if errors.is_terminal else contextlib.nullcontext() as shown_there:
            while not over.wait(EVERY):
                words = printable(_words(line.status()))
                if shown_there is not None:
                    shown_there.update(Text(words))
                elif words != told and time.monotonic() - moment >= QUIET:
                    say(words)
                    told, moment = words, time.monotonic()

    thread = threading.Thread(target=show, name="status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write_log() -> None:
    """Write the line's messages to standard error, each as one line."""
    log = logging.getLogger("sise_ort.line")
    if not log.handlers:
        handler = logging.Handler()
        handler.emit = lambda record: say(record.getMessage())  # type: ignore[method-assign]
        log.addHandler(handler)
        log.propagate = False


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """The first SIGTERM, SIGHUP or Ctrl-C stops the source; a second one ends the process as any command's."""
    before: dict[int, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        for other, handler in before.items():
            signal.signal(other, handler)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
