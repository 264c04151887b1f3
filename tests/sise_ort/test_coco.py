"""MS COCO: its layout, crowds and single objects, and everything that can be wrong in an instances file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_sets import boxed, coco_folder, problems, truth

from sise_ort.datasets import open_dataset
from sise_ort.datasets.dataset import UnusableSample
from sise_ort.errors import DatasetError


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return coco_folder(tmp_path)


def test_coco(coco: Path) -> None:
    dataset = open_dataset("coco", coco)
    assert [s.name for s in dataset.samples] == [
        "COCO_val2014_000000000001 dog",
        "COCO_val2014_000000000002 cat",
    ]
    found = truth(dataset, "COCO_val2014_000000000001 dog")
    assert found[10:18, 30:38].all() and found[8, 8] and not found[22, 22] and not found[0, 2]
    assert abs(found.sum() - (200 + 64)) < 25  # a triangle of 200 and a square of 64
    np.testing.assert_array_equal(truth(dataset, "COCO_val2014_000000000002 cat"), boxed(2, 7, 3, 9))
    assert "1 annotations of crowds left out" in dataset.statements
    file = "annotations/instances_val2014.json"
    assert problems(dataset) == [
        f"{file}: annotation 15: there is no category 99",
        f"{file}: annotation 16: there is no image 7",
        f"{file}: annotation 19: 'segmentation' is missing",
        f"{file}: there is no picture 'val2014/COCO_val2014_000000000003.jpg'",
    ]
    with pytest.raises(
        UnusableSample, match="annotation 11: it is for 40 × 30 pixels, the picture has 50 × 30"
    ):
        truth(dataset, "COCO_val2014_000000000001 dog", 30, 50)


def test_coco_crowds_and_objects(coco: Path) -> None:
    dataset = open_dataset("coco", coco, crowd=True, union=False)
    names = [s.name for s in dataset.samples if s.label == "dog"]
    assert names == [f"COCO_val2014_000000000001 dog {i}" for i in (11, 12, 13)]
    np.testing.assert_array_equal(truth(dataset, names[2]), boxed(0, 30, 2, 3))
    with pytest.raises(DatasetError, match=r"no annotations/instances_train2014\.json; it has val2014"):
        open_dataset("coco", coco, split="train2014")
    file = coco / "annotations" / "instances_val2014.json"
    file.write_text(file.read_text()[:-5])
    with pytest.raises(DatasetError, match="line 1: it is not JSON"):
        open_dataset("coco", coco)
    file.write_text('{"images": []}')
    with pytest.raises(DatasetError, match="'categories' is missing"):
        open_dataset("coco", coco)


def coco_mask(words: Any, size: tuple[int, int] = (30, 40)) -> Any:
    from sise_ort.datasets.coco import Segmentation

    return Segmentation(words, size, "a.json", 7).mask(*size)


def test_coco_run_lengths_against_pycocotools() -> None:
    from pycocotools import mask as coco

    rng = np.random.default_rng(3)
    for density in (0.02, 0.5, 0.98):
        expected = rng.random((30, 40)) < density
        expected[:, 20:] = expected[0, 20]
        packed = coco.encode(np.asfortranarray(expected.astype(np.uint8)))
        for counts in (packed["counts"], packed["counts"].decode()):
            np.testing.assert_array_equal(coco_mask({"size": [30, 40], "counts": counts}), expected)
        flat = expected.T.ravel().astype(int)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
        runs = np.diff([0, *edges, flat.size]).tolist()
        np.testing.assert_array_equal(coco_mask({"size": [30, 40], "counts": runs}), expected)


def test_coco_polygons_against_opencv() -> None:
    corners = [5.0, 4.0, 30.0, 8.0, 25.0, 25.0, 9.0, 20.0]
    expected = np.zeros((30, 40), np.uint8)
    cv2.fillPoly(expected, [np.array(corners, np.int32).reshape(-1, 2)], 1)
    found = coco_mask([corners])
    inside = cv2.erode(expected, np.ones((3, 3), np.uint8))  # OpenCV fills the outline, too
    assert (found <= (expected == 1)).all() and (found >= (inside == 1)).all()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([[1.0, 2.0, float("nan"), 4.0, 5.0, 6.0]], "not finite"),
        ([[1.0, 2.0, float("inf"), 4.0, 5.0, 6.0]], "not finite"),
        ([[1.0, 2.0, 1e30, 4.0, 5.0, 6.0]], "outside the picture of 40 × 30"),
        ([[-1e9, 2.0, 3.0, 4.0, 5.0, 6.0]], "outside the picture"),
        ([[1, 2, 3, 4]], "a polygon has 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon has 7 numbers"),
        ([[]], "a polygon has 0 numbers"),
        ([["a"] * 6], "cannot be decoded"),
        ([{"a": 1}], "cannot be decoded"),
        ([3], "a polygon has 1 numbers"),
        ({"size": [30, 40], "counts": [1200, 5]}, "1205 pixels, the picture 1200"),
        ({"size": [30, 40], "counts": [1 << 62, 1 << 62]}, "pixels, the picture 1200"),
        ({"size": [30, 40], "counts": [-5, 1205]}, "not whole numbers from 0"),
        ({"size": [30, 40], "counts": [float("nan"), 3]}, "not whole numbers"),
        ({"size": [30, 40], "counts": [600.0, 600.0]}, "not whole numbers"),
        ({"size": [30, 40], "counts": [1200]}, "is empty"),
        ({"size": [1 << 30, 1 << 30], "counts": [1]}, "are for"),
        ({"size": None, "counts": [1]}, "cannot be decoded"),
        ({"counts": [1200]}, "'size' is missing"),
        ({"size": [30, 40]}, "'counts' is missing"),
        ({"size": [30, 40], "counts": "\x01\x02"}, "damaged"),
        ({"size": [30, 40], "counts": "é"}, "cannot be decoded"),
        ({"size": [30, 40], "counts": "o" * 50}, "damaged"),
        ({"size": [30, 40], "counts": "P"}, "cut"),
        ({"size": [30, 40], "counts": 3}, "cannot be decoded"),
    ],
)
def test_coco_segmentations_that_would_crash_others(words: Any, why: str) -> None:
    with pytest.raises(UnusableSample, match=f"a.json: annotation 7: .*{why}"):
        coco_mask(words)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "no instances file"),
        ('{"categories": [[]], "images": [], "annotations": []}', "no instances file"),
        ('{"categories": [], "images": [{"id": []}], "annotations": []}', "no instances file"),
        ('{"categories": [], "images": [], "annotations": {}}', "annotations are no list"),
        ("[" * 100_000, "nested too deeply"),
        ("\udcff", "line 1: it is not JSON"),
    ],
)
def test_coco_files_that_are_none(coco: Path, text: str, why: str) -> None:
    (coco / "annotations" / "instances_val2014.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match=why):
        open_dataset("coco", coco)


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": []},
        {"category_id": {}},
        {"segmentation": 3},
        {"segmentation": []},
        {"image_id": None},
        {"id": float("nan"), "segmentation": None},
    ],
)
def test_coco_annotations_that_are_none(coco: Path, change: dict[str, Any]) -> None:
    file = coco / "annotations" / "instances_val2014.json"
    facts = json.loads(file.read_text())
    facts["annotations"] += [{**facts["annotations"][0], "id": 99, **change}, 3, None, []]
    facts["images"] += [{"id": 50, "height": float("inf"), "width": 4, "file_name": "x.jpg"}]
    facts["annotations"] += [{**facts["annotations"][0], "id": 98, "image_id": 50}]
    file.write_text(json.dumps(facts))
    assert len(problems(open_dataset("coco", coco))) >= 9
