"""PASCAL VOC 2007 (and later): JPEGImages, with the boxes of Annotations or the masks of SegmentationClass."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sise_ort.datasets.dataset import Box, Dataset, Problem, Sample, Truth, UnusableSample
from sise_ort.datasets.reading import one_of, read_bytes, read_text
from sise_ort.errors import DatasetError, FrameError
from sise_ort.frame import read

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's classes in the order of their colours in SegmentationClass, from 1; 0 is the background."""
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


@dataclass(frozen=True)
class ClassMask:
    """One class in a picture of SegmentationClass.

    Attributes
    ----------
    path : Path
    name : str
        As seen from the data set's folder.
    number : int
        Of the class, from 1.
    """

    path: Path
    name: str
    number: int

    def mask(self, height: int, width: int) -> Truth:
        """Read the mask; see `Region.mask`."""
        try:
            numbers = class_numbers(self.path)
        except (FrameError, ValueError) as error:
            raise self._unusable(str(error)) from error
        if numbers.shape != (height, width):
            rows, columns = numbers.shape
            raise self._unusable(f"the mask has {columns} × {rows} pixels, the picture {width} × {height}")
        inside: Truth = numbers == self.number
        return inside

    def _unusable(self, why: str) -> UnusableSample:
        return UnusableSample(Problem(self.name, 0, why))


def palette() -> NDArray[np.uint8]:
    """VOC's colours of 256 numbers, red, green and blue, [256, 3].

    Notes
    -----
    Bits 0, 1 and 2 of a number become the highest bits of red, green and blue, bits 3 to 5 the next, and so on.
    """
    bits = np.arange(256)[:, None] >> np.arange(9) & 1
    colors: NDArray[np.uint8] = (
        (bits.reshape(256, 3, 3) << np.array([7, 6, 5])[:, None]).sum(axis=1).astype(np.uint8)
    )
    return colors


def class_numbers(file: Path) -> NDArray[np.int64]:
    """Read a picture of SegmentationClass.

    Parameters
    ----------
    file : Path
        A PNG in VOC's palette, or a gray one whose pixels are the numbers.

    Returns
    -------
    int64 [height, width]
        The class of every pixel from 1, 0 for the background, 255 for none.

    Raises
    ------
    FrameError
        It is no picture.
    ValueError
        A colour is none of a class.
    """
    pixels = read(file).pixels.astype(np.int64)
    numbers = pixels[:, :, 0]
    if pixels.shape[2] == 3:
        weights = np.array([1 << 16, 1 << 8, 1])
        colors = palette() @ weights
        order = np.argsort(colors)
        codes = pixels @ weights
        places = order[np.searchsorted(colors[order], codes).clip(max=255)]
        numbers = np.where(colors[places] == codes, places, -1)
    strange = (numbers != 255) & ~((numbers >= 0) & (numbers <= len(CLASSES)))
    if strange.any():
        raise ValueError(
            f"a pixel has the colour {pixels[strange][0].tolist()}, which is none of a VOC class"
        )
    return numbers


def read_voc(
    root: Path, *, split: str = "test", difficult: bool = False, union: bool = True, masks: bool = False
) -> Dataset:
    """Read a VOC folder such as VOCdevkit/VOC2007 (or the folder above it); one sample per picture and class.

    Parameters
    ----------
    root : Path
        The folder.
    split : str
        Pictures of ImageSets/Main/SPLIT.txt are read; with masks, those of ImageSets/Segmentation/SPLIT.txt.
    difficult : bool
        Keep objects that are marked as difficult.
    union : bool
        The truth is the union of all objects of the class; otherwise every object is a sample of its own.
    masks : bool
        The truth is the class's pixels in SegmentationClass instead of the boxes; pixels of no class (void) count as
        outside.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        The folder has another layout, or masks are asked for single or difficult objects.
    """
    if masks and (difficult or not union):
        raise DatasetError(
            "masks=true takes the masks of whole classes: leave out difficult=true and union=false"
        )
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
    lists = one_of(root, ["ImageSets/Segmentation" if masks else "ImageSets/Main"], "lists of pictures")
    listing = lists / f"{split}.txt"
    if not listing.is_file():
        there = ", ".join(sorted(p.stem for p in lists.glob("*.txt") if "_" not in p.stem))
        raise DatasetError(f"'{lists}' has no list '{split}.txt'; it has {there or 'none'}")
    dataset = Dataset("voc", root)
    if masks:
        _add_masks(dataset, listing, pictures)
    else:
        _add_boxes(dataset, listing, pictures, difficult, union)
    return dataset


def _add_masks(dataset: Dataset, listing: Path, pictures: Path) -> None:
    """A sample per picture and class of SegmentationClass."""
    for line, stem in _listed(listing):
        file = dataset.root / "SegmentationClass" / f"{stem}.png"
        if not file.is_file():
            dataset.report(listing, line, f"there is no mask '{dataset.name_of(file)}'")
            continue
        try:
            numbers = np.unique(class_numbers(file)).tolist()
        except (FrameError, ValueError) as error:
            dataset.report(file, 0, str(error))
            continue
        for number in (n for n in numbers if 0 < n <= len(CLASSES)):
            name, region = CLASSES[number - 1], ClassMask(file, dataset.name_of(file), number)
            sample = Sample(f"{stem} {name}", pictures / f"{stem}.jpg", name, (region,))
            dataset.add(sample, listing, line)
    dataset.statements = [f"split {listing.stem}", "the truth is the mask of a class"]


def _add_boxes(dataset: Dataset, listing: Path, pictures: Path, difficult: bool, union: bool) -> None:
    """A sample per picture and class, or object, of Annotations."""
    left_out = 0
    for line, stem in _listed(listing):
        annotation = dataset.root / "Annotations" / f"{stem}.xml"
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
        f"split {listing.stem}",
        "difficult objects included" if difficult else f"{left_out} difficult objects left out",
        "the truth is the union of the boxes of a class" if union else "every object is a sample of its own",
    ]


def _listed(listing: Path) -> list[tuple[int, str]]:
    """Lines of a list of pictures, and the names on them."""
    lines = enumerate(read_text(listing).splitlines(), 1)
    return [(line, words.split()[0]) for line, words in lines if words.strip()]


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
