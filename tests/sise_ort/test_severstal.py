"""Severstal: run lengths in one column or three, and everything that can be wrong in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_sets import picture, problems, truth

from sise_ort.datasets import open_dataset
from sise_ort.datasets.dataset import UnusableSample
from sise_ort.datasets.severstal import RunLengths
from sise_ort.errors import DatasetError


def steel(root: Path, text: str) -> Path:
    for name in "abcd":
        picture(root / "train_images" / f"{name}.jpg", 256, 1600)
    (root / "train.csv").write_text(text)
    return root


JOINED = """ImageId_ClassId,EncodedPixels
a.jpg_1,1 3 260 2
a.jpg_2,
a.jpg_3,409600 1
a.jpg_4,
b.jpg_1,
b.jpg_2,
b.jpg_3,
b.jpg_4,
"""


APART = """ImageId,ClassId,EncodedPixels
a.jpg,1,1 3 260 2
a.jpg,3,409600 1
c.jpg,4,5 2
"""


def test_severstal_joined(tmp_path: Path) -> None:
    dataset = open_dataset("severstal", steel(tmp_path, JOINED))
    assert [(s.name, s.label) for s in dataset.samples] == [
        ("a.jpg 1", "1"), ("a.jpg 3", "3"), ("b.jpg normal", "normal"), ("c.jpg normal", "normal"), ("d.jpg normal", "normal"),
    ]  # fmt: skip
    expected = np.zeros((256, 1600), bool)
    expected[[0, 1, 2], 0] = True  # pixels 1 to 3: the top of the first column
    expected[[3, 4], 1] = True  # pixels 260 and 261: the second column
    np.testing.assert_array_equal(truth(dataset, "a.jpg 1", 256, 1600), expected)
    assert np.argwhere(truth(dataset, "a.jpg 3", 256, 1600)).tolist() == [[255, 1599]]
    assert truth(dataset, "b.jpg normal", 256, 1600) is None
    assert not dataset.problems


def test_severstal_apart(tmp_path: Path) -> None:
    dataset = open_dataset("severstal", steel(tmp_path, APART), normal=False)
    assert [s.name for s in dataset.samples] == ["a.jpg 1", "a.jpg 3", "c.jpg 4"]
    assert dataset.statements[1] == "2 pictures without a defect left out"


def test_severstal_problems(tmp_path: Path) -> None:
    rows = ["a.jpg,7,1 2", "a.jpg,1,1 2 3", "a.jpg,2,5 x", "b.jpg,1,9 2 4 1", "b.jpg,2,0 3", "c.jpg,1,5 2", "c.jpg,1,5 2",
            "z.jpg,1,5 2", "d.jpg,1", "a.jpg,4,409600 2"]  # fmt: skip
    dataset = open_dataset(
        "severstal", steel(tmp_path, "ImageId,ClassId,EncodedPixels\n" + "\n".join(rows) + "\n")
    )
    assert problems(dataset) == [
        "train.csv:2: the class is '7', not one of 1, 2, 3, 4",
        "train.csv:3: 3 run-length numbers: pairs of start and length are needed",
        "train.csv:4: the run lengths are not whole numbers",
        "train.csv:5: the run 4 1 is empty, goes back or overlaps the one before",
        "train.csv:6: the run 0 3 is empty, goes back or overlaps the one before",
        "train.csv:8: class 1 of c.jpg stands there a second time",
        "train.csv:9: there is no picture 'train_images/z.jpg'",
        "train.csv:10: 2 columns where the header has 3",
    ]
    assert [s.name for s in dataset.samples] == [
        "c.jpg 1",
        "a.jpg 4",
    ]  # none of these four is known to be sound
    with pytest.raises(
        UnusableSample, match=r"train.csv:11: a run ends at pixel 409601, outside the picture"
    ):
        truth(dataset, "a.jpg 4", 256, 1600)
    (tmp_path / "train.csv").write_text("image,mask\n")
    with pytest.raises(DatasetError, match="begins with image,mask; ImageId_ClassId,EncodedPixels or"):
        open_dataset("severstal", tmp_path)


def test_run_lengths_against_pycocotools() -> None:
    """COCO's counts run down the columns too: the same mask from both."""
    from pycocotools import mask as coco

    expected = np.random.default_rng(3).random((23, 31)) > 0.6
    flat = np.concatenate([[0], expected.T.ravel().astype(int), [0]])
    edges = np.flatnonzero(np.diff(flat))
    pairs = [(a + 1, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    ours = RunLengths(" ".join(f"{a} {n}" for a, n in pairs), "train.csv", 2).mask(23, 31)
    coded = coco.encode(np.asfortranarray(expected.astype(np.uint8)))
    np.testing.assert_array_equal(ours, coco.decode(coded).astype(bool))
