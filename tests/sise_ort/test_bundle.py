from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sise_ort
from sise_ort.bundle import MANIFEST, Manifest, bundle_digest, json_schema, parse_manifest, read_bundle
from sise_ort.errors import BundleError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy.sise"))


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    facts = json.loads((bundle / MANIFEST).read_text())
    edit(facts)
    (bundle / MANIFEST).write_text(json.dumps(facts))


def test_round_trip(tiny_bundle: Path) -> None:
    manifest = read_bundle(tiny_bundle)
    assert json.loads(manifest.to_json()) == json.loads((tiny_bundle / MANIFEST).read_text())
    assert manifest.labels == ("ant", "bee", "cat", "1")
    assert manifest.preprocessing.mean == (127.5,) * 3
    assert [(layer.tensor, layer.channels, layer.height, layer.width) for layer in manifest.layers] == [
        ("r1", 8, 32, 48), ("r2", 12, 16, 24), ("r3", 16, 8, 12),
    ]  # fmt: skip
    assert set(manifest.files) == {
        "extract.onnx",
        "mask.onnx",
        "apply.onnx",
        "predict.onnx",
        "fuse.onnx",
        "sketch.onnx",
        "weights.bin",
    }


def test_weights_are_stored_once(tiny_bundle: Path) -> None:
    floats = sum(n for n in (8 * 27, 12 * 72, 16 * 108) if n * 4 >= 1024)
    assert (tiny_bundle / "weights.bin").stat().st_size < floats * 4 + 3 * 4096
    assert (tiny_bundle / "extract.onnx").stat().st_size + (
        tiny_bundle / "predict.onnx"
    ).stat().st_size < 30_000


@pytest.mark.parametrize("name", ["extract.onnx", "weights.bin", "fuse.onnx"])
def test_missing_and_damaged_files_are_named(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match=rf"'{name}' is not the file that was exported"):
        sise_ort.load(bundle)
    (bundle / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=rf"'{name}' is not the file that was exported"):
        sise_ort.load(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"'{name}' is missing"):
        sise_ort.load(bundle)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: m.update(format="cake"), "belongs to something else"),
        (lambda m: m.update(version=3), "format version 3, this sise-ort reads 2: update"),
        (lambda m: m.update(version="x"), "has the version 'x'"),
        (
            lambda m: m.update(version=1),
            "the old format version 1.*export the model again with `sise-ort export",
        ),
        (lambda m: m.pop("head"), r"damaged \(Object missing required field `head`"),
        (
            lambda m: m["head"].update(kind="magic"),
            r"damaged \(Invalid enum value 'magic' - at `\$.head.kind`",
        ),
        (lambda m: m["input"].update(depth=3), "damaged .*unknown field `depth`"),
        (
            lambda m: m["input"].update(height="32"),
            r"damaged .*Expected `int`, got `str` - at `\$.input.height`",
        ),
        (lambda m: m["input"].update(height=2**14, width=2**14), r"damaged \(input is 16384 × 16384"),
        (lambda m: m["fit"].update(resize=[2**14, 2**14]), "damaged .*fit.resize is 16384 × 16384"),
        (lambda m: m["fit"].update(mode="letterbox"), "damaged .*fit.border has 0 values"),
        (lambda m: m["preprocessing"].update(std=[1.0, 0.0, 1.0]), "damaged .*std positive"),
        (lambda m: m["preprocessing"].update(mean=[1.0]), "damaged .*must have 3 values"),
        (lambda m: m["preprocessing"].update(color="gray"), "damaged .*colour is gray, but the input has 3"),
        (lambda m: m.update(layers=[]), "damaged .*layers"),
        (lambda m: m["labels"].pop(), "3 labels for 4 classes"),
        (lambda m: m["files"].pop("mask.onnx"), "does not list mask.onnx"),
        (lambda m: m["files"].update({"../evil": "0" * 64}), "outside the bundle"),
        (lambda m: m["files"].update({"C:evil": "0" * 64}), "outside the bundle"),
        (lambda m: m["files"].update({"x.onnx": "0"}), "damaged .*files"),
    ],
)
def test_manifests_that_are_refused(
    bundle: Path, edit: Callable[[dict[str, Any]], object], words: str
) -> None:
    change(bundle, edit)
    with pytest.raises(BundleError, match=words):
        sise_ort.load(bundle)


