"""MS COCO 2014 (and later): annotations/instances_*.json with segmentation masks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sise_ort.datasets.dataset import Dataset, Problem, Sample, Truth, UnusableSample
from sise_ort.datasets.reading import one_of, read_text
from sise_ort.errors import DatasetError, MissingDependencyError


@dataclass(frozen=True)
class Segmentation:
    """A COCO segmentation.

    Attributes
    ----------
    words : list or mapping
        Polygons, or run lengths ``{"size": [height, width], "counts": …}`` as a list of counts or a packed string.
    size : (int, int)
        Height and width of the picture that it was drawn for.
    file : str
        Where it stands.
    annotation : anything
        Its number in the file.
    """

    words: Any
    size: tuple[int, int]
    file: str
    annotation: Any

    def mask(self, height: int, width: int) -> Truth:
        """Draw the segmentation; see `Region.mask`. Everything is checked before pycocotools sees it: it crashes."""
        if self.size != (height, width):
            self._refuse(
                f"it is for {self.size[1]} × {self.size[0]} pixels, the picture has {width} × {height}"
            )
        try:
            found = (
                _draw_polygons(self.words, height, width)
                if isinstance(self.words, list)
                else _draw_runs(self.words, height, width)
            )
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            self._refuse(f"its segmentation cannot be decoded ({_words(error)})")
        if not found.any():
            self._refuse("its segmentation is empty")
        return found

    def _refuse(self, why: str) -> NoReturn:
        raise UnusableSample(Problem(self.file, 0, f"annotation {self.annotation}: {why}"))


def _draw_polygons(polygons: list[Any], height: int, width: int) -> Truth:
    """The union of polygons ``[x0, y0, x1, y1, …]``."""
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise MissingDependencyError(
            "COCO's polygons need pycocotools: pip install 'sise-ort[evaluate]'"
        ) from error
    checked = []
    for polygon in polygons:
        points = np.asarray(polygon, np.float64)
        if points.ndim != 1 or points.size < 6 or points.size % 2:
            raise ValueError(
                f"a polygon has {points.size} numbers: pairs of x and y for three points or more are needed"
            )
        if not np.isfinite(points).all():
            raise ValueError("a polygon is not finite")
        x, y = points[::2], points[1::2]
        if min(x.min(), y.min()) < -1 or x.max() > width + 1 or y.max() > height + 1:
            raise ValueError(f"a polygon lies outside the picture of {width} × {height} pixels")
        checked.append(points.tolist())
    return np.asarray(coco.decode(coco.merge(coco.frPyObjects(checked, height, width))), bool)


def _draw_runs(words: Mapping[str, Any], height: int, width: int) -> Truth:
    """Runs of pixels down the columns, left to right: outside and inside in turn."""
    if list(words["size"]) != [height, width]:
        raise ValueError(f"its run lengths are for {words['size']}, the picture is {height} × {width}")
    counts = words["counts"]
    runs = counts if isinstance(counts, list) else _unpack(counts)
    if any(isinstance(run, bool) or not isinstance(run, int) or run < 0 for run in runs):
        raise ValueError("its run lengths are not whole numbers from 0 on")
    if sum(runs) != height * width:
        raise ValueError(f"its run lengths have {sum(runs)} pixels, the picture {height * width}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, np.asarray(runs, np.int64)).reshape(width, height).T


def _unpack(packed: str | bytes) -> list[int]:
    """Read run lengths from COCO's packed string.

    A character holds five bits. From the fourth on, a count is stored as its difference from the count two places before.
    """
    data = packed.encode("ascii") if isinstance(packed, str) else bytes(packed)
    counts: list[int] = []
    value = shift = 0
    for byte in data:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("its packed run lengths are damaged")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its packed run lengths are cut")
    return counts


def read_coco(root: Path, *, split: str = "val2014", crowd: bool = False, union: bool = True) -> Dataset:
    """Read a COCO folder with annotations/instances_SPLIT.json and SPLIT/*.jpg; one sample per picture and class.

    Parameters
    ----------
    root : Path
        The folder.
    split : str
        Which annotations and pictures are read.
    crowd : bool
        Keep annotations of crowds.
    union : bool
        The truth is the union of all objects of the class; otherwise every object is a sample of its own.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        The folder has another layout.
    """
    file = root / "annotations" / f"instances_{split}.json"
    if not file.is_file():
        there = ", ".join(
            sorted(p.stem.removeprefix("instances_") for p in root.glob("annotations/instances_*.json"))
        )
        raise DatasetError(f"'{root}' has no annotations/instances_{split}.json; it has {there or 'none'}")
    pictures = one_of(root, [split, f"images/{split}", "images"], "pictures")
    names, images, annotations = _entries(file)
    dataset = Dataset("coco", root)
    groups: dict[tuple[Any, str, Any], list[Segmentation]] = {}
    doubtful: set[tuple[Any, str]] = set()
    crowds = 0
    for number, entry in enumerate(annotations):
        try:
            image, name, segmentation, identity = _annotation(entry, images, names, dataset.name_of(file))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            identity = entry.get("id", number) if isinstance(entry, Mapping) else number
            dataset.report(file, 0, f"annotation {identity}: {_words(error)}")
            if isinstance(entry, Mapping):
                with contextlib.suppress(KeyError, TypeError):  # what names no picture or class spoils none
                    doubtful.add((entry["image_id"], names[entry["category_id"]]))
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


def _entries(file: Path) -> tuple[dict[Any, str], dict[Any, Mapping[str, Any]], list[Any]]:
    """The classes' names and the pictures by their numbers, and the annotations.

    Raises
    ------
    DatasetError : the file is no instances file.
    """
    try:
        facts = json.loads(read_text(file))
        names = {entry["id"]: str(entry["name"]) for entry in facts["categories"]}
        images = {entry["id"]: entry for entry in facts["images"]}
        annotations = facts["annotations"]
    except json.JSONDecodeError as error:
        raise DatasetError(f"'{file}', line {error.lineno}: it is not JSON ({error.msg})") from error
    except RecursionError as error:
        raise DatasetError(f"'{file}' is no instances file of COCO: it is nested too deeply") from error
    except (KeyError, TypeError) as error:
        raise DatasetError(f"'{file}' is no instances file of COCO: {_words(error)}") from error
    if not isinstance(annotations, list):
        raise DatasetError(f"'{file}' is no instances file of COCO: its annotations are no list")
    return names, images, annotations


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
