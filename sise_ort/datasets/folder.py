"""A plain folder of pictures, with masks or without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sise_ort.datasets.dataset import Dataset, Problem, Sample, Truth, UnusableSample, pictures_in
from sise_ort.errors import DatasetError, FrameError
from sise_ort.frame import read_frame


@dataclass(frozen=True)
class MaskFile:
    """A picture of the truth: everything over half of the brightness belongs to the object."""

    path: Path
    name: str

    def mask(self, height: int, width: int) -> Truth:
        try:
            picture = read_frame(self.path)
        except FrameError as error:
            raise UnusableSample(Problem(self.name, 0, str(error))) from error
        if picture.shape[:2] != (height, width):
            raise UnusableSample(
                Problem(
                    self.name,
                    0,
                    f"the mask has {picture.shape[1]} × {picture.shape[0]} pixels, the picture {width} × {height}",
                )
            )
        return picture.mean(2) > 127.5  # type: ignore[no-any-return]


def read_folder(root: Path) -> Dataset:
    """Pictures in the folder, in images/, or in one folder per class; masks of the same name in masks/.

    A picture in a folder of its own has that folder's name as its class; others have none, and the top class is
    explained. A mask may be a PNG or of the picture's own kind.
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
