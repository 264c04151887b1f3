"""PASCAL VOC: its layout, its options, and everything that can be wrong in an annotation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_sets import boxed, problems, truth, voc_file, voc_folder, voc_masks, voc_object

from sise_ort.datasets import open_dataset
from sise_ort.datasets.dataset import UnusableSample
from sise_ort.errors import DatasetError


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return voc_folder(tmp_path)


def test_voc(voc: Path) -> None:
    dataset = open_dataset("voc", voc)
    assert [s.name for s in dataset.samples] == ["000001 dog", "000001 cat", "000002 cat", "000004 cat"]
    assert [s.label for s in dataset.samples] == ["dog", "cat", "cat", "cat"]
    expected = boxed(4, 20, 2, 10) | boxed(0, 30, 20, 40)  # from 1, the last pixel included
    np.testing.assert_array_equal(truth(dataset, "000001 dog"), expected)
    with pytest.raises(
        UnusableSample, match=r"000001\.xml:13: .* is for 40 × 30 pixels, the picture has 41 × 30"
    ):
        truth(dataset, "000001 dog", 30, 41)
    assert dataset.statements == [
        "split test", "1 difficult objects left out", "the truth is the union of the boxes of a class"
    ]  # fmt: skip
    assert problems(dataset) == [
        "Annotations/000003.xml:13: the box (0, 0, 60, 9) lies outside the picture of 40 × 30 pixels",
        "Annotations/000004.xml:13: xmin is 'one', not a number",
        "Annotations/000005.xml:13: there is no picture 'JPEGImages/000005.jpg'",
        "Annotations/000006.xml:3: it is not XML (mismatched tag)",
        "ImageSets/Main/test.txt:7: there is no annotation 'Annotations/000007.xml'",
    ]


def test_voc_options_and_the_folder_above(voc: Path) -> None:
    dataset = open_dataset("voc", voc.parent, difficult=True, union=False)
    assert [s.name for s in dataset.samples] == [
        "000001 dog 1", "000001 dog 2", "000001 cat 1", "000002 dog 1", "000002 cat 1", "000004 cat 1",
    ]  # fmt: skip
    np.testing.assert_array_equal(truth(dataset, "000001 dog 2"), boxed(0, 30, 20, 40))
    assert "difficult objects included" in dataset.statements
    with pytest.raises(DatasetError, match=r"no list 'val.txt'; it has test"):
        open_dataset("voc", voc, split="val")
    with pytest.raises(DatasetError, match="not a VOC folder"):
        open_dataset("voc", voc / "JPEGImages")


ENTITIES = (
    '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">'
    + "".join(f'<!ENTITY b{i} "{f"&b{i - 1};" * 10}">' for i in range(1, 9)).replace("&b0;", "&b;")
    + "]><annotation>&b8;</annotation>"
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (ENTITIES, r"xml: it declares a document type \(DOCTYPE\)"),
        ('<!doctype a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"),
        ("<annotation>".encode("utf-16").decode("latin-1"), "it is not XML in UTF-8"),
        ("", "xml:1: it is not XML"),
        ("<annotation>" * 5000, "it is not XML"),
        (voc_file(voc_object("dog", ("nan", 1, 2, 3))), r"xml:13: the box \(nan, 0, 2, 3\) is not finite"),
        (voc_file(voc_object("dog", (1, 1, "1e400", 3))), "xml:13: the box .* is not finite"),
        (voc_file("<object><name>dog</name></object>"), "an object without a whole box"),
        (voc_file("<object/>"), "an object without a name"),
        (voc_file("", ("x", 3)), "its size is x × 3, not whole numbers"),  # type: ignore[arg-type]
    ],
)
def test_voc_files_that_are_none(voc: Path, text: str, why: str) -> None:
    (voc / "Annotations" / "000001.xml").write_text(text, encoding="latin-1", errors="replace")
    dataset = open_dataset("voc", voc)
    assert any(re.search(why, problem) for problem in problems(dataset)), problems(dataset)


def test_voc_lines_are_those_of_objects(voc: Path) -> None:
    text = voc_file(voc_object("dog", ("x", 1, 2, 3)))
    text = text.replace("<segmented>", "<!-- <object>\n</object> -->\n<![CDATA[<object>]]><segmented>")
    text = text.replace("<part>", "<part>\n<object>\n</object>").replace("<object>", "<object\n>", 1)
    (voc / "Annotations" / "000001.xml").write_text(text)
    line = text[: text.index("\t<object>\n\t\t<name>dog")].count("\n") + 1
    assert f"Annotations/000001.xml:{line}: xmin is 'x', not a number" in problems(open_dataset("voc", voc))


def test_voc_masks(voc: Path) -> None:
    """Classes are told by the palette's colours; the rim of no class (255) lies outside of every object."""
    numbers = np.zeros((30, 40), int)
    numbers[2:9, 3:20], numbers[10:25, 5:30], numbers[10:25, 30] = 12, 8, 255
    alone = np.where(np.arange(40)[None] < 7, 20, 0).repeat(30, 0)
    masks = {"000001": numbers, "000002": alone, "000003": 0 * alone, "000005": alone, "000004": alone[:20]}
    voc_masks(voc, "val", masks)
    (voc / "SegmentationClass" / "000003.png").write_bytes(b"none")
    listing = voc / "ImageSets" / "Segmentation" / "val.txt"
    listing.write_text(listing.read_text() + "\n000008\n")
    dataset = open_dataset("voc", voc, masks=True, split="val")
    assert [s.name for s in dataset.samples] == [
        "000001 cat",
        "000001 dog",
        "000002 tvmonitor",
        "000004 tvmonitor",
    ]
    np.testing.assert_array_equal(truth(dataset, "000001 dog"), boxed(2, 9, 3, 20))
    np.testing.assert_array_equal(truth(dataset, "000001 cat"), boxed(10, 25, 5, 30))
    np.testing.assert_array_equal(truth(dataset, "000002 tvmonitor"), boxed(0, 30, 0, 7))
    with pytest.raises(
        UnusableSample, match=r"000004\.png: the mask has 40 × 20 pixels, the picture 40 × 30"
    ):
        truth(dataset, "000004 tvmonitor")
    assert dataset.statements == ["split val", "the truth is the mask of a class"]
    found = problems(dataset)
    assert found[0].startswith("SegmentationClass/000003.png: ")
    assert found[1:] == [
        "ImageSets/Segmentation/val.txt:4: there is no picture 'JPEGImages/000005.jpg'",
        "ImageSets/Segmentation/val.txt:7: there is no mask 'SegmentationClass/000008.png'",
    ]


