"""How a changed data set is recognised, and which samples are evaluated."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sise_ort
from sise_ort.datasets import Dataset, Sample
from sise_ort.datasets.coco import Segmentation
from sise_ort.datasets.dataset import Box
from sise_ort.datasets.folder import MaskFile
from sise_ort.datasets.severstal import RunLengths
from sise_ort.errors import DatasetError
from sise_ort.runtime.evaluation import Plan
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.samples import dataset_digest, files_of, fingerprint, select


def data_set(root: Path, *regions: Any, label: str | None = "ant", name: str = "a.png") -> Dataset:
    """One sample whose picture has five bytes."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "a.png").write_bytes(b"12345")
    return Dataset("folder", root, [Sample(name, root / "a.png", label, regions)])


BOX = Box(1, 2, 3, 4, (10, 10), "a.xml", 7)
SEGMENTATION = Segmentation([[0, 0, 0, 5, 5, 5]], (10, 10), "a.json", 3)
RUNS = RunLengths("1 3 7 2", "train.csv", 2)


@pytest.mark.parametrize(
    ("region", "other"),
    [
        (BOX, replace(BOX, left=1.5)),
        (BOX, replace(BOX, scaled=True)),
        (SEGMENTATION, replace(SEGMENTATION, words=[[0, 0, 0, 5, 5, 6]])),
        (RUNS, replace(RUNS, words="1 3 7 3")),
    ],
)
def test_other_annotations_are_another_data_set(tmp_path: Path, region: Any, other: Any) -> None:
    assert dataset_digest(data_set(tmp_path, region)) == dataset_digest(data_set(tmp_path, replace(region)))
    assert dataset_digest(data_set(tmp_path, region)) != dataset_digest(data_set(tmp_path, other))
    assert dataset_digest(data_set(tmp_path, region)) != dataset_digest(data_set(tmp_path, region, region))


def test_names_classes_and_sizes_count(tmp_path: Path) -> None:
    own = data_set(tmp_path, BOX)
    digest = dataset_digest(own)
    assert digest != dataset_digest(data_set(tmp_path, BOX, label="bee"))
    assert digest != dataset_digest(data_set(tmp_path, BOX, label=None))
    assert digest != dataset_digest(data_set(tmp_path, BOX, name="b.png"))
    (tmp_path / "a.png").write_bytes(b"123456")
    assert digest != dataset_digest(own)


def test_the_place_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for root in (tmp_path / "one", tmp_path / "two" / "deeper"):
        own = data_set(root, MaskFile(root / "a.png", "a.png"), BOX)
        digests.add(dataset_digest(own))
    monkeypatch.chdir(tmp_path)
    relative = Path("one")
    digests.add(dataset_digest(data_set(relative, MaskFile(relative / "a.png", "a.png"), BOX)))
    assert len(digests) == 1


def test_fingerprints(tmp_path: Path) -> None:
    """The content decides; size and time of change only spare reading it again."""
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    first = fingerprint(path)
    assert first == [5, path.stat().st_mtime_ns, hashlib.sha256(b"12345").hexdigest()]
    assert fingerprint(path, [*first[:2], "as before"])[2] == "as before"
    os.utime(path, ns=(1, 1))
    assert fingerprint(path, first)[2] == first[2]
    path.write_bytes(b"54321")
    os.utime(path, ns=(2, 2))
    assert fingerprint(path, first)[2] == hashlib.sha256(b"54321").hexdigest()
    assert fingerprint(tmp_path / "none") == fingerprint(tmp_path) == [-1, 0, ""] or os.name == "nt"


def test_files_of_a_sample(tmp_path: Path) -> None:
    sample = Sample("a", tmp_path / "a.png", "ant", (MaskFile(tmp_path / "m.png", "m.png"), BOX))
    assert files_of(sample) == [tmp_path / "a.png", tmp_path / "m.png"]


def test_the_same_seed_selects_the_same_samples(tiny_bundle: Path, tmp_path: Path) -> None:
    data = data_set(tmp_path)
    data.samples = [
        replace(data.samples[0], name=f"{i:02}", label=("ant", "bee", "x")[i % 3]) for i in range(30)
    ]
    plan = Plan(str(tiny_bundle), variants(["gradcam"]), class_map={"nobody": 1})
    with sise_ort.load(tiny_bundle, provider="cpu") as explainer:
        few, more, other = (select(explainer, plan, data, n, s) for n, s in ((5, 0), (9, 0), (9, 1)))
        assert {s.name for s in few.samples} < {s.name for s in more.samples}
        assert {s.name for s in more.samples} != {s.name for s in other.samples}
        everything = select(explainer, plan, data, 100, 0)
        assert [s.name for s in everything.samples] == [f"{i:02}" for i in range(30) if i % 3 < 2]
        assert {s.label for s in everything.samples} == {0, 1} and everything.available == 20
        words = [str(p) for p in everything.problems]
        assert any("class 'x' is none of the network's: 10 samples" in w for w in words)
        assert any("class 'nobody' of the class map is none of the data set's" in w for w in words)
        data.samples.append(data.samples[0])
        with pytest.raises(DatasetError, match="have the same name, '00'"):
            select(explainer, plan, data, None, 0)


def test_arrays_in_regions_count(tmp_path: Path) -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Drawn:
        pixels: Any

    one, other = np.zeros((20, 100)), np.zeros((20, 100))
    other[10, 50] = 1  # printed, both read the same
    assert repr(one) == repr(other)
    assert dataset_digest(data_set(tmp_path, Drawn(one))) != dataset_digest(data_set(tmp_path, Drawn(other)))
