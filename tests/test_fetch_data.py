"""benchmarks/fetch_data.py against a server of the test's own, and what scripts say where data is missing."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fetch_data
import pytest
from fetch_data import ITEMS, Item, fetch, fetch_coco, require

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a web server on this machine, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_compared(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    (folder / "net.onnx").write_bytes(b"weights")
    item = Item("wild", "wild/net.onnx", f"{address}/net.onnx", "MIT", hashlib.sha256(b"weights").hexdigest())
    assert fetch(item, tmp_path).startswith("0.0 MB from http")
    assert (tmp_path / "wild" / "net.onnx").read_bytes() == b"weights"
    (folder / "net.onnx").unlink()
    assert fetch(item, tmp_path) == "is there already"


def test_other_content_is_not_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    (folder / "net.onnx").write_bytes(b"moved")
    with pytest.raises(ValueError, match="other content"):
        fetch(Item("wild", "wild/net.onnx", f"{address}/net.onnx", "MIT", "0" * 64), tmp_path)
    assert not (tmp_path / "wild").exists()


def test_coco_is_cut_to_the_first_pictures(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    images = [{"id": i, "file_name": f"{i:012}.jpg"} for i in (9, 3, 7)]
    masks = [{"id": 1, "image_id": 3}, {"id": 2, "image_id": 9}, {"id": 3, "image_id": 7}]
    (folder / "annotations").mkdir()
    (folder / "val2017").mkdir()
    whole = {"images": images, "annotations": masks, "categories": [{"id": 1}], "licenses": []}
    with zipfile.ZipFile(folder / "annotations" / "annotations_trainval2017.zip", "w") as archive:
        archive.writestr("annotations/instances_val2017.json", json.dumps(whole))
    for image in images:
        (folder / "val2017" / str(image["file_name"])).write_bytes(bytes([int(str(image["id"]))]))
    assert fetch_coco(tmp_path, 2, address) == "2 pictures, 2 masks"
    here = tmp_path / "coco_val79"
    assert sorted(p.name for p in (here / "val2017").iterdir()) == ["000000000003.jpg", "000000000007.jpg"]
    cut = json.loads((here / "annotations" / "instances_val2017.json").read_text())
    assert [m["id"] for m in cut["annotations"]] == [1, 3] and cut["categories"] == [{"id": 1}]


def test_without_a_network_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fetch_data.py", str(tmp_path / "data")])
    with pytest.raises(SystemExit, match="there is no network") as ended:
        fetch_data.main()
    assert "\n" not in str(ended.value) and not (tmp_path / "data").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    require(tmp_path, "models")
    with pytest.raises(SystemExit, match=r"lacks wild/a\.onnx and neu_det: docs/data\.md says"):
        require(tmp_path, "models", "wild/a.onnx", "neu_det")


def test_a_script_says_so(tmp_path: Path) -> None:
    for script in ("pointing.py", "wild.py --data"):
        words = [sys.executable, *f"benchmarks/{script}".split(), str(tmp_path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and re.search(r"lacks .*: docs/data\.md says", done.stderr), done.stderr
        assert "Traceback" not in done.stderr


def test_the_page_names_every_part_and_licence() -> None:
    for item in ITEMS:
        assert item.path.split("/")[0] + "/" in PAGE
    assert "`models/squeezenet1.1_fp32.onnx`" in PAGE and "Apache-2.0" in PAGE
