"""A PostgreSQL server of a test's own, in a folder of its own, without the network."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Server:
    """A PostgreSQL server that can be stopped and started.

    Parameters
    ----------
    folder : Path
        Where its data and its socket are; short, as names of sockets must be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._user = "postgres" if os.getuid() == 0 else None  # it refuses root
        if self._user:
            shutil.chown(folder, self._user)
        self._call("initdb", "-D", "data", "-A", "trust", "-U", "postgres", "--no-sync")
        self.start()

    @property
    def url(self) -> str:
        """Where its database `postgres` is."""
        return f"postgresql://postgres@/postgres?host={self._folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off"
        self._call("pg_ctl", "-D", "data", "-w", "-o", options, "-l", "log", "start")

    def stop(self) -> None:
        """Stop it at once, as a power cut would."""
        self._call("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def psql(self, statement: str) -> str:
        """What a statement gives."""
        done = self._call("psql", "-h", str(self._folder), "-U", "postgres", "-At", "-c", statement)
        return done.stdout.strip()

    def _call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self._folder, user=self._user, check=True, text=True, stdin=subprocess.DEVNULL,
            stdout=None if words[0] == "pg_ctl" and words[-1] == "start" else subprocess.PIPE,
        )  # fmt: skip


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    """A running server, which is gone afterwards.

    Raises
    ------
    FileNotFoundError
        PostgreSQL is not installed.
    """
    if shutil.which("initdb") is None:
        raise FileNotFoundError("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="sise-pg-", dir="/tmp"))
    try:
        server = Server(folder)
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
