"""What a record says about an explanation, and that its files give frame and map again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort.frame import read_frame
from sise_ort.line.evidence import Evidence, Part
from sise_ort.line.evidence.making import explained, frame_file, machine, map_digest, picture, versions
from sise_ort.line.regions import RegionSettings, hot_regions


def test_a_record_holds_all_of_an_explanation(tiny_bundle: Path, frame: Any, tmp_path: Path) -> None:
    with sise_ort.load(tiny_bundle) as explainer:
        result = explainer.explain(frame, passes=5)
    found, files = explained(result, 2, regions=RegionSettings(grid=(2, 2), mm_per_pixel=0.1))
    assert (found.label, found.target, found.confidence) == (result.label, result.target, result.confidence)
    assert found.mask_counts == result.mask_counts and sum(found.mask_counts) == 5
    assert found.agreement == result.facts["agreement"] and found.parameters == result.parameters
    assert found.heatmap_sha256 == hashlib.sha256(result.heatmap.astype("<f4").tobytes()).hexdigest()
    assert found.regions and sum(found.zones.values()) == pytest.approx(1.0)
    assert [f.role for f in files] == ["map-2", "overlay-2"]
    with Evidence(tmp_path) as evidence:
        evidence.add(Part(line="a", part_id="1", decision="rejected", explanations=(found,)), files)
        stored = files[0].stored()
        kept = tmp_path / stored.name
        kept.write_bytes(evidence.files.read(stored.name))
    assert np.abs(sise_ort.read_heatmap(kept) - result.frame_heatmap).max() <= 2**-12


def test_what_speaks_against_a_class_is_kept(tiny_bundle: Path, frame: Any) -> None:
    with sise_ort.load(tiny_bundle) as explainer:
        result = explainer.explain(frame, 1, passes=4)
        against = explainer.explain(frame, sise_ort.RatherThan(2, 1), passes=4)
    found, files = explained(result, 1, against=against, overlay=False)
    assert found.against == hot_regions(against.frame_heatmap) != ()
    assert [f.role for f in files] == ["map-1", "against-1"]


def test_the_same_map_has_the_same_digest() -> None:
    heatmap = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert map_digest(heatmap) == map_digest(np.asfortranarray(heatmap))
    assert map_digest(heatmap) != map_digest(np.nextafter(heatmap, np.float32(2)))


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("shape", [(9, 7, 3), (9, 7), (9, 7, 1)])
def test_arrays_come_back_as_they_were(
    rng: np.random.Generator, color: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    pixels = rng.integers(0, 256, shape, np.uint8)
    file = frame_file(pixels, color)
    assert file.ending == ".png"
    again = read_frame(bytes(file.content))
    straight = pixels if pixels.ndim == 3 else pixels[:, :, None]
    wanted = straight[:, :, ::-1] if color == "bgr" and straight.shape[2] == 3 else straight
    assert np.array_equal(again, wanted)


def test_files_stay_as_they_are(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), rng.integers(0, 256, (20, 30, 3), np.uint8))
    file, about = frame_file(path), picture(path)
    assert file.content == path.read_bytes() and file.ending == ".jpg"
    assert about.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and about.size == (20, 30)
    assert about.source == str(path)
    assert picture(path.read_bytes()).sha256 == about.sha256


def test_what_is_no_picture_has_a_digest() -> None:
    about = picture(b"no picture")
    assert about.sha256 == hashlib.sha256(b"no picture").hexdigest() and about.size == (0, 0)
    assert frame_file(b"no picture").ending == ""


def test_numbers_of_any_kind_are_kept(rng: np.random.Generator) -> None:
    pixels = rng.random((5, 6), np.float32)
    file = frame_file(pixels)
    from io import BytesIO

    assert file.ending == ".npy" and np.array_equal(np.load(BytesIO(bytes(file.content))), pixels)
    about = picture(pixels * 255, levels=(0, 255))
    assert (about.size, about.channels, about.dtype, about.levels) == ((5, 6), 1, "float32", (0.0, 255.0))


def test_versions_and_machine_are_texts() -> None:
    assert versions("1.2")["onnxruntime"] == "1.2" and versions()["numpy"] == np.__version__
    assert all(isinstance(value, str) for value in machine().values()) and int(machine()["cores"]) > 0
