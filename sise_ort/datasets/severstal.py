"""Severstal steel defects (Kaggle 2019): train.csv with run-length masks, train_images of 256 × 1600 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sise_ort.datasets.dataset import Dataset, Problem, Sample, Truth, UnusableSample
from sise_ort.datasets.reading import one_of, pictures_in, read_rows, read_text
from sise_ort.errors import DatasetError

CLASSES = ("1", "2", "3", "4")
NORMAL = "normal"


@dataclass(frozen=True)
class RunLengths:
    """Runs of pixels, counted down the columns, left to right.

    Attributes
    ----------
    words : str
        Pairs of start (from 1) and length.
    file : str
        Where it stands.
    line : int
        From 1.
    """

    words: str
    file: str
    line: int

    def runs(self) -> list[tuple[int, int]]:
        """Read the pairs of start and length; raises UnusableSample where they are none."""
        try:
            numbers = [int(word) for word in self.words.split()]
        except ValueError:
            self._refuse("the run lengths are not whole numbers")
        if not numbers or len(numbers) % 2:
            self._refuse(f"{len(numbers)} run-length numbers: pairs of start and length are needed")
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        end = 1
        for start, length in pairs:
            if start < end or length < 1:
                self._refuse(f"the run {start} {length} is empty, goes back or overlaps the one before")
            end = start + length
        return pairs

    def mask(self, height: int, width: int) -> Truth:
        """Draw the runs; see `Region.mask`."""
        pairs = self.runs()
        last = sum(pairs[-1]) - 1
        if last > height * width:
            self._refuse(f"a run ends at pixel {last}, outside the picture of {width} × {height} pixels")
        flat = np.zeros(height * width, bool)
        for start, length in pairs:
            flat[start - 1 : start - 1 + length] = True
        return flat.reshape(width, height).T

    def _refuse(self, why: str) -> None:
        raise UnusableSample(Problem(self.file, self.line, why))


def read_severstal(root: Path, *, normal: bool = True) -> Dataset:
    """Read a folder with train.csv and train_images; one sample per picture and defect class.

    Both forms of the file are read: ``ImageId_ClassId,EncodedPixels`` with a row for each of the four classes of every
    picture, and ``ImageId,ClassId,EncodedPixels`` with the defects alone. Classes are "1" to "4".

    Parameters
    ----------
    root : Path
        The folder.
    normal : bool
        Keep pictures without any defect, as samples of the class "normal" without a truth.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        The folder has another layout.
    """
    file = one_of(root, ["train.csv"], "masks")
    pictures = one_of(root, ["train_images"], "pictures")
    header = [name.strip() for name in read_text(file).partition("\n")[0].split(",")]
    joined = header == ["ImageId_ClassId", "EncodedPixels"]
    if not joined and header != ["ImageId", "ClassId", "EncodedPixels"]:
        raise DatasetError(
            f"'{file}' begins with {','.join(header)}; ImageId_ClassId,EncodedPixels or "
            "ImageId,ClassId,EncodedPixels is needed"
        )
    dataset = Dataset("severstal", root)
    seen: set[tuple[str, str]] = set()
    defective: set[str] = set()
    for line, row in read_rows(file):
        name, _, kind = (
            row["ImageId_ClassId"].rpartition("_") if joined else (row["ImageId"], "", row.get("ClassId", ""))
        )
        words = row.get("EncodedPixels", "").strip()
        if row.get(""):
            dataset.report(file, line, row[""])
        elif not name or kind not in CLASSES:
            dataset.report(file, line, f"the class is '{kind}', not one of {', '.join(CLASSES)}")
        elif (name, kind) in seen:
            dataset.report(file, line, f"class {kind} of {name} stands there a second time")
        elif words:
            region = RunLengths(words, dataset.name_of(file), line)
            try:
                region.runs()
            except UnusableSample as found:
                dataset.problems.append(found.problem)
            else:
                dataset.add(Sample(f"{name} {kind}", pictures / name, kind, (region,)), file, line)
        defective |= {name} if words or row.get("") else set()
        seen.add((name, kind))
    sound = [p for p in pictures_in(pictures) if p.name not in defective]
    if normal:
        dataset.samples += [Sample(f"{p.name} {NORMAL}", p, NORMAL) for p in sound]
    dataset.statements = [
        f"train.csv in the form {','.join(header)}",
        f"{len(sound)} pictures without a defect " + (f"kept as class {NORMAL}" if normal else "left out"),
    ]
    return dataset
