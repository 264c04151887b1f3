"""How a command ends: orderly, with one line and an exit code for every error.

0 done · 1 failed, or nobody reads the output any more · 2 wrong usage · 70 a bug in sise-ort · 129, 130, 143 stopped by
SIGHUP, SIGINT, SIGTERM.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from sise_ort.errors import ParameterError, SiseError, on_command_line, printable, shortened

TRACEBACK = "SISE_ORT_TRACEBACK"
BUG = 70
WAIT_FOR_IMPORTS = 0.05
"""Seconds after which a signal that came during an import comes again."""


class Stopped(BaseException):
    """A signal asked this process to end; unwinds like KeyboardInterrupt, so that nothing is left half-written.

    Parameters
    ----------
    number : int
        The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Turn every way in which a command can end into an exit code, with one line on standard error where it failed.

    Raises
    ------
    SystemExit
    """
    complete_streams()
    with _signals():
        try:
            yield
            sys.stdout.flush()
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, a user reads one line
            leave(error)


def leave(error: BaseException) -> NoReturn:
    """End the process as this error asks for: one line on standard error, and its exit code."""
    if os.environ.get(TRACEBACK, "") not in ("", "0") and not isinstance(error, click.exceptions.Exit):
        with contextlib.suppress(OSError, ValueError):
            print(printable_traceback(error), file=sys.stderr)
    code, line = ending(error)
    try:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
            click.echo(f"Try '{error.ctx.command_path} --help' for help.", err=True)
        if line:
            click.echo(line, err=True)
        sys.stdout.flush()
    except (OSError, ValueError):  # standard output or standard error is full, closed or gone
        _drop_streams()
    raise SystemExit(code) from None


def ending(error: BaseException) -> tuple[int, str]:
    """The exit code and the one line for an error.

    Returns
    -------
    code : int
    line : str
        Empty where nothing is to be said.
    """
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code, ""
    if isinstance(error, click.Abort) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return 130, "Stopped."
    if isinstance(error, Stopped):
        return 128 + error.number, f"Stopped by {signal.Signals(error.number).name}."
    if isinstance(error, click.ClickException):
        return error.exit_code, _line(error.format_message())
    if isinstance(error, SiseError):
        return (2 if isinstance(error, ParameterError) else 1), f"Error: {on_command_line(error)}"
    if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno == errno.EPIPE):
        return 1, ""  # as click does where it meets it first
    if isinstance(error, MemoryError):
        return 1, _line("there is not enough memory: take smaller pictures or a smaller --batch-size")
    if isinstance(error, OSError) and error.errno is not None:
        place = f"'{os.fsdecode(error.filename)}': " if isinstance(error.filename, (str, bytes)) else ""
        name = errno.errorcode.get(error.errno, str(error.errno))
        return 1, _line(f"{place}{os.strerror(error.errno)} ({name})")
    if isinstance(error, ImportError) and not (error.name or "").startswith("sise_ort"):
        return 1, _line(f"a package is missing or broken: {error}; `sise-ort doctor` shows what is installed")
    return BUG, _line(_bug(error))


def complete_streams() -> None:
    """Make the standard streams safe: open, and able to write any character.

    A closed descriptor 0, 1 or 2 would be given to the next file that is opened, and messages of C libraries would be
    written into it. Characters that an encoding lacks are written as `\\xe9`.
    """
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable_traceback(error: BaseException) -> str:
    """The whole traceback, its lines made harmless for a terminal."""
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    return "\n".join(" " * (len(line) - len(line.lstrip())) + printable(line) for line in lines)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Stopped` in the main thread, SIGINT KeyboardInterrupt; a second one ends the process at once.

    During an import they wait: C extensions crash where an exception comes out of Python code that they call as they are
    loaded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        if _importing(frame):
            again = threading.Timer(WAIT_FOR_IMPORTS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        for other in before:
            signal.signal(other, signal.SIG_DFL)
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        number = getattr(signal, name, None)
        usual = (signal.SIG_DFL, signal.default_int_handler)
        if number is not None and signal.getsignal(number) in usual:  # nohup's SIG_IGN stays
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    """Whether this frame belongs to an import that the command line has begun."""
    while frame is not None and "LazyGroup" not in frame.f_globals:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _line(message: str) -> str:
    return f"Error: {shortened(printable(message))}"


def _bug(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{_own(f.filename)}:{f.lineno}" for f in frames if _own(f.filename)]
    place = f" in {places[-1]}" if places else ""
    message = shortened(printable(error), 200)
    return (
        f"this is a bug in sise-ort, please report it: {type(error).__name__}{place}: {message}. "
        f"Set {TRACEBACK}=1 to see where it comes from"
    )


def _own(path: str) -> str | None:
    """A file of this package below its root; None for other packages' files."""
    with contextlib.suppress(ValueError):
        place = Path(path).relative_to(Path(__file__).resolve().parents[1])
        return None if "site-packages" in place.parts else str(place)
    return None


def _drop_streams() -> None:
    """Let nothing be written any more, so that Python's own flush at the end does not fail."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
