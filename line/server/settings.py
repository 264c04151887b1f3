"""What a server allows: sizes, seconds, and how many requests may wait."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, fields
from pathlib import Path

from sise_ort.errors import ParameterError, option, shown

MIB = 1 << 20
TOKEN_VARIABLE = "SISE_ORT_TOKEN"
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Settings:
    """What a server allows.

    Parameters
    ----------
    queue : int
        Pictures that may wait for each model; more are answered with 429.
    max_upload : int
        Bytes of one request's body.
    max_pixels : int
        Pixels of one picture.
    max_pictures : int
        Pictures of one request.
    max_targets : int
        Targets of one picture.
    max_memory : int
        Bytes of all uploads and decoded pictures that are held at once.
    upload_seconds : float
        Seconds that sending a request's headers, and then its body, may take.
    request_seconds : float
        Seconds from a picture's arrival to its answer.
    stop_seconds : float
        Seconds that requests which have begun get when the server is stopped.
    exact : bool
        Whether pictures of different requests never share a batch, so that each answer is, bit for bit on a CPU, that of a call alone.

    Raises
    ------
    ParameterError
        A number is not positive.
    """

    queue: int = 64
    max_upload: int = 32 * MIB
    max_pixels: int = 1 << 25
    max_pictures: int = 32
    max_targets: int = 16
    max_memory: int = 1024 * MIB
    upload_seconds: float = 20.0
    request_seconds: float = 300.0
    stop_seconds: float = 60.0
    exact: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "exact" and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise ParameterError(f"{option(field.name)} is {shown(value)}; it must be a positive number")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: str | Path | None, variable: str | None) -> str | None:
    """The bearer token from a file, else from the environment; None where neither is given.

    Parameters
    ----------
    file : str, Path or None
        A file with the token in its first line.
    variable : str or None
        Content of the environment variable SISE_ORT_TOKEN.

    Raises
    ------
    ParameterError
        The file cannot be read, or the token is too short or holds other characters than visible ASCII.
    """
    where = f"the environment variable {TOKEN_VARIABLE}"
    if file is not None:
        where = f"{option('token_file')} '{file}'"
        try:
            with Path(file).open(encoding="utf-8") as stream:
                token = stream.readline(4096).strip()
        except (OSError, ValueError) as error:
            raise ParameterError(f"{where} cannot be read: {error}") from error
    elif variable is None:
        return None
    else:
        token = variable.strip()
    if len(token) < SHORTEST_TOKEN or not all("!" <= sign <= "~" for sign in token):
        raise ParameterError(
            f"{where} holds no token: at least {SHORTEST_TOKEN} visible ASCII characters are needed, such as those of "
            "`openssl rand -hex 32`"
        )
    return token


def require_token(host: str, token: str | None) -> None:
    """Refuse to listen without a token where other machines can connect.

    Raises
    ------
    ParameterError
    """
    if token is None and not is_loopback(host):
        raise ParameterError(
            f"{option('host')} {host} can be reached from other machines: give a token by {option('token_file')} or by "
            f"the environment variable {TOKEN_VARIABLE}, or listen on 127.0.0.1"
        )
