"""Errors with a status code: what was asked cannot be done, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sise_ort.errors import (
    BundleError,
    ClosedError,
    FrameError,
    ParameterError,
    SiseError,
    TargetError,
    printable,
    shortened,
)


class Refusal(Exception):
    """An answer with a status code of 400 or more.

    Parameters
    ----------
    status : int
        HTTP status code.
    message : str
        What is wrong, and what to do.
    field : str
        The field of the request that is wrong, "" where it is none.
    headers : mapping
        Further headers of the answer.
    """

    def __init__(
        self, status: int, message: str, field: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.field = status, field
        self.message = shortened(printable(message))
        self.headers = dict(headers or {})

    def body(self) -> dict[str, str]:
        """The answer's JSON, ``{"error": …}``, with the field's name where there is one."""
        return {"error": self.message, **({"field": self.field} if self.field else {})}


def refusal_of(error: Exception, field: str = "") -> Refusal:
    """The answer to a request that failed with an error of this package, or any other."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ClosedError):
        return Refusal(503, "the server is stopping")
    if isinstance(error, TargetError) and not field:
        return Refusal(400, f"target: {error}", "target")
    if isinstance(error, (FrameError, TargetError, ParameterError, BundleError)):
        return Refusal(400, str(error), field)
    if isinstance(error, SiseError):
        return Refusal(500, str(error))
    return Refusal(500, "the server has failed; its log says where")


@contextmanager
def about(field: str) -> Iterator[None]:
    """Turn errors of what stands inside into refusals that name the field."""
    try:
        yield
    except SiseError as error:
        found = refusal_of(error, field)
        named = found.message if field in found.message else f"{field}: {found.message}"
        raise Refusal(found.status, named, field) from error
