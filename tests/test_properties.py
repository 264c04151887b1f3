"""Whatever is given, it ends in a sound result or in one clear error: manifests, ONNX bytes, graphs, frames, names, parameters.

benchmarks/fuzz.py asks the same of thousands of cases in processes of their own; these are a few hundred in seconds.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from tiny import tiny_model

import sise_ort
from sise_ort.bundle import parse_manifest
from sise_ort.errors import SiseError, on_command_line
from sise_ort.files import file_name, write_files
from sise_ort.runtime.methods import METHODS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names and links of Unix")


def examples(number: int) -> Any:
    """So many examples, the same ones in every run."""
    return settings(
        max_examples=number, derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
anything = json_values | st.sampled_from(
    [10**30, -1, 2**63, 1e308, float("nan"), "\0", "\ud800", "\x1b[31m", "x" * 10_000, b"\xff", (), set(), object(), 1j, len, int]
)  # fmt: skip
characters = st.characters() | st.sampled_from('/\\\0\x1b\ud800\udcff\u202e. -:*?"<>|\n猫é')
words = st.text(characters, max_size=40) | st.sampled_from(["..", ".", "", "con", "x" * 300, "猫" * 5000])


@contextmanager
def clear() -> Iterator[None]:
    """Nothing but a SiseError whose message is one harmless line of at most 500 characters."""
    try:
        yield
    except SiseError as error:
        for text in (str(error), on_command_line(error)):
            assert 10 <= len(text) <= 500
            assert "\n" not in text and "\x1b" not in text
            text.encode()


def sound(result: Any) -> None:
    """Heat maps in [0, 1], at both sizes, and a record that is JSON."""
    for one in result if isinstance(result, list) else [result]:
        for heatmap in (one.heatmap, one.frame_heatmap):
            assert np.isfinite(heatmap).all() and heatmap.min() >= 0 and heatmap.max() <= 1
        json.dumps(one.record(), allow_nan=False)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> Iterator[Any]:
    with sise_ort.load(tiny_bundle, "cpu", batch_size=4) as found:
        yield found


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


@examples(150)
@given(data=st.data())
def test_any_manifest_is_read_or_refused(tiny_bundle: Path, data: st.DataObject) -> None:
    facts = json.loads((tiny_bundle / "manifest.json").read_text())
    *outer, last = data.draw(st.sampled_from([p for p in places(facts) if p]))
    holder = facts
    for key in outer:
        holder = holder[key]
    if data.draw(st.booleans()) or isinstance(holder, list):
        holder[last] = data.draw(json_values)
    else:
        del holder[last]
    with clear():
        manifest = parse_manifest(json.dumps(facts).encode(errors="surrogatepass"), Path("x.sise"))
        assert parse_manifest(manifest.to_json().encode(), Path("x.sise")) == manifest


@examples(150)
@given(text=st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode(errors="surrogatepass")))
def test_no_text_but_a_manifest_is_one(text: bytes) -> None:
    with pytest.raises(SiseError):
        parse_manifest(text, Path("x.sise"))
    with clear():
        parse_manifest(text, Path("x.sise"))


@examples(25)
@given(
    name=st.sampled_from(["manifest.json", "extract.onnx", "predict.onnx", "weights.bin", "fuse.onnx"]),
    data=st.data(),
)
def test_a_bundle_with_other_bytes_is_refused(tiny_bundle: Path, name: str, data: st.DataObject) -> None:
    with folder() as place:
        shutil.copytree(tiny_bundle, place / "m.sise")
        content = bytearray((place / "m.sise" / name).read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        if data.draw(st.booleans()):
            del content[at:]
        (place / "m.sise" / name).write_bytes(bytes(content))
        with clear():
            sise_ort.load(place / "m.sise", "cpu").close()
            assert name == "manifest.json"  # a letter of a label may change; every other file is hashed


@examples(25)
@given(data=st.data())
def test_any_bytes_export_or_are_refused(data: st.DataObject) -> None:
    content = bytearray(tiny_model(width=1).SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, 700) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.sampled_from([len(content), len(content), 0, 1, 100, 1000])) :]
    with folder() as place:
        (place / "m.onnx").write_bytes(bytes(content))
        with clear():
            sise_ort.export(place / "m.onnx", place / "m.sise", normalize="tf")
            assert (place / "m.sise" / "manifest.json").is_file()
        assert {p.name for p in place.iterdir()} <= {"m.onnx", "m.sise"}
        assert (place / "m.onnx").read_bytes() == content


LAYERS: dict[str, Callable[[str, str], str]] = {
    "relu": lambda i, o: f"{o} = Relu({i})",
    "sigmoid": lambda i, o: f"{o} = Sigmoid({i})",
    "max": lambda i, o: f"{o} = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>({i})",
    "mean": lambda i, o: f"{o} = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>({i})",
    "turn": lambda i, o: f"{o} = Transpose<perm=[0,1,3,2]>({i})",
    "softmax over channels": lambda i, o: f"{o} = Softmax<axis=1>({i})",
    "softmax over places": lambda i, o: f"{o} = Softmax<axis=-1>({i})",
    "squeeze": lambda i, o: f"{o}m = GlobalAveragePool({i})\n {o}s = Sigmoid({o}m)\n {o} = Mul({i}, {o}s)",
    "add": lambda i, o: f"{o}r = Relu({i})\n {o} = Add({i}, {o}r)",
    "unknown": lambda i, o: f"{o} = Atan({i})",
}


@examples(20)
@given(
    st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4),
    st.sampled_from(["", "y = Sigmoid(scores)", "y = Softmax(scores)"]),
)
def test_any_valid_network_explains_or_is_refused(layers: list[str], tail: str) -> None:
    lines, now = [], "picture"
    for number, layer in enumerate(layers):
        lines.append(f"c{number} = Conv<pads=[1,1,1,1]>({now}, {'w' if number else 'w0'})")
        lines.append(LAYERS[layer](f"c{number}", f"a{number}"))
        now = f"a{number}"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[n,3,16,20] picture) => (float[n,4] {"y" if tail else "scores"}) {{ '
        f"{chr(10).join(lines)}\n p = GlobalAveragePool({now})\n f = Flatten(p)\n scores = Gemm(f, fc)\n {tail} }}"
    )
    rng = np.random.default_rng(len(layers))
    for name, shape in (("w0", (6, 3, 3, 3)), ("w", (6, 6, 3, 3)), ("fc", (6, 4))):
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name)
        )
    frame = rng.integers(0, 256, (16, 20, 3), np.uint8)
    with folder() as place, clear():
        onnx.save(model, place / "m.onnx")
        sise_ort.export(place / "m.onnx", place / "m.sise", normalize="tf")
        with sise_ort.load(place / "m.sise", "cpu", batch_size=4) as explainer:
            sound(explainer.explain(frame, [0, 3]))


shapes = st.lists(st.sampled_from([0, 1, 2, 3, 4, 31, 32, 48]), max_size=4)
dtypes = st.sampled_from(
    [
        "uint8",
        "int8",
        "uint16",
        "int64",
        "float16",
        "float32",
        "float64",
        "bool",
        "complex64",
        "U2",
        "O",
        "M8[s]",
    ]
)


@examples(120)
@given(
    shape=shapes,
    dtype=dtypes,
    scale=st.sampled_from([1.0, 255.0, 1 / 255, -1.0, 1e30]),
    view=st.integers(0, 4),
)
def test_any_array_is_explained_or_refused(
    explainer: Any, shape: list[int], dtype: str, scale: float, view: int
) -> None:
    array: Any = np.random.default_rng(len(shape)).integers(0, 256, shape)
    with np.errstate(all="ignore"):
        array = (array * scale).astype(dtype) if dtype[0] == "f" else array.astype(dtype)
    if view == 1:
        array = array[..., ::-1] if array.ndim else array
    elif view == 2:
        array = np.asfortranarray(array)
    elif view == 3:
        array = np.array(array)
        array.flags.writeable = False
    elif view == 4:
        array = array.tolist()
    with clear():
        sound(explainer.explain(array))


@examples(80)
@given(value=anything)
def test_what_is_no_picture_is_refused(explainer: Any, value: Any) -> None:
    with clear():
        sound(explainer.explain(value))


@examples(80)
@given(ending=st.sampled_from([".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm", ".hdr"]), data=st.data())
def test_any_picture_file_is_explained_or_refused(explainer: Any, ending: str, data: st.DataObject) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    content = bytearray(cv2.imencode(ending, picture)[1].tobytes())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, 60) | st.integers(0, len(content) - 1))
        content[at % len(content)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    del content[len(content) if cut is None else cut :]
    with folder() as place, clear():
        (place / f"p{ending}").write_bytes(bytes(content))
        sound(explainer.explain(place / f"p{ending}"))


@examples(200)
@given(words)
def test_any_words_make_a_file_name(text: str) -> None:
    name = file_name(text)
    assert name and "/" not in name and "\\" not in name and not name.startswith(".") and name.isprintable()
    assert len(name.encode()) <= 231 and file_name(name) == name
    with folder() as place:
        write_files({place / f"{name}.json": b"{}"})
        assert [p.name for p in place.iterdir()] == [f"{name}.json"]


@examples(25)
@given(first=words, second=words)
def test_results_of_any_names_keep_their_own_files(
    explainer: Any, frame: Any, first: str, second: str
) -> None:
    result, other = explainer.explain(frame, [0, 1])
    with folder() as place:
        (place / "in").mkdir()
        mine = place / "mine.txt"
        mine.write_text("mine")
        files: list[Path] = []
        with clear():
            files += result.save(place / "in", first)
            files += other.save(place / "in", second)
        assert len(set(files)) == len(files) == len(list((place / "in").iterdir()))
        assert all(f.parent == place / "in" and f.is_file() for f in files)
        assert mine.read_text() == "mine" and len(list(place.iterdir())) == 2


@examples(60)
@given(
    method=st.sampled_from([m for m in METHODS if not METHODS[m].graph]),
    target=st.sampled_from([None, 0, "ant"]) | anything,
    data=st.data(),
)
def test_any_parameter_is_taken_or_refused(
    explainer: Any, frame: Any, method: str, target: Any, data: st.DataObject
) -> None:
    names = sorted(METHODS[method].defaults())
    assume(names)
    name = data.draw(st.sampled_from(names))
    bounded = {n: 4 for n in ("masks", "steps", "iterations") if n in names and n != name}
    value = data.draw(anything | st.sampled_from([0, 1, 0.5, "adaptive", 7]))
    with clear():
        sound(explainer.explain(frame, target, method=method, **{**bounded, name: value}))


@examples(60)
@given(
    name=st.sampled_from(["provider", "batch_size", "threads", "provider_options", "limits", "trusted"]),
    value=anything | st.sampled_from([0, 1, 10**9, "auto", {"a": 1}]),
)
def test_any_setting_of_load_is_taken_or_refused(tiny_bundle: Path, name: str, value: Any) -> None:
    with clear():
        sise_ort.load(tiny_bundle, **{"provider": "cpu", name: value}).close()


EXPORT = [
    "normalize",
    "mean",
    "std",
    "color",
    "input_size",
    "fit",
    "labels",
    "hidden",
    "head",
    "layers",
    "output",
    "graphs",
    "classes",
]


@examples(50)
@given(
    name=st.sampled_from(EXPORT),
    value=anything | st.sampled_from([(1, 2, 3), [0.0], "none", "gray", "32x48", ["c2"], ["a"] * 4]),
)
def test_any_option_of_export_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Any
) -> None:
    with folder() as place, clear():
        onnx.save(tiny_model(), place / "m.onnx")
        given_options = (
            {name: value} if name in ("mean", "std", "normalize") else {"normalize": "tf", name: value}
        )
        target = {"bundle": place / "m.sise", **given_options}
        sise_ort.export(place / "m.onnx", **target)
        sise_ort.load(place / "m.sise", "cpu").close()


@examples(40)
@given(value=anything.filter(lambda v: not isinstance(v, str)))
def test_what_is_no_path_is_refused_everywhere(
    explainer: Any, tiny_onnx: Path, frame: Any, value: Any
) -> None:
    from sise_ort.datasets import open_dataset

    for use in (
        lambda: sise_ort.load(value),
        lambda: (
            sise_ort.export(tiny_onnx, value, normalize="tf")
            if value is not None
            else explainer.explain(value)
        ),
        lambda: explainer.explain(frame).save(value),
        lambda: open_dataset("folder", value),
    ):
        with pytest.raises(SiseError):
            use()
