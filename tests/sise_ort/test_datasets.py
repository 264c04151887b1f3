"""Data sets: each in exactly its real layout, made small; and everything that can be wrong in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_sets import boxed, picture, problems, truth, voc_folder

from sise_ort.datasets import open_dataset
from sise_ort.datasets.dataset import Box, UnusableSample
from sise_ort.errors import DatasetError, ParameterError


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return voc_folder(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda p: p.symlink_to(p)])
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("coco", "annotations/instances_val2014.json"),
        ("severstal", "train.csv"),
        ("imagenet", "boxes.csv"),
        ("voc", "ImageSets/Main/test.txt"),
    ],
)
def test_files_that_are_no_files(tmp_path: Path, kind: str, file: str, make: Any) -> None:
    for folder in ("train_images", "val2014", "images", "Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    make(tmp_path / file)
    with pytest.raises(DatasetError):
        open_dataset(kind, tmp_path)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.array([[0, 1]], np.uint8), "nowhere over half of the brightness; its largest value is 1"),
        (np.array([[0, 65535]], np.uint16), "uint16 pixels"),
        (np.array([[[0, 0, 0, 0], [255, 255, 255, 255]]], np.uint8), "transparent pixels"),
    ],
)
def test_masks_that_would_be_misread(tmp_path: Path, values: Any, why: str) -> None:
    picture(tmp_path / "a.png", 30, 40)
    (tmp_path / "masks").mkdir()
    mask = np.repeat(np.repeat(values, 30, 0), 20, 1)
    assert cv2.imwrite(str(tmp_path / "masks" / "a.png"), mask)
    (sample,) = open_dataset("folder", tmp_path).samples
    with pytest.raises(UnusableSample, match=f"masks/a.png: .*{why}"):
        sample.truth(30, 40)


# A plain folder


def test_folder(tmp_path: Path) -> None:
    picture(tmp_path / "one.png")
    picture(tmp_path / "two.jpg")
    picture(tmp_path / "scratch" / "three.png")
    (tmp_path / "masks" / "scratch").mkdir(parents=True)
    mask = (255 * boxed(3, 9, 4, 20)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "masks" / "one.png"), mask)
    cv2.imwrite(str(tmp_path / "masks" / "scratch" / "three.png"), mask[:20])
    cv2.imwrite(str(tmp_path / "masks" / "stray.png"), mask)
    dataset = open_dataset("folder", tmp_path)
    assert [(s.name, s.label) for s in dataset.samples] == [
        ("one.png", None), ("two.jpg", None), ("scratch/three.png", "scratch"),
    ]  # fmt: skip
    np.testing.assert_array_equal(truth(dataset, "one.png"), boxed(3, 9, 4, 20))
    assert truth(dataset, "two.jpg") is None
    with pytest.raises(
        UnusableSample, match=r"masks/scratch/three\.png: the mask has 40 × 20 pixels, the picture 40 × 30"
    ):
        truth(dataset, "scratch/three.png")
    assert problems(dataset) == ["masks/stray.png: there is no picture for this mask"]


def test_refusals(tmp_path: Path, voc: Path) -> None:
    with pytest.raises(ParameterError, match="no kind of data set 'voc07'; it must be one of voc, coco"):
        open_dataset("voc07", voc)
    with pytest.raises(
        ParameterError, match="of kind voc have no option 'year'; it has split, difficult, union"
    ):
        open_dataset("voc", voc, year=2012)
    with pytest.raises(DatasetError, match="there is no folder"):
        open_dataset("folder", tmp_path / "nothing")
    with pytest.raises(DatasetError, match="there is no folder"):
        open_dataset("folder", "a" * 5000)
    with pytest.raises(DatasetError, match="no pictures in"):
        (tmp_path / "empty").mkdir()
        open_dataset("folder", tmp_path / "empty")
    (voc / "ImageSets" / "Main" / "test.txt").write_text("000007\n")
    with pytest.raises(
        DatasetError, match=r"nothing in .* can be used .* the first problem: ImageSets/Main/test\.txt:1"
    ):
        open_dataset("voc", voc)


@pytest.mark.parametrize(
    ("box", "words"),
    [((5, 5, 5, 9), "is empty"), ((0, 0, 42, 9), "lies outside"), ((-3, 0, 4, 9), "lies outside")],
)
def test_boxes_that_do_not_fit(box: Any, words: str) -> None:
    with pytest.raises(UnusableSample, match=f"boxes.csv:3: .*{words}"):
        Box(*box, None, "boxes.csv", 3).mask(30, 40)
    assert Box(0, 0, 40.6, 30.4, None, "boxes.csv", 3).mask(30, 40).all()  # less than a pixel outside
