"""What a data set is: samples, each a picture with one class and its truth; and the problems met in reading it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """Something in a data set that cannot be used.

    Attributes
    ----------
    file : str
        As seen from the data set's folder.
    line : int
        From 1; 0 where it is not about a line.
    message : str
        What is wrong.
    """

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class UnusableSample(Exception):
    """A sample that turns out to be unusable when its picture is seen; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Region(Protocol):
    """Where one object is."""

    def mask(self, height: int, width: int) -> Truth:
        """Draw the object.

        Parameters
        ----------
        height, width : int
            The picture's size.

        Returns
        -------
        bool [height, width]

        Raises
        ------
        UnusableSample
            It does not fit the picture.
        """


@dataclass(frozen=True)
class Box:
    """A rectangle [left, right) × [top, bottom) in pixels.

    Attributes
    ----------
    left, top, right, bottom : float
    size : (int, int) or None
        Height and width of the picture that it was drawn for, where that is said.
    file : str
        Where it stands.
    line : int
        From 1; 0 where it is not about a line.
    scaled : bool
        The picture may have another size, and the box is scaled with it.
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
        """Refuse a box that is empty, not finite, or leaves the picture by more than a pixel.

        Parameters
        ----------
        height, width : int
            The picture's size.

        Raises
        ------
        UnusableSample
            It is one of these.
        """
        if not all(map(math.isfinite, (self.left, self.top, self.right, self.bottom))):
            self._refuse("is not finite")
        if not (self.left < self.right and self.top < self.bottom):
            self._refuse("is empty")
        if min(self.left, self.top) < -1 or self.right > width + 1 or self.bottom > height + 1:
            self._refuse(f"lies outside the picture of {width} × {height} pixels")

    def _refuse(self, why: str) -> None:
        corners = ", ".join(f"{v:g}" for v in (self.left, self.top, self.right, self.bottom))
        raise UnusableSample(Problem(self.file, self.line, f"the box ({corners}) {why}"))

    def mask(self, height: int, width: int) -> Truth:
        """Draw the rectangle; see `Region.mask`."""
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

    Attributes
    ----------
    name : str
        Unique in the data set.
    picture : Path
    label : str, int or None
        The data set's name of the class, an index into the network's classes, or None where it is not known.
    regions : tuple of Region
        The objects of that class; none where the truth is not known.
    """

    name: str
    picture: Path
    label: str | int | None
    regions: tuple[Region, ...] = ()

    def truth(self, height: int, width: int) -> Truth | None:
        """Draw the union of all regions.

        Parameters
        ----------
        height, width : int
            The picture's size.

        Returns
        -------
        bool [height, width], or None where there are no regions

        Raises
        ------
        UnusableSample
            A region does not fit the picture.
        """
        if not self.regions:
            return None
        return np.any([region.mask(height, width) for region in self.regions], axis=0)  # type: ignore[no-any-return]


@dataclass
class Dataset:
    """A data set that was read.

    Attributes
    ----------
    kind : str
        Name of its format.
    root : Path
        Its folder.
    samples : list of Sample
        In a fixed order.
    problems : list of Problem
        What cannot be used.
    statements : list of str
        What was read and how.
    """

    kind: str
    root: Path
    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def report(self, file: Path | str, line: int, message: str) -> None:
        """Add a problem.

        Parameters
        ----------
        file : Path or str
            Where it stands.
        line : int
            From 1; 0 where it is not about a line.
        message : str
            What is wrong.
        """
        self.problems.append(Problem(self.name_of(file), line, message))

    def name_of(self, file: Path | str) -> str:
        """Name a file as seen from the data set's folder.

        Parameters
        ----------
        file : Path or str
            Its path.

        Returns
        -------
        str
        """
        path = Path(file)
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def add(self, sample: Sample, file: Path, line: int) -> None:
        """Add a sample, unless its picture is missing or a region is known to lie outside of it: a problem then.

        Parameters
        ----------
        sample : Sample
            What to add.
        file : Path
            Where it stands.
        line : int
            From 1; 0 where it is not about a line.
        """
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
