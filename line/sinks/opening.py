"""From what a user names to the sink that is meant; secrets come from the environment, never from the command line."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, unquote, urlsplit

from sise_ort.errors import ParameterError, option, shown
from sise_ort.line.sinks.mqtt import Mqtt
from sise_ort.line.sinks.webhook import Webhook

NAMED = re.compile(r"([A-Za-z0-9_.-]{1,50})=(.+)")
TOKEN, SECRET = "SISE_ORT_WEBHOOK_TOKEN", "SISE_ORT_WEBHOOK_SECRET"
"""Environment variables with the bearer token of requests, and with the key that signs them."""
USER, PASSWORD = "SISE_ORT_MQTT_USER", "SISE_ORT_MQTT_PASSWORD"
"""Environment variables for the broker, where its address names no user."""


def open_webhook(words: str) -> Webhook:
    """A webhook from its address, such as ``https://host/parts`` or ``mes=https://host/parts``.

    Raises
    ------
    ParameterError
        It is no address of HTTP.
    """
    name, url = _named(words, "webhook")
    found = _split(url)
    if found is None or found.scheme not in ("http", "https") or not found.hostname:
        raise ParameterError(
            f"{option('webhook')} is {shown(url)}; an address such as https://host/parts is needed"
        )
    return Webhook(url, name, token=os.environ.get(TOKEN) or None, secret=os.environ.get(SECRET) or None)


def open_mqtt(words: str) -> Mqtt:
    """A broker from its address, such as ``mqtt://host/plant/line``; ``mqtts`` encrypts.

    Raises
    ------
    ParameterError
        It is no address of a broker, or its topic holds wildcards.
    """
    name, url = _named(words, "mqtt")
    found = _split(url)
    if found is None or found.scheme not in ("mqtt", "mqtts") or not found.hostname:
        raise ParameterError(
            f"{option('mqtt')} is {shown(url)}; an address such as mqtt://host/plant/line is needed"
        )
    rest = "#" if "#" in url else "?" if "?" in url else ""  # urlsplit cuts there
    topic = (unquote(found.path) + rest).strip("/") or "sise-ort"
    if re.search(r"[+#?\x00]", topic) or topic.startswith("$"):
        raise ParameterError(
            f"{option('mqtt')}: the topic {shown(topic)} holds +, #, ?, NUL or begins with $"
        )
    tls = found.scheme == "mqtts"
    user, password = found.username, found.password
    return Mqtt(
        found.hostname,
        found.port or (8883 if tls else 1883),
        topic,
        name,
        user=unquote(user) if user else os.environ.get(USER) or None,
        password=unquote(password) if password else os.environ.get(PASSWORD) or None,
        tls=tls,
    )


def _named(words: str, usual: str) -> tuple[str, str]:
    found = NAMED.fullmatch(words)
    return (found[1], found[2]) if found and "://" in found[2] else (usual, words)


def _split(url: str) -> SplitResult | None:
    try:
        found = urlsplit(url)
        _ = found.port
    except ValueError:
        return None
    return found
