"""PASCAL VOC 2007 (and later): JPEGImages, Annotations, ImageSets/Main."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from sise_ort.datasets.dataset import Box, Dataset, Sample, one_of
from sise_ort.errors import DatasetError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class Object:
    """One object of an annotation: its name, box (1-based, inclusive), difficulty, and the line where it begins."""

    line: int
    name: str = ""
    difficult: bool = False
    corners: dict[str, float] | None = None


def read_voc(root: Path, *, split: str = "test", difficult: bool = False, union: bool = True) -> Dataset:
    """A VOC folder such as VOCdevkit/VOC2007 (or the folder above it); one sample per picture and class.

    Parameters
    ----------
    split : pictures of ImageSets/Main/SPLIT.txt.
    difficult : keep objects that are marked as difficult.
    union : the truth is the union of all objects of the class; otherwise every object is a sample of its own.
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
    for line, words in enumerate(listing.read_text(encoding="utf-8").splitlines(), 1):
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
    assert found.corners is not None
    c = found.corners
    return Box(c["xmin"] - 1, c["ymin"] - 1, c["xmax"], c["ymax"], size, file, found.line)


def _read_annotation(dataset: Dataset, file: Path) -> tuple[tuple[int, int] | None, list[Object]]:
    """The picture's size, None where it is not given, and the objects that can be read; problems are reported."""
    parser = expat.ParserCreate()
    tags: list[str] = []
    words: list[str] = []
    objects: list[Object] = []
    size: dict[str, float] = {}
    bad: dict[int, str] = {}

    def start(tag: str, _: object) -> None:
        tags.append(tag)
        words.clear()
        if tags[1:] == ["object"]:
            objects.append(Object(parser.CurrentLineNumber))

    def end(tag: str) -> None:
        text = "".join(words).strip()
        place = tags[1:]
        try:
            if place == ["object", "name"]:
                objects[-1].name = text
            elif place == ["object", "difficult"]:
                objects[-1].difficult = text == "1"
            elif place[:2] == ["object", "bndbox"] and tag in CORNERS:
                objects[-1].corners = {**(objects[-1].corners or {}), tag: float(text)}
            elif place[:1] == ["size"] and tag in ("width", "height"):
                size[tag] = int(text)
        except ValueError:
            bad[objects[-1].line if place[0] == "object" else parser.CurrentLineNumber] = (
                f"{tag} is '{text}', not a number"
            )
        tags.pop()
        words.clear()

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = words.append
    try:
        parser.Parse(file.read_bytes(), True)
    except expat.ExpatError as error:
        dataset.report(file, error.lineno, f"it is not XML ({expat.ErrorString(error.code)})")
        return None, []
    whole = []
    for found in objects:
        if found.line not in bad and (not found.name or set(found.corners or ()) != set(CORNERS)):
            bad[found.line] = "an object without " + ("a name" if not found.name else "a whole box")
        if found.line not in bad:
            whole.append(found)
    for line, message in bad.items():
        dataset.report(file, line, message)
    # An object that cannot be read makes the truth of its class doubtful: the class is left out of this picture.
    doubtful = {o.name for o in objects if o.line in bad}
    known = (int(size["height"]), int(size["width"])) if len(size) == 2 and min(size.values()) > 0 else None
    return known, [o for o in whole if o.name not in doubtful]
