"""PASCAL VOC 2007 (and later): JPEGImages, Annotations, ImageSets/Main."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from sise_ort.datasets.dataset import Box, Dataset, Sample
from sise_ort.datasets.reading import one_of, read_bytes, read_text
from sise_ort.errors import DatasetError

CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TAGS = re.compile(
    rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<(?P<closing>/?)(?P<name>[\w:.-]+)[^<>]*?(?P<empty>/?)>",
    re.DOTALL,
)


@dataclass(frozen=True)
class Object:
    """One object of an annotation.

    Attributes
    ----------
    line : int
        Where it begins.
    name : str
        Its class.
    difficult : bool
        It is marked as difficult.
    corners : dict of float
        Its box by `CORNERS`, counted from 1, the last pixel included.
    """

    line: int
    name: str
    difficult: bool
    corners: dict[str, float]


def read_voc(root: Path, *, split: str = "test", difficult: bool = False, union: bool = True) -> Dataset:
    """Read a VOC folder such as VOCdevkit/VOC2007 (or the folder above it); one sample per picture and class.

    Parameters
    ----------
    root : Path
        The folder.
    split : str
        Pictures of ImageSets/Main/SPLIT.txt are read.
    difficult : bool
        Keep objects that are marked as difficult.
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
    if not (root / "Annotations").is_dir():
        years = sorted(p.parent for p in root.glob("VOC*/Annotations")) + sorted(
            p.parent for p in root.glob("VOCdevkit/VOC*/Annotations")
        )
        if len(years) != 1:
            found = (
                f"it holds {', '.join(str(y.relative_to(root)) for y in years)}: name one"
                if years
                else "there is no Annotations in it"
            )
            raise DatasetError(f"'{root}' is not a VOC folder: {found}")
        root = years[0]
    pictures = one_of(root, ["JPEGImages"], "pictures")
    lists = one_of(root, ["ImageSets/Main"], "lists of pictures")
    listing = lists / f"{split}.txt"
    if not listing.is_file():
        there = ", ".join(sorted(p.stem for p in lists.glob("*.txt") if "_" not in p.stem))
        raise DatasetError(f"'{lists}' has no list '{split}.txt'; it has {there or 'none'}")
    dataset = Dataset("voc", root)
    left_out = 0
    for line, words in enumerate(read_text(listing).splitlines(), 1):
        if not words.strip():
            continue
        stem = words.split()[0]
        annotation = root / "Annotations" / f"{stem}.xml"
        if not annotation.is_file():
            dataset.report(listing, line, f"there is no annotation '{dataset.name_of(annotation)}'")
            continue
        size, objects = _read_annotation(dataset, annotation)
        left_out += sum(o.difficult for o in objects) if not difficult else 0
        kept = [o for o in objects if difficult or not o.difficult]
        groups: dict[tuple[str, int], list[Object]] = {}
        for number, entry in enumerate(kept):
            groups.setdefault((entry.name, 0 if union else number), []).append(entry)
        seen: Counter[str] = Counter()
        for (name, _), members in groups.items():
            seen[name] += 1
            regions = tuple(_box(o, size, dataset.name_of(annotation)) for o in members)
            title = f"{stem} {name}" if union else f"{stem} {name} {seen[name]}"
            dataset.add(Sample(title, pictures / f"{stem}.jpg", name, regions), annotation, members[0].line)
    dataset.statements = [
        f"split {split}",
        "difficult objects included" if difficult else f"{left_out} difficult objects left out",
        "the truth is the union of the boxes of a class" if union else "every object is a sample of its own",
    ]
    return dataset


def _box(found: Object, size: tuple[int, int] | None, file: str) -> Box:
    c = found.corners
    return Box(c["xmin"] - 1, c["ymin"] - 1, c["xmax"], c["ymax"], size, file, found.line)


def _read_annotation(dataset: Dataset, file: Path) -> tuple[tuple[int, int] | None, list[Object]]:
    """The picture's size, None where it is not given, and the objects that can be read; problems are reported."""
    data = read_bytes(file)
    try:
        root = _parsed(data)
    except ElementTree.ParseError as error:
        words = str(error).split(":")[0]
        dataset.report(file, getattr(error, "position", (0, 0))[0], f"it is not XML ({words})")
        return None, []
    except ValueError as error:
        dataset.report(file, 0, str(error))
        return None, []
    lines = _lines_of_objects(data)
    found = root.findall("object")
    lines = lines if len(lines) == len(found) else [0] * len(found)
    whole: list[Object] = []
    doubtful: set[str] = set()
    for element, line in zip(found, lines, strict=True):
        try:
            whole.append(_object(element, line))
        except ValueError as error:
            dataset.report(file, line, str(error))
            doubtful.add(_words(element.find("name")))
    # An object that cannot be read makes the truth of its class doubtful: the class is left out of this picture.
    return _size(dataset, file, root), [o for o in whole if o.name not in doubtful]


def _parsed(data: bytes) -> ElementTree.Element:
    """An annotation's root element.

    Raises
    ------
    ValueError : it declares a document type, whose entities may fill the memory, or is not in an encoding like UTF-8.
    """
    if b"\0" in data:
        raise ValueError("it is not XML in UTF-8")
    if re.search(rb"<!(?:DOCTYPE|ENTITY)", data, re.IGNORECASE):
        raise ValueError("it declares a document type (DOCTYPE), which is not read")
    return ElementTree.fromstring(data)


def _lines_of_objects(data: bytes) -> list[int]:
    """Lines on which the root's children <object> begin."""
    lines, depth = [], 0
    for tag in _TAGS.finditer(data):
        if tag["name"] is None:
            continue
        if tag["closing"]:
            depth -= 1
            continue
        if depth == 1 and tag["name"] == b"object":
            lines.append(data.count(b"\n", 0, tag.start()) + 1)
        depth += not tag["empty"]
    return lines


def _object(element: ElementTree.Element, line: int) -> Object:
    name = _words(element.find("name"))
    corners = {}
    for corner in CORNERS:
        found = element.find(f"bndbox/{corner}")
        if found is None or not name:
            raise ValueError("an object without " + ("a whole box" if name else "a name"))
        try:
            corners[corner] = float(_words(found))
        except ValueError:
            raise ValueError(f"{corner} is '{_words(found)}', not a number") from None
    return Object(line, name, _words(element.find("difficult")) == "1", corners)


def _size(dataset: Dataset, file: Path, root: ElementTree.Element) -> tuple[int, int] | None:
    height, width = _words(root.find("size/height")), _words(root.find("size/width"))
    if not height or not width:
        return None
    try:
        size = int(height), int(width)
    except ValueError:
        dataset.report(file, 0, f"its size is {width} × {height}, not whole numbers")
        return None
    return size if min(size) > 0 else None


def _words(element: ElementTree.Element | None) -> str:
    return (element.text or "").strip() if element is not None else ""
