"""The page in a real browser: a picture is chosen, explained and shown; nothing is asked of other servers."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
import httpx
from serving import png, running

pytestmark = pytest.mark.services
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """Chromium by its debugging pipe: no port, no further package."""

    def __init__(self, folder: Path, width: int, dark: bool) -> None:
        self._requests, reader = os.pipe(), os.pipe()
        self._answers = reader[0]
        os.set_inheritable(self._requests[0], True)
        os.set_inheritable(reader[1], True)

        def place() -> None:
            os.dup2(self._requests[0], 3)
            os.dup2(reader[1], 4)

        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            f"--user-data-dir={folder}", f"--window-size={width},1000", "--hide-scrollbars", "about:blank",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, preexec_fn=place, close_fds=True, pass_fds=(3, 4)
        )
        os.close(self._requests[0])
        os.close(reader[1])
        self.number, self._rest, self.events = 0, b"", list[Any]()
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=1000,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    session: str = ""

    def ask(self, method: str, **parameters: Any) -> Any:
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._requests[1], json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                self._rest += os.read(self._answers, 1 << 20)
            text, self._rest = self._rest.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def value(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression: str) -> None:
        for _ in range(300):
            if self.value(expression):
                return
            time.sleep(0.1)
        raise AssertionError(f"{expression}: {self.value('document.body.innerText')}")

    def key(self, name: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, text=text if kind == "keyDown" else "")  # fmt: skip

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        os.close(self._requests[1])
        os.close(self._answers)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_a_picture_is_explained_in_a_browser(
    tiny_bundle: Path, tmp_path: Path, frame: Any, width: int, dark: bool
) -> None:
    file = tmp_path / "<b>part&amp;.png"
    file.write_bytes(png(frame))
    with running(tiny_bundle, "--threads", "1") as server:
        browser = Browser(tmp_path / "profile", width, dark)
        try:
            browser.ask("Page.navigate", url=server.url + "/")
            browser.until(
                "document.readyState === 'complete' && document.getElementById('model').value === 'tiny'"
            )
            assert browser.value("document.getElementById('go').disabled")
            root = browser.ask("DOM.getDocument")["root"]["nodeId"]
            node = browser.ask("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
            browser.ask("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
            browser.until("!document.getElementById('go').disabled")
            drop = (
                "{const data = new DataTransfer(); data.items.add(document.getElementById('file').files[0]);"
                " document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))}"
            )
            browser.value(drop)
            assert browser.value("document.getElementById('name').textContent") == file.name
            assert browser.value("document.getElementById('name').children.length") == 0
            browser.value("document.getElementById('target').focus()")
            browser.ask("Input.insertText", text="bee")
            browser.key("Enter", 13, "\r")  # no mouse is needed
            browser.until(
                "!document.getElementById('result').hidden && document.getElementById('heat').naturalWidth"
            )
            assert re.match(r"bee · \d", browser.value("document.getElementById('caption').textContent"))
            assert browser.value("document.getElementById('heat').naturalWidth") == 48
            assert browser.value("document.activeElement.id") == "caption"
            assert browser.value("document.documentElement.scrollWidth") <= width
            _photograph(browser, f"page-{width}")

            browser.value("document.getElementById('target').value = 'wasp <img src=x>'")
            browser.value("document.getElementById('form').requestSubmit()")
            browser.until("document.getElementById('status').textContent.includes('wasp <img src=x>')")
            assert browser.value("document.getElementById('status').children.length") == 0

            browser.ask("Page.navigate", url=server.url + "/docs")
            browser.until("document.body.innerText.includes('/v2/models/NAME/infer')")
            assert browser.value("document.documentElement.scrollWidth") <= width
            _photograph(browser, f"docs-{width}")
        finally:
            browser.close()
        asked = [
            e["params"]["request"]["url"]
            for e in browser.events
            if e.get("method") == "Network.requestWillBeSent"
        ]
        assert asked and all(re.match(f"{server.url}/|data:|blob:{server.url}/", url) for url in asked)
        complaints = [e["params"]["entry"] for e in browser.events if e.get("method") == "Log.entryAdded"]
        assert not [one for one in complaints if "400" not in one["text"]], complaints
        assert httpx.get(server.url + "/").json() == {"status": "alive"}
        assert server.stop() == 0


def _photograph(browser: Browser, name: str) -> None:
    """Keep a picture of the page where SISE_ORT_SCREENSHOTS names a folder."""
    folder = os.environ.get("SISE_ORT_SCREENSHOTS")
    if folder:
        found = browser.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(found))
