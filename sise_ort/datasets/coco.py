"""MS COCO 2014 (and later): annotations/instances_*.json with segmentation masks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sise_ort.datasets.dataset import Dataset, Problem, Sample, Truth, UnusableSample, one_of
from sise_ort.errors import DatasetError, MissingDependencyError


@dataclass(frozen=True)
class Segmentation:
    """A COCO segmentation: polygons, or run lengths (a list of counts, or a packed string)."""

    words: Any
    size: tuple[int, int]
    file: str
    annotation: int

    def mask(self, height: int, width: int) -> Truth:
        try:
            from pycocotools import mask as coco
        except ImportError as error:
            raise MissingDependencyError(
                "COCO's segmentations need pycocotools: pip install 'sise-ort[evaluate]'"
            ) from error
        if self.size != (height, width):
            self._refuse(
                f"it is for {self.size[1]} × {self.size[0]} pixels, the picture has {width} × {height}"
            )
        try:
            if isinstance(self.words, list):
                coded = coco.merge(coco.frPyObjects(self.words, height, width))
            elif isinstance(self.words["counts"], list):
                coded = coco.frPyObjects(self.words, height, width)
            else:
                coded = self.words
            found = coco.decode(coded)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            self._refuse(f"its segmentation cannot be decoded ({error})")
        if found.shape != (height, width) or not found.any():
            self._refuse("its segmentation is empty or of another size")
        return np.asarray(found, bool)

    def _refuse(self, why: str) -> None:
        raise UnusableSample(Problem(self.file, 0, f"annotation {self.annotation}: {why}"))


def read_coco(root: Path, *, split: str = "val2014", crowd: bool = False, union: bool = True) -> Dataset:
    """A COCO folder with annotations/instances_SPLIT.json and SPLIT/*.jpg; one sample per picture and class.

    Parameters
    ----------
    crowd : keep annotations of crowds. union : as for VOC.
    """
    file = root / "annotations" / f"instances_{split}.json"
    if not file.is_file():
        there = ", ".join(
            sorted(p.stem.removeprefix("instances_") for p in root.glob("annotations/instances_*.json"))
        )
        raise DatasetError(f"'{root}' has no annotations/instances_{split}.json; it has {there or 'none'}")
    pictures = one_of(root, [split, f"images/{split}", "images"], "pictures")
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        names = {entry["id"]: str(entry["name"]) for entry in facts["categories"]}
        images = {entry["id"]: entry for entry in facts["images"]}
        annotations = facts["annotations"]
    except json.JSONDecodeError as error:
        raise DatasetError(f"'{file}', line {error.lineno}: it is not JSON ({error.msg})") from error
    except (KeyError, TypeError) as error:
        raise DatasetError(f"'{file}' is no instances file of COCO: {error} is missing") from error
    dataset = Dataset("coco", root)
    groups: dict[tuple[Any, str, Any], list[Segmentation]] = {}
    doubtful: set[tuple[Any, str]] = set()
    crowds = 0
    for number, entry in enumerate(annotations):
        try:
            image, name, segmentation, identity = _annotation(entry, images, names, dataset.name_of(file))
        except (KeyError, TypeError, ValueError) as error:
            dataset.report(
                file,
                0,
                f"annotation {entry.get('id', number) if isinstance(entry, Mapping) else number}: {_words(error)}",
            )
            if isinstance(entry, Mapping) and entry.get("category_id") in names:
                doubtful.add((entry.get("image_id"), names[entry["category_id"]]))
            continue
        if entry.get("iscrowd") and not crowd:
            crowds += 1
            continue
        groups.setdefault((image, name, None if union else identity), []).append(segmentation)
    order = {image: place for place, image in enumerate(images)}
    for (image, name, identity), regions in sorted(groups.items(), key=lambda g: order[g[0][0]]):
        if (image, name) in doubtful:
            continue
        picture = pictures / str(images[image]["file_name"])
        title = f"{picture.stem} {name}" if identity is None else f"{picture.stem} {name} {identity}"
        dataset.add(Sample(title, picture, name, tuple(regions)), file, 0)
    dataset.statements = [
        f"split {split}",
        "crowds included" if crowd else f"{crowds} annotations of crowds left out",
        "the truth is the union of the masks of a class" if union else "every object is a sample of its own",
    ]
    return dataset


def _annotation(
    entry: Mapping[str, Any], images: Mapping[Any, Any], names: Mapping[Any, str], file: str
) -> tuple[Any, str, Segmentation, Any]:
    if entry["image_id"] not in images:
        raise ValueError(f"there is no image {entry['image_id']}")
    if entry["category_id"] not in names:
        raise ValueError(f"there is no category {entry['category_id']}")
    words = entry["segmentation"]
    if not isinstance(words, (list, Mapping)) or not words:
        raise ValueError("its segmentation is neither polygons nor run lengths")
    image = images[entry["image_id"]]
    size = (int(image["height"]), int(image["width"]))
    identity = entry["id"]
    return entry["image_id"], names[entry["category_id"]], Segmentation(words, size, file, identity), identity


def _words(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
