"""ImageNet-style folders and Kaggle's own layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_sets import boxed, picture, problems, truth

from sise_ort.datasets import open_dataset
from sise_ort.errors import DatasetError


def test_imagenet_sizes_of_0(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    rows = ["file,label,orig_w,orig_h,x0,y0,x1,y1", "a.jpg,dog,0,60,1,1,2,2", "a.jpg,cat,80,60,1,1,9,9"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    dataset = open_dataset("imagenet", tmp_path)
    assert problems(dataset) == ["boxes.csv:2: orig_w and orig_h are 0 and 60"]


def test_imagenet(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(tmp_path / "images" / name)
    rows = ["file,label_index,name,orig_w,orig_h,x0,y0,x1,y1", "a.jpg,3,\"dog, hound\",80,60,20,10,60,30", "a.jpg,3,dog,80,60,0,0,2,2",
            "b.jpg,x,dog,80,60,1,1,2,2", "b.jpg,4,cat,80,60,10,10,90,20", "d.jpg,4,cat,80,60,1,1,9,9", "c.jpg,4,cat,80,60,0,0,80,60"]  # fmt: skip
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    dataset = open_dataset("imagenet", tmp_path)
    assert [(s.name, s.label) for s in dataset.samples] == [("a.jpg 3", 3), ("c.jpg 4", 4)]
    np.testing.assert_array_equal(truth(dataset, "a.jpg 3"), boxed(5, 15, 10, 30) | boxed(0, 1, 0, 1))
    assert problems(dataset) == [
        "boxes.csv:4: invalid literal for int() with base 10: 'x'",
        "boxes.csv:5: the box (10, 10, 90, 20) lies outside the picture of 80 × 60 pixels",
        "boxes.csv:6: there is no picture 'images/d.jpg'",
    ]
    few = open_dataset("imagenet", tmp_path, largest=0.5)
    assert [s.name for s in few.samples] == ["a.jpg 3"]
    assert few.statements[-1] == "1 samples left out, whose boxes cover 50 % or more"
    (tmp_path / "boxes.csv").write_text("image,x\na.jpg,1\n")
    with pytest.raises(DatasetError, match="has the columns image, x; file, label_index or label"):
        open_dataset("imagenet", tmp_path)


def test_kaggles_imagenet(tmp_path: Path) -> None:
    picture(tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 5 6 20 12 n01443537 30 1 35 9 \n"
        "ILSVRC2012_val_00000001,n9 1 2 3 4\nILSVRC2012_val_00000001,n01443537 1 2\n"
    )
    dataset = open_dataset("imagenet", tmp_path)
    assert [(s.name, s.label) for s in dataset.samples] == [("ILSVRC2012_val_00000001.JPEG 1", 1)]
    np.testing.assert_array_equal(
        truth(dataset, "ILSVRC2012_val_00000001.JPEG 1"), boxed(6, 12, 5, 20) | boxed(1, 9, 30, 35)
    )
    assert problems(dataset) == [
        "LOC_val_solution.csv:3: there is no synset n9 in LOC_synset_mapping.txt",
        "LOC_val_solution.csv:4: 3 words: groups of a synset and four numbers are needed",
    ]
