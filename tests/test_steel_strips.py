"""The drawn strips of examples/steel: the same for the same seed, as dark as real ones, with masks that hold the defects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "steel"
MODULES = ("defects", "noise", "strips", "surface")
KINDS = ("pitted", "dashes", "scratches", "scabs")


@pytest.fixture(scope="module")
def strips() -> Iterator[ModuleType]:
    """The module that draws; its neighbours are imported by their plain names, as the scripts do."""
    sys.path.insert(0, str(FOLDER))
    try:
        import strips  # type: ignore[import-not-found]

        yield strips
    finally:
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)


def test_a_seed_draws_one_strip(strips: ModuleType) -> None:
    first, again, other = (strips.draw_strip(["scabs"], np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (256, 1600) and first[0].dtype == np.uint8 and first[1].shape == (1, 256, 1600)


def test_sound_strips_are_as_dark_as_real_ones(strips: ModuleType) -> None:
    """The mean gray level of the sheet of Severstal's strips is around 95, between 60 and 127 for the twelve looked at."""
    sheets = []
    for seed in range(8):
        strip, masks = strips.draw_strip([], np.random.default_rng([1, seed]))
        assert len(masks) == 0
        sheets.append(strip[strip > 14].mean())
    assert 60 < np.mean(sheets) < 127


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_lies_in_its_mask(strips: ModuleType, kind: str) -> None:
    """What a defect changes by a tenth and more lies within three pixels of its mask, but for shadows at a scab's rim."""
    import cv2
    from defects import DRAW  # type: ignore[import-not-found]

    assert tuple(DRAW) == KINDS == strips.CLASSES
    for seed in range(3):
        defect = DRAW[kind](np.random.default_rng([2, seed]), (0, 1600))
        change = np.abs(defect.factor - 1) + np.abs(defect.shine)
        assert defect.mask.any() and (change[defect.mask] > 0.1).mean() > 0.05
        near = cv2.dilate(defect.mask.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
        assert change[~near].max() < 0.35 and change[defect.mask].sum() > 0.6 * change.sum()


def test_several_kinds_have_a_mask_each(strips: ModuleType) -> None:
    _, masks = strips.draw_strip(["pitted", "scratches"], np.random.default_rng(4))
    assert masks.shape == (2, 256, 1600) and masks.any((1, 2)).all() and not np.array_equal(*masks)
