from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort.errors import OutputError, ParameterError, on_command_line
from sise_ort.explanation import Explanation
from sise_ort.fitting import Placement
from sise_ort.saving import FORMATS, check_formats


@pytest.fixture
def result(tiny_bundle: Path, rng: np.random.Generator) -> Explanation:
    with sise_ort.load(tiny_bundle, "cpu") as explainer:
        return explainer.explain(rng.integers(0, 256, (40, 61, 3), dtype=np.uint8))


def of_size(result: Explanation, height: int, width: int) -> Explanation:
    """The result as if its frame, smooth and gray, had that size."""
    frame = np.linspace(0, 255, width).astype(np.uint8)[None, :, None].repeat(height, 0)
    whole = (0.0, float(height), 0.0, float(width))
    network = (0, result.heatmap.shape[0], 0, result.heatmap.shape[1])
    return replace(result, frame=frame, placement=Placement((height, width), whole, network))


@pytest.mark.parametrize(
    ("formats", "endings"),
    [
        (None, [".png", ".npz"]),
        (("overlay", "npz"), [".png", ".npz"]),
        ("npy", [".npy"]),
        (["npy", "npz", "overlay", "npy"], [".png", ".npz", ".npy"]),
        (("png", "jpeg"), [".png", ".jpg"]),
        (("png", "overlay"), [".png"]),
        ({"maps"}, [".npz"]),
        (("npz", "maps"), [".npz"]),
        (iter(["jpeg"]), [".jpg"]),
        ("json", []),
        (list(FORMATS), [".png", ".jpg", ".npz", ".npy"]),
    ],
)
def test_each_format_is_written_when_it_is_asked_for(
    tmp_path: Path, result: Explanation, formats: Any, endings: list[str]
) -> None:
    files = result.save(tmp_path, "x", formats=formats)
    assert [f.name for f in files] == [f"x{ending}" for ending in [*endings, ".json"]]
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert json.loads(files[-1].read_text())["output"]["files"] == [f.name for f in files[:-1]]


def test_what_the_formats_hold(tmp_path: Path, result: Explanation) -> None:
    png, jpeg, npz, npy, _ = result.save(tmp_path, "x", formats=FORMATS)
    array = np.load(npy)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, result.frame_heatmap)
    np.testing.assert_allclose(sise_ort.read_heatmap(npz), array, rtol=0, atol=2**-12 + 1e-6)
    exact = result.visualization_maps.astype(np.float16)
    assert len(exact) == 3 and exact.any()
    for b, own in enumerate(exact, 1):
        np.testing.assert_array_equal(sise_ort.read_heatmap(npz, block=b, network_size=True), own)
    exact_picture, close = cv2.imread(str(png)).astype(int), cv2.imread(str(jpeg)).astype(int)
    assert png.read_bytes().startswith(b"\x89PNG") and jpeg.read_bytes().startswith(b"\xff\xd8")
    assert close.shape == exact_picture.shape and 0 < np.abs(close - exact_picture).mean() < 12


@pytest.mark.parametrize(
    ("size", "ending"),
    [
        ((2000, 2000), ".png"),  # 4 megapixels are not over 4 megapixels
        ((2000, 2001), ".jpg"),
        ((61, 66_000), ".png"),  # JPEG has no such width
        ((61, 65_500), ".png"),
        ((62, 65_500), ".jpg"),
    ],
)
def test_overlays_of_large_frames_are_jpeg(
    tmp_path: Path, result: Explanation, size: tuple[int, int], ending: str
) -> None:
    large = of_size(result, *size)
    picture, npz, _ = large.save(tmp_path, "x")
    assert picture.suffix == ending and npz.stat().st_size < 20_000
    assert cv2.imread(str(picture)).shape[1] == size[1]
    if ending == ".jpg":
        assert [f.suffix for f in large.save(tmp_path, "y", formats="png")] == [".png", ".json"]


def test_a_picture_too_large_for_jpeg_is_refused_and_nothing_is_written(
    tmp_path: Path, result: Explanation
) -> None:
    with pytest.raises(OutputError, match="66000 pixels cannot be encoded as JPEG"):
        of_size(result, 9, 66_000).save(tmp_path, "x", formats=["jpeg", "npy"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("formats", ["", "pdf", [], ["png", "pdf"], [3], 3, b"png", "png,npy", [None]])
def test_other_formats_are_refused(tmp_path: Path, result: Explanation, formats: Any) -> None:
    with pytest.raises(
        ParameterError, match=r"formats= is .*; choose from overlay, png, jpeg, npz, maps, npy, json"
    ) as found:
        result.save(tmp_path, "x", formats=formats)
    assert "--formats is" in on_command_line(found.value) and not list(tmp_path.iterdir())


def test_a_second_save_in_another_format_keeps_the_first_ones_files(
    tmp_path: Path, result: Explanation
) -> None:
    first = result.save(tmp_path, "x")
    before = {f: f.read_bytes() for f in first[:2]}
    second = result.save(tmp_path, "x", formats="npy")
    assert [f.name for f in second] == ["x.npy", "x.json"]
    assert {f: f.read_bytes() for f in first[:2]} == before
    assert [f.name for f in result.save(tmp_path, "x")] == ["x.png", "x.npz", "x.json"]
    assert len(list(tmp_path.iterdir())) == 4


def test_every_format_is_explained() -> None:
    assert check_formats(None) == ("overlay", "npz")
    text = (Path(__file__).resolve().parents[2] / "docs" / "frames.md").read_text(encoding="utf-8")
    for name in FORMATS:
        assert f"| `{name}` |" in text
