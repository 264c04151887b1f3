"""Runs the server: listening, signals, and several processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import uvicorn

from sise_ort.errors import ParameterError, SiseError, option
from sise_ort.line.server.app import application
from sise_ort.line.server.connections import patient
from sise_ort.line.server.metrics import PROCESSES, Metrics
from sise_ort.line.server.models import Models, Options
from sise_ort.line.server.settings import Settings

MOST_CONNECTIONS = 1000
BACKLOG = 1024
SIGNALS = (signal.SIGINT, signal.SIGTERM)
FAILED = 3
"""Exit code of a process whose application cannot start."""


@dataclass(frozen=True)
class Place:
    """Where the server listens.

    Attributes
    ----------
    host : str
    port : int
        0 for any that is free.
    token : str or None
        The bearer token that requests must bear.
    workers : int
        Processes; each loads the bundles.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    workers: int = 1


def listen(place: Place) -> socket.socket:
    """Open the socket.

    Raises
    ------
    ParameterError
        Nothing can listen there.
    """
    try:
        family = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0][0]
        # asyncio turns delays off only for sockets that name TCP
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((place.host, place.port))
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError) as error:
        raise ParameterError(
            f"nothing can listen at {place.host}:{place.port} ({error}): take another {option('port')} or {option('host')}"
        ) from error
    listening.listen(BACKLOG)
    listening.set_inheritable(True)
    return listening


def address_of(listening: socket.socket) -> str:
    """The address of a socket as browsers write it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, which ends with exit code 0 where a signal stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def server_of(options: Options, settings: Settings, token: str | None) -> Server:
    """A server that is ready to run, its bundles loaded.

    Raises
    ------
    SiseError
        A bundle cannot be loaded.
    """
    metrics = Metrics()
    models = Models(options, settings, metrics)
    config = uvicorn.Config(
        application(lambda: models, settings, token, metrics),
        http=patient(settings.upload_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(max(settings.stop_seconds, 1)),
    )
    return Server(config)


def run(options: Options, settings: Settings, place: Place, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, and end what has begun.

    Raises
    ------
    SiseError
        A bundle cannot be loaded.
    """
    if place.workers == 1:
        _serve(server_of(options, settings, place.token), listening)
    else:
        _run_processes(options, settings, place, listening)


def _serve(server: Server, listening: socket.socket) -> None:
    asyncio.run(server.serve(sockets=[listening]))


def _run_processes(options: Options, settings: Settings, place: Place, listening: socket.socket) -> None:
    """Serve by several processes that share a socket; one that ends is replaced."""
    folder = tempfile.mkdtemp(prefix="sise-ort-metrics-")
    os.environ[PROCESSES] = folder
    context = multiprocessing.get_context("spawn")
    arguments = (options, settings, place.token, listening)
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    def started() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=_process, args=arguments)
        process.start()
        return process

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    processes = [started() for _ in range(place.workers)]
    try:
        while not stopping.wait(0.2):
            for i, process in enumerate(processes):
                if process.exitcode == FAILED:
                    raise SiseError("a process of the server cannot start; the lines above say why")
                if process.exitcode is not None:
                    from prometheus_client import multiprocess

                    multiprocess.mark_process_dead(process.pid, folder)  # type: ignore[no-untyped-call]
                    logging.getLogger("sise_ort.serve").error(
                        "process %s ended (%s): another takes its place", process.pid, process.exitcode
                    )
                    time.sleep(0.5)
                    processes[i] = started()
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            process.join(settings.stop_seconds + 30)
            if process.is_alive():
                process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(folder, ignore_errors=True)


def _process(options: Options, settings: Settings, token: str | None, listening: socket.socket) -> None:
    """One process of several."""
    write_log()
    try:
        _serve(server_of(options, settings, token), listening)
    except SiseError as error:
        logging.getLogger("sise_ort.serve").error("%s", error)
        sys.exit(FAILED)


def write_log() -> None:
    """Write lines about requests and failures to standard error; never what pictures show."""
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (("sise_ort.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.handlers[:] = [lines]