def test_what_is_no_bundle(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        sise_ort.load(tmp_path / "nothing.sise")
    with pytest.raises(BundleError, match="it is not a bundle"):
        sise_ort.load(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(BundleError, match="run `sise-ort export"):
        sise_ort.load(tmp_path / "model.onnx")
    (bundle / MANIFEST).write_text('{"format": "sise-ort bu')
    with pytest.raises(BundleError, match="cannot be read"):
        sise_ort.load(bundle)


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m["head"].update(kind="none"),
        lambda m: m["fit"].update(mode="crop"),
        lambda m: m["labels"].reverse(),
        lambda m: m["preprocessing"].update(hidden="black"),
        lambda m: m["layers"][0].update(module="x"),
        lambda m: m.update(precision="int8"),
        lambda m: m["files"].update({"mask.onnx": "0" * 64}),
        lambda m: m["origin"].update(note="x"),
    ],
)
def test_the_digest_covers_everything(tiny_bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    text = (tiny_bundle / MANIFEST).read_text()
    facts = json.loads(text)
    edit(facts)
    changed = parse_manifest(json.dumps(facts).encode(), tiny_bundle)
    assert bundle_digest(changed) != bundle_digest(read_bundle(tiny_bundle))
    reordered = dict(reversed(list(json.loads(text).items())))
    assert bundle_digest(parse_manifest(json.dumps(reordered).encode(), tiny_bundle)) == bundle_digest(
        read_bundle(tiny_bundle)
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"9" * 10_000,
        b"null",
        b'{"format": 1}',
        b'{"format": "sise-ort bundle"}',
        b'{"format": "sise-ort bundle", "version": 2, "name": "\\ud800"}',
        b'{"format": "sise-ort bundle", "version": 2, "name": NaN}',
        b'{"format": "sise-ort bundle", "version": 2, "name": 1e999}',
        b'{"format": "sise-ort bundle", "version": 2, "name": 100000000000000000000}',
    ],
)
def test_texts_that_are_no_manifest(bundle: Path, text: bytes) -> None:
    (bundle / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError) as caught:
        sise_ort.load(bundle)
    assert len(str(caught.value)) < 500 + len(str(bundle))


def test_the_published_schema_is_current() -> None:
    import write_schema

    assert json.loads(write_schema.FILE.read_text(encoding="utf-8")) == json.loads(write_schema.text())
    fields = json_schema()["$defs"]["Manifest"]["properties"]
    assert list(fields) == list(Manifest.__struct_fields__)


def test_origins_may_hold_versions(tiny_bundle: Path) -> None:
    """torch.__version__ is a str with methods of its own."""

    class Version(str):
        pass

    manifest = read_bundle(tiny_bundle)
    made = msgspec.structs.replace(manifest, origin={"torch": Version("2.9"), "best": np.float64(0.5)})
    again = parse_manifest(made.to_json().encode(), tiny_bundle)
    assert again.origin == {"torch": "2.9", "best": 0.5}
    assert bundle_digest(again) == bundle_digest(made)


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


def places(facts: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All paths into a JSON value."""
    inner = facts.items() if isinstance(facts, dict) else enumerate(facts) if isinstance(facts, list) else ()
    return [p for key, value in inner for p in ((*path, key), *places(value, (*path, key)))]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_manifest_is_one_or_one_error(tiny_bundle: Path, data: st.DataObject) -> None:
    """Whatever stands in one place; what is taken comes back the same."""
    facts = json.loads((tiny_bundle / MANIFEST).read_text())
    path = data.draw(st.sampled_from(places(facts)))
    holder = facts
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(JUNK)
    try:
        manifest = parse_manifest(json.dumps(facts).encode(), tiny_bundle)
    except BundleError as error:
        assert len(str(error)) <= 500
        return
    again = parse_manifest(manifest.to_json().encode(), tiny_bundle)
    assert bundle_digest(again) == bundle_digest(manifest)
