"""Data sets: each in exactly its real layout, made small; and everything that can be wrong in it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sise_ort.datasets import Dataset, open_dataset
from sise_ort.datasets.dataset import Box, UnusableSample
from sise_ort.datasets.severstal import RunLengths
from sise_ort.errors import DatasetError, ParameterError


def picture(path: Path, height: int = 30, width: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), data)
    return path


def problems(dataset: Dataset) -> list[str]:
    return [str(problem) for problem in dataset.problems]


def truth(dataset: Dataset, name: str, height: int = 30, width: int = 40) -> Any:
    (sample,) = [s for s in dataset.samples if s.name == name]
    return sample.truth(height, width)


def boxed(top: int, bottom: int, left: int, right: int, height: int = 30, width: int = 40) -> Any:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


# PASCAL VOC


def voc_object(name: str, box: tuple[Any, Any, Any, Any], difficult: int = 0) -> str:
    corners = "".join(f"<{k}>{v}</{k}>\n" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"""\t<object>
\t\t<name>{name}</name>
\t\t<pose>Left</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>{difficult}</difficult>
\t\t<bndbox>
{corners}\t\t</bndbox>
\t\t{part}
\t</object>
"""


def voc_file(objects: str, size: tuple[int, int] = (40, 30)) -> str:
    return f"""<annotation>
