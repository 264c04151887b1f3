"""Data sets made small, each in exactly its real layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sise_ort.datasets import Dataset


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


def voc_folder(tmp_path: Path) -> Path:
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


def coco_folder(tmp_path: Path) -> Path:
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


def voc_masks(root: Path, split: str, masks: dict[str, Any]) -> Path:
    """Masks [h, w] of class numbers as VOC keeps them: PNG with VOC's palette, listed in ImageSets/Segmentation."""
    from PIL import Image

    colors = []
    for number in range(256):
        color, rest = [0, 0, 0], number
        for level in range(7, -1, -1):
            color = [c | (rest >> channel & 1) << level for channel, c in enumerate(color)]
            rest >>= 3
        colors += color
    for folder in ("SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem, numbers in masks.items():
        image = Image.fromarray(numbers.astype(np.uint8), "P")
        image.putpalette(colors)
        image.save(root / "SegmentationClass" / f"{stem}.png")
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in masks))
    return root
