"""A plain folder of pictures, with masks or without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sise_ort.datasets.dataset import Dataset, Problem, Sample, Truth, UnusableSample
from sise_ort.datasets.reading import pictures_in
from sise_ort.errors import DatasetError, FrameError
from sise_ort.frame import read


@dataclass(frozen=True)
class MaskFile:
    """A picture of the truth: everything over half of the brightness belongs to the object.

    Attributes
    ----------
    path : Path
    name : str
        As seen from the data set's folder.
    """

    path: Path
    name: str

    def mask(self, height: int, width: int) -> Truth:
        """Read the mask; see `Region.mask`."""
        try:
            frame = read(self.path)
        except FrameError as error:
            self._refuse(str(error))
        picture = frame.pixels
        if picture.shape[:2] != (height, width):
            self._refuse(
                f"the mask has {picture.shape[1]} × {picture.shape[0]} pixels, the picture {width} × {height}"
            )
        if frame.notes:
            self._refuse(f"the mask cannot be taken as it is: {frame.notes[0]}")
        bright = picture.mean(2)
        if 0 < bright.max() <= 127.5:
            self._refuse(
                f"the mask is nowhere over half of the brightness; its largest value is {bright.max():g}"
            )
        return bright > 127.5  # type: ignore[no-any-return]

    def _refuse(self, why: str) -> NoReturn:
        raise UnusableSample(Problem(self.name, 0, why))


def read_folder(root: Path) -> Dataset:
    """Read pictures in a folder, in images/, or in one folder per class; masks of the same name in masks/.

    A picture in a folder of its own has that folder's name as its class; others have none, and the top class is
    explained. A mask may be a PNG or of the picture's own kind.

    Parameters
    ----------
    root : Path
        The folder.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        There are no pictures.
    """
    base = root / "images" if (root / "images").is_dir() else root
    masks = root / "masks"
    dataset = Dataset("folder", root)
    folders = [(base, None)] + [
        (f, f.name)
        for f in sorted(base.iterdir())
        if f.is_dir() and f != masks and not f.name.startswith(".")
    ]
    known: set[Path] = set()
    for folder, label in folders:
        for picture in pictures_in(folder):
            inside = picture.relative_to(base)
            places = (masks / inside.with_suffix(s) for s in (".png", picture.suffix))
            mask = next((m for m in places if m.is_file()), None)
            regions = (MaskFile(mask, dataset.name_of(mask)),) if mask else ()
            known |= {mask} if mask else set()
            dataset.samples.append(Sample(str(inside), picture, label, regions))
    if not dataset.samples:
        raise DatasetError(f"there are no pictures in '{base}' nor in the folders in it")
    if masks.is_dir():
        for stray in sorted(p for p in masks.rglob("*") if p.is_file() and p not in known):
            dataset.report(stray, 0, "there is no picture for this mask")
    with_truth = sum(bool(s.regions) for s in dataset.samples)
    dataset.statements = [f"{with_truth} of {len(dataset.samples)} pictures have a mask"]
    return dataset
