"""Tells an MQTT broker about parts, as plain JSON."""

from __future__ import annotations

import re
import ssl
import threading
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from sise_ort.errors import OutputError, first_line
from sise_ort.line.evidence.outbox import Waiting

SECONDS = 10.0
"""Longest time that a broker may take to answer."""


class Mqtt:
    """Publishes each message with quality of service 1, and counts it as taken when the broker has acknowledged it.

    Parameters
    ----------
    host, port : str, int
        The broker.
    topic : str
        In front of all topics.
    name : str
        Under which messages wait.
    user, password : str, optional
        For the broker.
    tls : bool
        Encrypt the connection, and check the broker's certificate.
    seconds : float
        Longest time that an answer may take.

    Notes
    -----
    Topics are ``TOPIC/LINE/parts`` and ``TOPIC/LINE/heads``; in a line's name, what has a meaning in topics becomes a dash.
    """

    def __init__(
        self,
        host: str,
        port: int = 1883,
        topic: str = "sise-ort",
        name: str = "mqtt",
        *,
        user: str | None = None,
        password: str | None = None,
        tls: bool = False,
        seconds: float = SECONDS,
    ) -> None:
        self.name, self._host, self._port, self._topic, self._seconds = name, host, port, topic, seconds
        self._user, self._password, self._tls = user, password, tls
        self._client: mqtt.Client | None = None
        self._answered, self._refused = threading.Event(), ""

    def deliver(self, message: Waiting) -> None:
        """Publish a message, and wait until the broker has it; see `Sink`."""
        try:
            client = self._connected()
            kind = {"part": "parts", "head": "heads"}.get(message.kind, message.kind)
            line = re.sub(r"[/+#\x00]", "-", message.line)
            sent = client.publish(f"{self._topic}/{line}/{kind}", message.message, qos=1)
            sent.wait_for_publish(self._seconds)
            taken = sent.is_published()
        except (OSError, ValueError, RuntimeError) as error:
            self._disconnect()
            raise OutputError(f"{type(error).__name__}: {first_line(error)}") from error
        if not taken:
            self._disconnect()  # the client forgets the message: the outbox sends it again
            raise OutputError(f"the broker has not acknowledged it within {self._seconds:g} s")

    def close(self) -> None:
        """End the connection."""
        self._disconnect()

    def _connected(self) -> mqtt.Client:
        if self._client is not None and self._client.is_connected():
            return self._client
        self._disconnect()
        self._answered.clear()
        self._refused = ""
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2
        )  # a new one: the old one would send again what it still holds
        client.connect_timeout = self._seconds
        client.on_connect = self._on_connect
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        if self._tls:
            client.tls_set_context(ssl.create_default_context())
        client.connect(self._host, self._port, keepalive=30)
        client.loop_start()
        self._client = client
        if not self._answered.wait(self._seconds):
            raise OSError(f"the broker has not answered within {self._seconds:g} s")
        if self._refused:
            raise OSError(f"the broker refuses the connection: {self._refused}")
        return client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._refused = str(reason) if reason.is_failure else ""
        self._answered.set()
