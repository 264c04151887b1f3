"""The page that explains in a browser: what stands in it, and that a browser finds Python's heat map."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from node import browse, node_packages, run_node
from numpy.typing import NDArray

import sise_ort
from sise_ort.errors import MissingDependencyError, OutputError, ParameterError
from sise_ort.exporter import onnxruntime_web
from sise_ort.exporter.compose import compose
from sise_ort.exporter.page import write_page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A folder that looks like onnxruntime-web."""
    folder = tmp_path / "web" / "dist"
    folder.mkdir(parents=True)
    (folder / "ort.wasm.bundle.min.mjs").write_bytes(b"export const a = '</script>';")
    (folder / "ort-wasm-simd-threaded.wasm").write_bytes(b"\0asm")
    return folder.parent


@pytest.fixture
def picture(frame: NDArray[Any], tmp_path: Path) -> Path:
    """A frame larger than the network's, as a PNG file, which every decoder reads alike."""
    path = tmp_path / "a picture.png"
    cv2.imwrite(str(path), cv2.resize(frame[..., ::-1], (90, 70)))
    return path


def inside(page: str, name: str) -> bytes:
    found = re.search(rf'<script type="text/plain" id="{name}">([\w+/=]+)</script>', page)
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1]))


def test_one_file_holds_everything(tiny_bundle: Path, web: Path, picture: Path, tmp_path: Path) -> None:
    path = write_page(tiny_bundle, tmp_path / "page.html", samples=[picture], onnxruntime_web=web)
    page = path.read_text(encoding="utf-8")
    assert inside(page, "module") == b"export const a = '</script>';" and inside(page, "wasm") == b"\0asm"
    model = onnx.load_from_string(inside(page, "model"))
    assert "frame_heatmap" in [output.name for output in model.graph.output]
    assert base64.b64encode(picture.read_bytes()).decode() in page and 'alt="a picture"' in page
    assert '<option value="1">bee</option>' in page
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", page)
    assert "connect-src 'none'" in page and 'lang="en"' in page
    assert (
        write_page(tiny_bundle, path, samples=[picture], onnxruntime_web=web, force=True).read_bytes()
        == page.encode()
    )


def test_labels_are_text_and_never_markup(tiny_onnx: Path, web: Path, tmp_path: Path) -> None:
    labels = ["</option><script>alert(1)</script>", "b&b", "'\"", "{{ 7 * 7 }}"]
    sise_ort.export(tiny_onnx, tmp_path / "t.sise", normalize="tf", labels=labels)
    page = write_page(tmp_path / "t.sise", tmp_path / "page.html", onnxruntime_web=web).read_text(
        encoding="utf-8"
    )
    assert (
        "<script>alert" not in page
        and "&lt;script&gt;alert(1)" in page
        and "b&amp;b" in page
        and "{{ 7 * 7 }}" in page
    )


def test_what_is_refused(tiny_bundle: Path, web: Path, tmp_path: Path) -> None:
    path = write_page(tiny_bundle, tmp_path / "page.html", onnxruntime_web=web)
    with pytest.raises(OutputError, match="exists already"):
        write_page(tiny_bundle, path, onnxruntime_web=web)
    with pytest.raises(ParameterError, match="does not hold"):
        write_page(tiny_bundle, tmp_path / "other.html", onnxruntime_web=web, webgpu=True)
    (tmp_path / "a.tif").write_bytes(b"II")
    with pytest.raises(ParameterError, match="browsers read"):
        write_page(tiny_bundle, tmp_path / "other.html", onnxruntime_web=web, samples=[tmp_path / "a.tif"])
    with pytest.raises(ParameterError, match="cannot be read"):
        write_page(tiny_bundle, tmp_path / "other.html", onnxruntime_web=web, samples=[tmp_path / "none.png"])


def test_without_a_network_the_way_out_is_named() -> None:
    with pytest.raises(MissingDependencyError, match=r"cannot be fetched .* onnxruntime_web="):
        onnxruntime_web.web_runtime()


