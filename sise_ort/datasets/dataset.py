"""What a data set is: samples, each a picture with one class and its truth; and the problems met in reading it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import DatasetError

Truth = NDArray[np.bool_]
PICTURES = frozenset(".bmp .jpeg .jpg .png .ppm .tif .tiff .webp".split())
"""Endings of picture files, in lower case."""


@dataclass(frozen=True)
class Problem:
    """Something in a data set that cannot be used. line : from 1; 0 where it is not about a line."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class UnusableSample(Exception):
    """A sample turns out to be unusable when its picture is seen; carries the Problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Region(Protocol):
    """Where one object is. `mask` draws it for a picture's size and raises UnusableSample where it does not fit."""

    def mask(self, height: int, width: int) -> Truth: ...


@dataclass(frozen=True)
class Box:
    """A rectangle [left, right) × [top, bottom) in pixels.

    size : (height, width) of the picture that it was drawn for, None where that is not said. scaled : the picture may
    have another size, and the box is scaled with it.
    """

    left: float
    top: float
    right: float
    bottom: float
    size: tuple[int, int] | None
    file: str
    line: int
    scaled: bool = False

    def check(self, height: int, width: int) -> None:
        """Raise UnusableSample where the box is empty or leaves a picture of this size by more than a pixel."""
        if not (self.left < self.right and self.top < self.bottom):
            self._refuse("is empty")
        if min(self.left, self.top) < -1 or self.right > width + 1 or self.bottom > height + 1:
            self._refuse(f"lies outside the picture of {width} × {height} pixels")

    def _refuse(self, why: str) -> None:
        corners = ", ".join(f"{v:g}" for v in (self.left, self.top, self.right, self.bottom))
        raise UnusableSample(Problem(self.file, self.line, f"the box ({corners}) {why}"))

    def mask(self, height: int, width: int) -> Truth:
        of = self.size or (height, width)
        if of != (height, width) and not self.scaled:
            self._refuse(f"is for {of[1]} × {of[0]} pixels, the picture has {width} × {height}")
        self.check(*of)
        rows, columns = height / of[0], width / of[1]
        found = np.zeros((height, width), bool)
        top, bottom = round(max(self.top, 0) * rows), round(self.bottom * rows)
        left, right = round(max(self.left, 0) * columns), round(self.right * columns)
        found[top : max(bottom, top + 1), left : max(right, left + 1)] = True
        return found


@dataclass(frozen=True)
class Sample:
    """A picture and one class in it.

    name : unique in the data set. label : the data set's name of the class, an index into the network's classes, or
    None where it is not known. regions : the objects of that class; none where the truth is not known.
    """

    name: str
    picture: Path
    label: str | int | None
    regions: tuple[Region, ...] = ()

    def truth(self, height: int, width: int) -> Truth | None:
        """The union of all regions, bool [height, width], None where there are none.

        Raises
        ------
        UnusableSample : a region does not fit the picture.
        """
        if not self.regions:
            return None
        return np.any([region.mask(height, width) for region in self.regions], axis=0)  # type: ignore[no-any-return]


@dataclass
class Dataset:
    """Samples in a fixed order, the problems met, and statements on what was read and how."""

    kind: str
    root: Path
    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def report(self, file: Path | str, line: int, message: str) -> None:
        self.problems.append(Problem(self.name_of(file), line, message))

    def name_of(self, file: Path | str) -> str:
        """A file's path as seen from the data set's folder."""
        path = Path(file)
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def add(self, sample: Sample, file: Path, line: int) -> None:
        """Add a sample, unless its picture is missing or a region is known to lie outside of it."""
        if not sample.picture.is_file():
            self.report(file, line, f"there is no picture '{self.name_of(sample.picture)}'")
            return
        try:
            for region in sample.regions:
                if isinstance(region, Box) and region.size is not None:
                    region.check(*region.size)
        except UnusableSample as found:
            self.problems.append(found.problem)
            return
        self.samples.append(sample)


def one_of(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of some paths below `root` that exists.

    Raises
    ------
    DatasetError : none does.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise DatasetError(f"'{root}' has no {what}: there is no {' and no '.join(names)} in it")


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their line numbers; a row that is too short or too long has the key ""."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        names = [name.strip() for name in header]
        try:
            for cells in reader:
                if not cells:
                    continue
                row = dict(zip(names, cells, strict=False))
                if len(cells) != len(names):
                    row[""] = f"{len(cells)} columns where the header has {len(names)}"
                yield reader.line_num, row
        except csv.Error as error:
            yield reader.line_num, {"": f"it is not CSV ({error}); what follows was not read"}


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
