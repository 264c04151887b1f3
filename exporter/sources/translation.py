"""Errors of other libraries, turned into one of ours where a model enters."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from sise_ort.errors import ExportError, SiseError, first_line


@contextlib.contextmanager
def translated(what: str, kind: type[ExportError] = ExportError) -> Iterator[None]:
    """Turn any error of onnx, onnx_ir, protobuf, onnxruntime or NumPy into one `ExportError`.

    A file can be wrong in more ways than can be listed; each library has its own errors for them. Our own errors,
    MemoryError, a full disk and interruptions pass; the cause is kept as ``__cause__``.

    Parameters
    ----------
    what : str
        What cannot be done, as the beginning of a sentence: "'model.onnx' cannot be read".
    kind : type
        The error to raise.

    Raises
    ------
    ExportError
        In place of any other error.
    """
    try:
        yield
    except (SiseError, MemoryError):
        raise
    except RecursionError as error:
        raise kind(f"{what}: it is nested too deeply") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        cause = innermost(error)
        raise kind(f"{what}: {_reason(cause)}") from error


def innermost(error: BaseException) -> BaseException:
    """The cause that an error was raised from: libraries wrap it in words about themselves."""
    for _ in range(10):
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    """The error's message; with the kind of error in front where it is no sentence, as that of a KeyError."""
    words = first_line(error)
    sentence = isinstance(error, (ValueError, RuntimeError, TypeError)) and len(words.split()) > 2
    return words if sentence else f"{type(error).__name__}: {words}"