@pytest.mark.parametrize("changed", [False, True])
def test_what_the_registry_sends_is_compared_and_remembered(
    monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    contents = {"module.mjs": b"export {}", "code.wasm": b"\0asm"}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as package:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    asked = []

    def answer(address: str, timeout: float) -> Any:
        asked.append(address)
        return io.BytesIO(archive.getvalue())

    digests = [hashlib.sha256(content).hexdigest() for content in contents.values()]
    build = onnxruntime_web.Build(
        "module.mjs", "code.wasm", ("0" * 64 if changed else digests[0], digests[1])
    )
    monkeypatch.setattr(onnxruntime_web, "PLAIN", build)
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    if changed:
        with pytest.raises(MissingDependencyError, match=r"sent another module\.mjs"):
            onnxruntime_web.web_runtime()
        return
    for _ in range(2):
        found = onnxruntime_web.web_runtime()
        assert (found.module, found.wasm) == tuple(contents.values())
    assert asked == [onnxruntime_web.ADDRESS]


@pytest.mark.services
def test_the_package_is_the_one_that_is_pinned() -> None:
    dist = node_packages() / "node_modules" / "onnxruntime-web" / "dist"
    for build in (onnxruntime_web.PLAIN, onnxruntime_web.WEBGPU):
        for name, digest in zip((build.module, build.wasm), build.digests, strict=True):
            assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest


@pytest.mark.services
def test_a_browser_finds_pythons_heat_map(tiny_bundle: Path, picture: Path, tmp_path: Path) -> None:
    """From a file, with the keyboard alone, light and dark, wide and narrow; nothing is asked of a network."""
    web = node_packages() / "node_modules" / "onnxruntime-web"
    page = write_page(tiny_bundle, tmp_path / "page.html", samples=[picture], onnxruntime_web=web)
    heat = "({heat: Array.from(siseOrt.last.heatmap), wide: Array.from(siseOrt.last.heat), masks: siseOrt.last.masks, index: siseOrt.last.index})"
    status = "document.querySelector('#status').textContent"
    overflow = "document.documentElement.scrollWidth - innerWidth"
    paper = "getComputedStyle(document.body).backgroundColor"
    focused = "document.activeElement.id || document.activeElement.className"
    seen = browse(
        page.as_uri(),
        [
            {"wait": "window.siseOrt && siseOrt.ready || document.querySelector('#status.failed')", "value": status},
            {"keys": ["Tab", "Tab"], "value": focused},
            {"keys": ["Enter"], "wait": "siseOrt.last"},
            {"wait": "siseOrt.done", "value": heat},
            {"value": status, "tree": True},
            {"keys": ["Tab"], "type": "bee", "wait": "siseOrt.done && siseOrt.last.index === 1"},
            {"keys": ["Tab"], "type": "All", "wait": "siseOrt.done && document.querySelector('#passes').value === '-1'", "value": heat},
            {"keys": ["Tab", "End"], "value": "document.activeElement.id + document.activeElement.value"},
            {"media": "light", "value": paper},
            {"media": "dark", "value": paper},
            {"width": 390, "value": overflow},
            {"upload": str(picture), "to": "#file", "wait": "siseOrt.done && siseOrt.picture.name.endsWith('.png')"},
            {"value": "document.querySelector('#view').getAttribute('aria-label')"},
        ],
        tmp_path,
    )  # fmt: skip
    ready, second, top, said, tree, bee, slider, light, dark, spill, label = seen["values"]
    assert seen["console"] == []
    assert not [
        address for address in seen["requests"] if not address.startswith(("file:", "data:", "blob:"))
    ]
    assert ready.startswith("Ready") and second == "sample" and slider == "mix100"

    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    explain = _composed(tiny_bundle, tmp_path)
    rgb = cv2.imread(str(picture))[..., ::-1].copy()
    for found, target, passes in ((top, -1, 64), (bee, 1, -1)):
        own = explain(rgb, target, passes)
        assert found["masks"] == own["masks"].tolist() and found["index"] == own["class"]
        np.testing.assert_allclose(found["heat"], own["heatmap"].ravel(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(found["wide"], own["frame_heatmap"].ravel(), rtol=0, atol=1e-4)
    assert explainer.explain(rgb).label in said and "masks scored" in said

    names = {(node["role"], node.get("name", "")) for node in _nodes(tree)}
    assert {
        ("combobox", "Class to explain"),
        ("slider", "Heat map over the picture"),
        ("button", "a picture"),
    } <= names
    assert light == "rgb(255, 255, 255)" and dark != light and spill <= 0
    assert "most evidence lies" in label


@pytest.mark.services
def test_node_finds_pythons_heat_map(tiny_bundle: Path, picture: Path, tmp_path: Path) -> None:
    import json

    model = compose(tiny_bundle, tmp_path / "explain.onnx", any_size=True)
    labels = tmp_path / "labels.txt"
    labels.write_text("ant\nbee\ncat\n1\n", encoding="utf-8")
    script = ROOT / "examples" / "node" / "explain.mjs"
    said = json.loads(run_node(script, model, picture, tmp_path / "out.png", "-1", labels))
    rgb = cv2.imread(str(picture))[..., ::-1].copy()
    own = _composed(tiny_bundle, tmp_path)(rgb, -1, -1)
    explained = sise_ort.load(tiny_bundle, provider="cpu").explain(rgb)
    assert said["label"] == explained.label and said["masks"] == own["masks"].sum()
    assert abs(said["confidence"] - own["confidence"][own["class"]]) < 1e-5
    drawn = cv2.imread(str(tmp_path / "out.png"))[..., ::-1]
    weight = 0.7 * own["frame_heatmap"][..., None].astype(np.float64)
    expected = rgb + (np.array([255, 40, 0]) - rgb) * weight
    assert np.abs(drawn - expected).max() <= 1


@pytest.mark.services
def test_the_smallest_page_finds_pythons_heat_map(tiny_bundle: Path, picture: Path, tmp_path: Path) -> None:
    import functools
    import http.server
    import shutil
    import threading

    dist = node_packages() / "node_modules" / "onnxruntime-web" / "dist"
    site = tmp_path / "site"
    shutil.copytree(ROOT / "examples" / "browser", site)
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm", "ort-wasm-simd-threaded.mjs"):
        shutil.copy(dist / name, site)
    (site / "labels.txt").write_text("ant\nbee\ncat\n1\n", encoding="utf-8")
    compose(tiny_bundle, site / "explain.onnx", any_size=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

        def log_message(self, *arguments: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    seen = browse(
        address,
        [
            {"wait": "document.querySelector('#status').textContent.startsWith('Ready')"},
            {"upload": str(picture), "to": "#file", "wait": "document.querySelector('#view').heatmap"},
            {"value": "Array.from(document.querySelector('#view').heatmap)"},
            {"value": "document.querySelector('#status').textContent"},
        ],
        tmp_path,
    )
    server.shutdown()
    server.server_close()
    rgb = cv2.imread(str(picture))[..., ::-1].copy()
    own = _composed(tiny_bundle, tmp_path)(rgb, -1, 64)
    np.testing.assert_allclose(seen["values"][0], own["frame_heatmap"].ravel(), rtol=0, atol=1e-4)
    assert (
        seen["values"][1].startswith(["ant", "bee", "cat", "1"][int(own["class"])]) and seen["console"] == []
    )
    assert not [asked for asked in seen["requests"] if not asked.startswith((address, "data:", "blob:"))]


def _composed(bundle: Path, folder: Path) -> Any:
    import onnxruntime

    path = compose(bundle, folder / "own.onnx", any_size=True, force=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def explain(image: NDArray[Any], target: int, passes: int) -> dict[str, Any]:
        given = {
            "image": image, "target": np.array(target), "mu": np.array(0, np.float32), "passes": np.array(passes),
        }  # fmt: skip
        return dict(zip(names, session.run(names, given), strict=True))

    return explain


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("children", ()) for below in _nodes(child))]