@pytest.mark.parametrize(("value", "word"), [((1, 2, 3), r"\[3, 2, 1\]"), (21, r"\[21\]")])
def test_voc_masks_of_other_colors(voc: Path, value: Any, word: str) -> None:
    """Masks whose pixels are the numbers themselves are read; what is no number of a class is refused."""
    folder = voc_masks(voc, "val", {}) / "SegmentationClass"
    gray = (12 * boxed(2, 9, 3, 20)).astype(np.uint8)
    odd = np.full((30, 40, 3) if isinstance(value, tuple) else (30, 40), value, np.uint8)
    cv2.imwrite(str(folder / "000001.png"), gray)
    cv2.imwrite(str(folder / "000002.png"), odd)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("000001\n000002\n")
    dataset = open_dataset("voc", voc, masks=True, split="val")
    np.testing.assert_array_equal(truth(dataset, "000001 dog"), boxed(2, 9, 3, 20))
    assert re.fullmatch(
        rf"SegmentationClass/000002.png: a pixel has the colour {word}, which is none of a VOC class",
        problems(dataset)[0],
    )


@pytest.mark.parametrize("given", [{"union": False}, {"difficult": True}])
def test_voc_masks_are_those_of_whole_classes(voc: Path, given: Any) -> None:
    with pytest.raises(
        DatasetError, match=r"masks=true takes the masks of whole classes: leave out difficult"
    ):
        open_dataset("voc", voc, masks=True, **given)
    with pytest.raises(DatasetError, match="no lists of pictures: there is no ImageSets/Segmentation"):
        open_dataset("voc", voc, masks=True)
