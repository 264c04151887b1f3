from __future__ import annotations

import socket

import pytest

pytest.importorskip("fastapi")

from sise_ort.errors import ParameterError
from sise_ort.line.server.running import Place, address_of, listen


def test_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle's delay off, 40 ms an answer, only for sockets that name TCP."""
    with listen(Place(port=0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP
        assert address_of(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_port_that_is_taken_is_one_error() -> None:
    with listen(Place(port=0)) as listening:
        for place in (
            Place(port=listening.getsockname()[1]),
            Place("no such host", 0),
            Place("192.0.2.1", 0),
        ):
            with pytest.raises(ParameterError, match="nothing can listen at"):
                listen(place)
