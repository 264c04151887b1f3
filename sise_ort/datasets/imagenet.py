"""ImageNet-style: pictures, and a CSV file with one box a row; or Kaggle's LOC_val_solution.csv."""

from __future__ import annotations

from pathlib import Path

from sise_ort.datasets.dataset import Box, Dataset, Sample, UnusableSample
from sise_ort.datasets.reading import one_of, read_rows, read_text
from sise_ort.errors import DatasetError

FILE = ("file", "filename", "image", "ImageId")
LABEL = ("label_index", "label", "class", "box_class")
CORNERS = ("x0", "y0", "x1", "y1")
KAGGLE = "LOC_val_solution.csv"


def read_imagenet(root: Path, *, boxes: str = "", largest: float = 1.0, union: bool = True) -> Dataset:
    """Read a folder with pictures (in images/, val/ or beside the file) and boxes; one sample per picture and class.

    The CSV file has a column `file`, one of `label_index` (the network's class, from 0) and `label` (its name), and
    `x0,y0,x1,y1` in pixels. Where it has `orig_w` and `orig_h` too, the boxes are those of a picture of that size and
    are scaled to the file's. Kaggle's LOC_val_solution.csv is read with LOC_synset_mapping.txt beside it.

    Parameters
    ----------
    root : Path
        The folder.
    boxes : str
        The CSV file's name, where there are several.
    largest : float
        Leave out samples whose boxes cover this share of the picture or more (1 keeps all; needs orig_w and orig_h).
    union : bool
        The truth is the union of all boxes of the class; otherwise every box is a sample of its own.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        The folder has another layout.
    """
    if boxes:
        file = one_of(root, [boxes], "boxes")
    else:
        files = sorted(root.glob("*.csv"))
        kaggle = root / KAGGLE
        if len(files) != 1 and not kaggle.is_file():
            there = ", ".join(f.name for f in files) or "none"
            raise DatasetError(f"'{root}' needs one CSV file with boxes (or boxes=NAME); it has {there}")
        file = kaggle if kaggle.is_file() else files[0]
    folder = next(
        (root / n for n in ("images", "val", "ILSVRC/Data/CLS-LOC/val") if (root / n).is_dir()), root
    )
    dataset = Dataset("imagenet", root)
    rows = _kaggle_rows(dataset, file) if file.name.startswith("LOC_") else _rows(dataset, file)
    groups: dict[tuple[str, str | int, int], list[Box]] = {}
    for name, label, box in rows:
        groups.setdefault((name, label, 0 if union else box.line), []).append(box)
    too_large = 0
    for (name, label, number), members in groups.items():
        if largest < 1 and _share(members) >= largest:
            too_large += 1
            continue
        title = f"{name} {label}" if union else f"{name} {label} {number}"
        dataset.add(Sample(title, folder / name, label, tuple(members)), file, members[0].line)
    dataset.statements = [
        f"boxes from {file.name}",
        "the truth is the union of the boxes of a class" if union else "every box is a sample of its own",
    ]
    if largest < 1:
        dataset.statements.append(
            f"{too_large} samples left out, whose boxes cover {100 * largest:g} % or more"
        )
    return dataset


def _share(boxes: list[Box]) -> float:
    """The share of the picture that boxes cover; 0 where one does not say its picture's size, or does not fit."""
    sizes = {box.size for box in boxes}
    size = next(iter(sizes))
    if len(sizes) != 1 or size is None:
        return 0.0
    try:
        return float(Sample("", Path(), None, tuple(boxes)).truth(*size).mean())  # type: ignore[union-attr]
    except UnusableSample:
        return 0.0


def _rows(dataset: Dataset, file: Path) -> list[tuple[str, str | int, Box]]:
    found: list[tuple[str, str | int, Box]] = []
    doubtful: set[tuple[str, str | int]] = set()
    columns: tuple[str, str] | None = None
    for line, row in read_rows(file):
        if columns is None:
            name_column = next((c for c in FILE if c in row), None)
            label_column = next((c for c in LABEL if c in row), None)
            if name_column is None or label_column is None or any(c not in row for c in CORNERS):
                raise DatasetError(
                    f"'{file}' has the columns {', '.join(row)}; file, label_index or label, x0, y0, x1, y1 are needed"
                )
            columns = (name_column, label_column)
        name, words = row.get(columns[0], "").strip(), row.get(columns[1], "").strip()
        label: str | int = words
        try:
            if row.get(""):
                raise ValueError(row[""])
            if not name or not words:
                raise ValueError("the picture or the class is missing")
            if columns[1] == "label_index":
                label = int(words)
            left, top, right, bottom = (float(row[c]) for c in CORNERS)
            size = (int(row["orig_h"]), int(row["orig_w"])) if {"orig_h", "orig_w"} <= set(row) else None
            if size is not None and min(size) < 1:
                raise ValueError(f"orig_w and orig_h are {size[1]} and {size[0]}")
        except ValueError as error:
            dataset.report(file, line, str(error))
            doubtful.add((name, label))
            continue
        found.append(
            (name, label, Box(left, top, right, bottom, size, dataset.name_of(file), line, scaled=True))
        )
    return [entry for entry in found if entry[:2] not in doubtful]


def _kaggle_rows(dataset: Dataset, file: Path) -> list[tuple[str, str | int, Box]]:
    mapping = one_of(file.parent, ["LOC_synset_mapping.txt"], "list of classes")
    synsets = [words.split()[0] for words in read_text(mapping).splitlines() if words.strip()]
    classes = {synset: place for place, synset in enumerate(synsets)}
    found: list[tuple[str, str | int, Box]] = []
    for line, row in read_rows(file):
        words = row.get("PredictionString", "").split()
        try:
            if row.get("") or len(words) == 0 or len(words) % 5:
                raise ValueError(
                    row.get("") or f"{len(words)} words: groups of a synset and four numbers are needed"
                )
            entries: list[tuple[str, str | int, Box]] = []
            for i in range(0, len(words), 5):
                if words[i] not in classes:
                    raise ValueError(f"there is no synset {words[i]} in {mapping.name}")
                left, top, right, bottom = (float(word) for word in words[i + 1 : i + 5])
                box = Box(left, top, right, bottom, None, dataset.name_of(file), line)
                entries.append((f"{row['ImageId']}.JPEG", classes[words[i]], box))
        except ValueError as error:
            dataset.report(file, line, str(error))
            continue
        found += entries
    return found
