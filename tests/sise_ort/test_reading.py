"""Once loaded, a bundle is what was hashed: replaced, changed or deleted folders change nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny import tiny_model

import sise_ort
from sise_ort.bundle import MANIFEST, bundle_digest, open_bundle, reading
from sise_ort.errors import BundleError

SWAPPER = """
import ctypes, os, sys
from pathlib import Path
a, b, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)
print("ready", flush=True)
while True:
    if how == "exchange":
        assert libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2) == 0
    elif how == "rename":
        a.rename(a.with_name("aside")), b.rename(a), a.with_name("aside").rename(b)
    else:  # file by file, as cp does
        for name in sorted(os.listdir(a)):
            os.replace(a / name, a / "x"), os.replace(b / name, a / name), os.replace(a / "x", b / name)
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles a.sise and b.sise of two networks, with gradients of the image; do not change it."""
    home = tmp_path_factory.mktemp("two")
    for name, seed in (("a", 1), ("b", 2)):
        onnx.save(tiny_model(seed=seed), home / f"{name}.onnx")
        sise_ort.export(
            home / f"{name}.onnx", home / f"{name}.sise", normalize="tf", graphs=("image-gradient",)
        )
    return home


@pytest.fixture
def bundle(two: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two / "a.sise", tmp_path / "a.sise"))


@pytest.mark.parametrize("how", ["exchange", "rename", "files"])
def test_a_bundle_that_is_replaced_meanwhile(two: Path, tmp_path: Path, how: str) -> None:
    """Each load gives the old or the new one, never a mixture; file by file there are moments without either."""
    for name in "ab":
        shutil.copytree(two / f"{name}.sise", tmp_path / f"{name}.sise")
    digests = {bundle_digest(open_bundle(two / f"{name}.sise").manifest) for name in "ab"}
    words = [sys.executable, "-c", SWAPPER, tmp_path / "a.sise", tmp_path / "b.sise", how]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None and swapper.stdout.readline() == b"ready\n"
        found = set()
        try:
            for _ in range(30):
                try:
                    loaded = open_bundle(tmp_path / "a.sise")
                except BundleError:
                    assert how != "exchange"  # a place that is empty now and then
                    continue
                found.add(bundle_digest(loaded.manifest))
                for name, digest in loaded.manifest.files.items():
                    assert hashlib.sha256(loaded.contents[name]).hexdigest() == digest
        finally:
            swapper.kill()
    assert found <= digests and (found or how == "files")


def delete(bundle: Path, other: Path) -> None:
    shutil.rmtree(bundle)


def replace(bundle: Path, other: Path) -> None:
    shutil.rmtree(bundle)
    shutil.copytree(other, bundle)


def overwrite(bundle: Path, other: Path) -> None:
    for path in bundle.iterdir():
        path.write_bytes((other / path.name).read_bytes())


@pytest.mark.parametrize("change", [delete, replace, overwrite])
def test_what_is_loaded_stays(
    two: Path, bundle: Path, frame: Any, change: Callable[[Path, Path], None]
) -> None:
    """Also graphs that are opened later: a method asks for image_gradient.onnx when the folder is another."""
    expected = sise_ort.load(two / "a.sise", "cpu", batch_size=4)
    wanted = [expected.explain(frame, method=m).heatmap for m in ("integrated-gradients", "sise")]
    explainer = sise_ort.load(bundle, "cpu", batch_size=4)
    change(bundle, two / "b.sise")
    for heatmap, method in zip(wanted, ("integrated-gradients", "sise"), strict=True):
        result = explainer.explain(frame, method=method)
        np.testing.assert_array_equal(result.heatmap, heatmap)
        assert result.record()["model"]["bundle_sha256"] == bundle_digest(expected.manifest)


def test_weights_are_kept_only_as_long_as_a_graph_needs_them(bundle: Path, frame: Any) -> None:
    explainer = sise_ort.load(bundle, "cpu")
    kept = explainer.model.sessions.bundle.contents
    assert set(kept) == {"image_gradient.onnx", "weights.bin"}
    explainer.explain(frame, method="integrated-gradients", steps=2)
    assert not explainer.model.sessions.bundle.contents


def test_a_file_that_nobody_replaces_is_damaged(bundle: Path) -> None:
    (bundle / "weights.bin").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"'weights\.bin' is not the file that was exported"):
        open_bundle(bundle)
    (bundle / MANIFEST).write_text(
        json.dumps({"format": "sise-ort bundle", "version": 1, "origin": {"file": "m.onnx"}})
    )
    with pytest.raises(BundleError, match=r"old format version 1.*MODEL was m\.onnx"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["x\0y", "x" * 5000, "\ud800"])
def test_names_that_no_folder_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        open_bundle(tmp_path / name)


def test_the_first_file_that_is_wrong_is_named(bundle: Path) -> None:
    """Files are hashed while others are read and graphs are checked; errors are those of doing it one after another."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    first, *_, last = list(manifest["files"])
    content = (bundle / first).read_bytes()
    (bundle / first).write_bytes(b"no graph" + content)
    (bundle / last).unlink()
    with pytest.raises(BundleError, match=f"'{re.escape(first)}' is not the file that was exported"):
        open_bundle(bundle)
    (bundle / first).write_bytes(content)
    with pytest.raises(BundleError, match=f"'{re.escape(last)}' is missing"):
        open_bundle(bundle)
    shutil.copy(bundle / first, bundle / last)
    graph = "predict.onnx"
    (bundle / graph).write_bytes(b"no graph")  # its hash is wrong, and it is no graph
    wrong = next(name for name in manifest["files"] if name in (graph, last))
    with pytest.raises(BundleError, match=f"'{re.escape(wrong)}' is not the file that was exported"):
        open_bundle(bundle)


def test_no_graph_is_looked_at_twice(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole files that hold no graph are not read anew, as files that are being replaced are."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / "mask.onnx").write_bytes(b"no graph")
    manifest["files"]["mask.onnx"] = hashlib.sha256(b"no graph").hexdigest()
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    seen = []
    check = reading.check_graphs
    monkeypatch.setattr(reading, "check_graphs", lambda *given: seen.append(given) or check(*given))
    with pytest.raises(BundleError, match=r"mask\.onnx is no ONNX file"):
        open_bundle(bundle)
    assert len(seen) == 1
