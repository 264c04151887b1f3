"""MQTT against a real mosquitto, which is stopped and started in between."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from sise_ort.line.evidence import Evidence, Part
from sise_ort.line.evidence.outbox import Waiting
from sise_ort.line.sinks import Delivery, delivery
from sise_ort.line.sinks.opening import open_mqtt

MOSQUITTO = os.environ.get("SISE_ORT_MOSQUITTO") or shutil.which(
    "mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"
)

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


class Broker:
    """A mosquitto that can be stopped and started again at the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"user {getpass.getuser()}\nlistener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        pytest.fail("mosquitto did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


class Listener:
    """Subscribes to everything, again after each restart of the broker."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self.ready.set()
        self._client.on_disconnect = lambda *_: self.ready.clear()
        self._client.on_message = lambda _, __, message: self.heard.append(
            (message.topic, json.loads(message.payload))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def wait_until(ready: Callable[[], bool]) -> None:
    for _ in range(1200):
        if ready():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within 60 s")


def test_messages_outlive_a_broker_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.5)
    broker = Broker(tmp_path)
    broker.start()
    listener = Listener(broker.port)
    try:
        assert listener.ready.wait(30)
        with Evidence(tmp_path / "evidence") as evidence:

            def add(*names: str) -> None:
                for name in names:
                    part = Part(line="north/1", part_id=name, decision="rejected", label="ü")
                    evidence.add(part, sinks=["mqtt"])

            told = open_mqtt(f"mqtt://127.0.0.1:{broker.port}/plant/steel")
            deliver, gate = told.deliver, threading.Event()

            def gated(message: Waiting) -> None:
                assert gate.wait(60)
                deliver(message)

            gate.set()
            told.deliver = gated  # type: ignore[method-assign]
            sink = Delivery(evidence.outbox, told)
            add("1", "2")
            wait_until(lambda: len(listener.heard) >= 2)
            broker.stop()
            add("3", "4")
            wait_until(lambda: bool(sink.failing))
            broker_down = evidence.outbox.counts()
            gate.clear()  # the broker keeps nothing for a listener that has not come back
            wait_until(lambda: not listener.ready.is_set())
            broker.start()
            assert listener.ready.wait(60)
            gate.set()
            add("5")
            wait_until(lambda: len(listener.heard) >= 5)
            sink.close(30)
            assert evidence.outbox.counts() == {}
    finally:
        listener.close()
        broker.stop()
    assert broker_down == {"mqtt": 2}
    topics = {topic for topic, _ in listener.heard}
    assert topics == {"plant/steel/north-1/parts"}
    order = list(dict.fromkeys(body["part_id"] for _, body in listener.heard))
    assert order == ["1", "2", "3", "4", "5"]
    assert listener.heard[0][1]["label"] == "ü"