\t<folder>VOC2007</folder>
\t<filename>000001.jpg</filename>
\t<source>
\t\t<database>The VOC2007 Database</database>
\t</source>
\t<size>
\t\t<width>{size[0]}</width>
\t\t<height>{size[1]}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
{objects}</annotation>
"""


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2007"
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    files = {
        "000001": voc_object("dog", (3, 5, 10, 20))
        + voc_object("dog", (21, 1, 40, 30))
        + voc_object("cat", (1, 1, 4, 4)),
        "000002": voc_object("dog", (1, 1, 9, 9), difficult=1) + voc_object("cat", (5, 5, 6, 6)),
        "000003": voc_object("dog", (1, 1, 60, 9)),
        "000004": voc_object("dog", ("one", 1, 20, 9)) + voc_object("cat", (5, 5, 6, 6)),
        "000005": voc_object("dog", (1, 1, 5, 5)),
        "000009": voc_object("dog", (1, 1, 5, 5)),
    }
    for stem, objects in files.items():
        (root / "Annotations" / f"{stem}.xml").write_text(voc_file(objects))
        if stem != "000005":
            picture(root / "JPEGImages" / f"{stem}.jpg")
    (root / "Annotations" / "000006.xml").write_text("<annotation>\n<object>\n</annotation>")
    (root / "ImageSets" / "Main" / "test.txt").write_text("".join(f"00000{i}\n" for i in range(1, 8)))
    (root / "ImageSets" / "Main" / "dog_test.txt").write_text("000001  1\n")
    return root


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


# MS COCO


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    for number in (1, 2):
        picture(root / "val2014" / f"COCO_val2014_{number:012d}.jpg")
    triangle = [5.0, 5.0, 25.0, 5.0, 5.0, 25.0]
    square = [30.0, 10.0, 38.0, 10.0, 38.0, 18.0, 30.0, 18.0]
    from pycocotools import mask

    packed = mask.encode(np.asfortranarray(boxed(2, 7, 3, 9).astype(np.uint8)))
    counts = {"size": [30, 40], "counts": [60, 30, 1110]}  # the third column whole
    entries: list[dict[str, Any]] = [
        {"id": 11, "image_id": 1, "category_id": 18, "iscrowd": 0, "segmentation": [triangle], "bbox": [5, 5, 20, 20]},
        {"id": 12, "image_id": 1, "category_id": 18, "iscrowd": 0, "segmentation": [square]},
        {"id": 13, "image_id": 1, "category_id": 18, "iscrowd": 1, "segmentation": counts},
        {"id": 14, "image_id": 2, "category_id": 17, "iscrowd": 0, "segmentation": {"size": [30, 40], "counts": packed["counts"].decode()}},
        {"id": 15, "image_id": 2, "category_id": 99, "iscrowd": 0, "segmentation": [square]},
        {"id": 16, "image_id": 7, "category_id": 17, "iscrowd": 0, "segmentation": [square]},
        {"id": 17, "image_id": 3, "category_id": 17, "iscrowd": 0, "segmentation": [square]},
        {"id": 18, "image_id": 2, "category_id": 18, "iscrowd": 0, "segmentation": [square]},
        {"id": 19, "image_id": 2, "category_id": 18, "iscrowd": 0},
    ]  # fmt: skip
    facts = {
        "info": {"year": 2014},
        "licenses": [],
        "images": [
            {"id": i, "file_name": f"COCO_val2014_{i:012d}.jpg", "height": 30, "width": 40, "license": 1}
            for i in (1, 2, 3)
        ],
        "annotations": entries,
        "categories": [
            {"id": 17, "name": "cat", "supercategory": "animal"},
            {"id": 18, "name": "dog", "supercategory": "animal"},
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(facts))
    return root


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


# What no reader may fall over


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


def test_imagenet_sizes_of_0(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    rows = ["file,label,orig_w,orig_h,x0,y0,x1,y1", "a.jpg,dog,0,60,1,1,2,2", "a.jpg,cat,80,60,1,1,9,9"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    dataset = open_dataset("imagenet", tmp_path)
    assert problems(dataset) == ["boxes.csv:2: orig_w and orig_h are 0 and 60"]


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


# Severstal


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


# ImageNet-style


def test_imagenet(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(tmp_path / "images" / name)
    rows = ["file,label_index,name,orig_w,orig_h,x0,y0,x1,y1", "a.jpg,3,\"dog, hound\",80,60,20,10,60,30", "a.jpg,3,dog,80,60,0,0,2,2",
            "b.jpg,x,dog,80,60,1,1,2,2", "b.jpg,4,cat,80,60,10,10,90,20", "d.jpg,4,cat,80,60,1,1,9,9", "c.jpg,4,cat,80,60,0,0,80,60"]  # fmt: skip
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    dataset = open_dataset("imagenet", tmp_path)
    assert [(s.name, s.label) for s in dataset.samples] == [("a.jpg 3", 3), ("c.jpg 4", 4)]
    np.testing.assert_array_equal(truth(dataset, "a.jpg 3"), boxed(5, 15, 10, 30) | boxed(0, 1, 0, 1))
    assert problems(dataset) == [
        "boxes.csv:4: invalid literal for int() with base 10: 'x'",
        "boxes.csv:5: the box (10, 10, 90, 20) lies outside the picture of 80 × 60 pixels",
        "boxes.csv:6: there is no picture 'images/d.jpg'",
    ]
    few = open_dataset("imagenet", tmp_path, largest=0.5)
    assert [s.name for s in few.samples] == ["a.jpg 3"]
    assert few.statements[-1] == "1 samples left out, whose boxes cover 50 % or more"
    (tmp_path / "boxes.csv").write_text("image,x\na.jpg,1\n")
    with pytest.raises(DatasetError, match="has the columns image, x; file, label_index or label"):
        open_dataset("imagenet", tmp_path)


def test_kaggles_imagenet(tmp_path: Path) -> None:
    picture(tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 5 6 20 12 n01443537 30 1 35 9 \n"
        "ILSVRC2012_val_00000001,n9 1 2 3 4\nILSVRC2012_val_00000001,n01443537 1 2\n"
    )
    dataset = open_dataset("imagenet", tmp_path)
    assert [(s.name, s.label) for s in dataset.samples] == [("ILSVRC2012_val_00000001.JPEG 1", 1)]
    np.testing.assert_array_equal(
        truth(dataset, "ILSVRC2012_val_00000001.JPEG 1"), boxed(6, 12, 5, 20) | boxed(1, 9, 30, 35)
    )
    assert problems(dataset) == [
        "LOC_val_solution.csv:3: there is no synset n9 in LOC_synset_mapping.txt",
        "LOC_val_solution.csv:4: 3 words: groups of a synset and four numbers are needed",
    ]


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
