"""One process at a time writes to the folder of an evaluation."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sise_ort.errors import OutputError, option

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows; SQLite itself keeps two writers apart there
    fcntl = None  # type: ignore[assignment]

LOCK = ".evaluation.lock"


class FolderLock:
    """A lock on a folder that the system lets go of when this process ends, however it ends.

    Parameters
    ----------
    folder : Path
        An existing folder; takes the file ``.evaluation.lock`` for as long as the lock is held.

    Raises
    ------
    OutputError
        Another process holds it.
    OSError
        The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._number = -1
        while fcntl is not None:
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(number, 20).decode(errors="replace").strip()
                os.close(number)
                raise OutputError(
                    f"another evaluation{f' (process {holder})' if holder else ''} is writing to '{folder}': wait "
                    f"until it ends, or choose another folder with {option('folder')}"
                ) from error
            except OSError:  # a file system without locks: SQLite still keeps two writers apart
                os.close(number)
                return
            if self._is_there(number):
                break
            os.close(number)  # its holder removed it between our opening and locking it
        else:
            return
        self._number = number
        with suppress(OSError):  # the number is for people only
            os.ftruncate(number, 0)
            os.write(number, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let go of the lock and remove its file."""
        if self._number < 0:
            return
        with suppress(OSError):
            self.path.unlink()
        os.close(self._number)
        self._number = -1

    def _is_there(self, number: int) -> bool:
        try:
            there = self.path.stat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(number))
