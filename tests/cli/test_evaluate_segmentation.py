"""`sise-ort evaluate` of a segmentation network: a class is explained where the network sees it, and judged by masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import readout_networks as nets
import torch
from data_sets import voc_file, voc_masks, voc_object
from evaluating import rows_without_seconds, run

import sise_ort

LABELS = ("ant", "bee", "cat", "dog")
SIZE = (32, 48)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A bundle, pictures of every class with masks, and where the network decides for which class, by torch in float64."""
    folder = tmp_path_factory.mktemp("segmented")
    net = nets.UNet("softmax", 3).eval()
    rng, decided = np.random.default_rng(4), {}
    pictures = [
        cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8), (0, 0), 2) for _ in range(3)
    ]
    inputs = [torch.tensor((p[:, :, ::-1] - 127.5) / 127.5).permute(2, 0, 1)[None] for p in pictures]
    with torch.no_grad():  # every class is seen about equally often, but a dog nowhere
        net.last.bias -= torch.cat([nets.doubled(net)(x)[0] for x in inputs]).mean((0, 2, 3)).float()
    net.last.bias.data[3] = -1000
    sise_ort.export(net, folder / "s.sise", normalize="tf", input_size=SIZE, labels=LABELS)
    for label in LABELS:
        (folder / "data" / label).mkdir(parents=True)
        (folder / "data" / "masks" / label).mkdir(parents=True)
    for i, (picture, x) in enumerate(zip(pictures, inputs, strict=True)):
        with torch.no_grad():
            decided[i] = nets.doubled(net)(x)[0][0].argmax(0).numpy()
        for label in LABELS:
            mask = np.zeros(SIZE, np.uint8)
            mask[3 + i : 20, 5 : 30 + i] = 255
            cv2.imwrite(str(folder / "data" / label / f"{i}.png"), picture)
            cv2.imwrite(str(folder / "data" / "masks" / label / f"{i}.png"), mask)
    return folder / "s.sise", folder / "data", decided


def test_a_class_is_explained_where_it_is_seen(segmented: Any, tmp_path: Path) -> None:
    bundle, data, decided = segmented
    words = (
        "--methods",
        "sise,gradcam,refine",
        "--metrics",
        "ebpg,miou,drop,increase,insertion",
        "--steps",
        "4",
    )
    result = run(
        "evaluate", bundle, "--dataset", "folder", data, *words, "--provider", "cpu", "-o", tmp_path / "o"
    )
    assert result.exit_code == 0, result.output
    seen = {f"{label}/{i}.png" for i in range(3) for k, label in enumerate(LABELS) if (decided[i] == k).any()}
    rows = rows_without_seconds(tmp_path / "o")
    assert {row["sample"] for row in rows} == seen and len(rows) == 3 * len(seen)
    assert {row["sample"].split("/")[0] for row in rows} >= {"ant", "bee", "cat"} - {
        label for k, label in enumerate(LABELS) if not any((d == k).any() for d in decided.values())
    }
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    for i in range(3):
        assert any(f"dog/{i}.png" in p and "the network sees 'dog' nowhere" in p for p in summary["problems"])

    with sise_ort.load(bundle, provider="cpu") as explainer:
        for row in (r for r in rows if r["sample"].endswith("1.png")):
            label = row["sample"].split("/")[0]
            method = row["variant"].split()[0]
            found = explainer.explain(data / row["sample"], label, method=method)
            assert row["label"] == found.label == f"{label}, where the network sees it"
            assert float(row["confidence"]) == pytest.approx(found.confidence, rel=1e-5)
            heat = found.heatmap.astype(np.float64)
            inside = heat[4:20, 5:31].sum() / heat.sum() if heat.any() else np.nan
            own = float(row["ebpg"]) if row["ebpg"] else np.nan
            assert own == pytest.approx(inside, abs=1e-5, nan_ok=True)
            there = decided[1] == LABELS.index(label)
            assert found.facts.get("region_share", there.mean()) == pytest.approx(there.mean(), abs=2e-3)


def drawn(number: int, i: int) -> Any:
    """Where a class of a picture is drawn, a rectangle: top, bottom, left, right."""
    return 2 + i + 3 * number, 14 + i + 3 * number, 3 + 4 * i, 20 + 5 * i


def in_layout(kind: str, root: Path, pictures: list[Path]) -> tuple[list[str], dict[str, str]]:
    """Write a data set with every class on every picture; what opens it, and the data set's name of each label."""
    names = {label: label for label in LABELS}
    if kind == "coco":
        shapes, entries = [], []
        (root / "val2017").mkdir(parents=True)
        for i, picture in enumerate(pictures):
            (root / "val2017" / f"{i:012d}.jpg").write_bytes(picture.read_bytes())
            shapes.append({"id": i, "file_name": f"{i:012d}.jpg", "height": SIZE[0], "width": SIZE[1]})
            for k in range(len(LABELS)):
                top, bottom, left, right = map(float, drawn(k, i))
                entry = {
                    "id": 10 * i + k,
                    "image_id": i,
                    "category_id": 90 - k,
                    "iscrowd": 0,
                    "bbox": [left, top, right - left, bottom - top],
                }
                entries.append(
                    entry | {"segmentation": [[left, top, right, top, right, bottom, left, bottom]]}
                )
        categories = [{"id": 90 - k, "name": label} for k, label in enumerate(LABELS)]
        (root / "annotations").mkdir()
        (root / "annotations" / "instances_val2017.json").write_text(
            json.dumps({"images": shapes, "annotations": entries, "categories": categories})
        )
        return ["coco", str(root), "--dataset-set", "split=val2017"], names
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    masks: dict[str, Any] = {}
    numbers = (1, 3, 8, 12)  # aeroplane, bird, cat, dog
    for i, picture in enumerate(pictures):
        stem = f"2007_{i:06d}"
        (root / "JPEGImages" / f"{stem}.jpg").write_bytes(picture.read_bytes())
        masks[stem], objects = np.zeros(SIZE, int), ""
        for k, label in enumerate(LABELS):
            top, bottom, left, right = drawn(k, i)
            objects += voc_object(label, (left + 1, top + 1, right, bottom))
            masks[stem][top:bottom, left:right] = numbers[k]
        (root / "Annotations" / f"{stem}.xml").write_text(voc_file(objects, (SIZE[1], SIZE[0])))
    (root / "ImageSets" / "Main" / "val.txt").write_text("".join(f"{stem}\n" for stem in masks))
    if kind == "voc":
        return ["voc", str(root), "--dataset-set", "split=val"], names
    voc_masks(root, "val", masks)
    classes = root.parent / "classes.json"
    names = dict(zip(LABELS, ("aeroplane", "bird", "cat", "dog"), strict=True))
    classes.write_text(json.dumps({name: label for label, name in names.items()}))
    words = ["--dataset-set", "split=val", "--dataset-set", "masks=true", "--class-map", str(classes)]
    return ["voc", str(root), *words], names


@pytest.mark.parametrize("kind", ["voc", "voc masks", "coco"])
def test_layouts_of_others(segmented: Any, kind: str, tmp_path: Path) -> None:
    """Each layout gives a row per class that the network sees, with the share of the heat map in what was drawn."""
    bundle, data, _ = segmented
    pictures, seen = [], {}
    with sise_ort.load(bundle, provider="cpu") as explainer:
        for i in range(3):
            pictures.append(tmp_path / f"{i}.jpg")
            whole = cv2.imread(str(data / "ant" / f"{i}.png"))
            assert cv2.imwrite(str(pictures[i]), whole, [cv2.IMWRITE_JPEG_QUALITY, 100])
            for k, label in enumerate(LABELS[:3]):
                try:
                    seen[i, label] = explainer.explain(pictures[i], label, method="gradcam").heatmap, k
                except sise_ort.TargetError:
                    continue
    assert {label for _, label in seen} == set(LABELS[:3])
    words, names = in_layout(kind, tmp_path / "set", pictures)
    more = ("--methods", "gradcam", "--metrics", "ebpg,insertion", "--steps", "4", "--provider", "cpu")
    result = run("evaluate", bundle, "--dataset", *words, *more, "-o", tmp_path / "o")
    assert result.exit_code == 0, result.output
    rows = {}
    for row in rows_without_seconds(tmp_path / "o"):
        stem, name = row["sample"].split()
        rows[int(stem.split("_")[-1]), next(label for label in LABELS if names[label] == name)] = row
    assert set(rows) == set(seen)
    for (i, label), (heat, k) in seen.items():
        top, bottom, left, right = drawn(k, i)
        kept = np.zeros(SIZE)
        kept[top:bottom, left:right] = 1
        if kind == "voc masks":  # what was drawn later covers it
            for later in range(k + 1, len(LABELS)):
                top, bottom, left, right = drawn(later, i)
                kept[top:bottom, left:right] = 0
        whole = heat.astype(np.float64)
        share = (whole * kept).sum() / whole.sum() if whole.any() else np.nan
        own = rows[i, label]["ebpg"]
        assert (float(own) if own else np.nan) == pytest.approx(share, abs=1e-5, nan_ok=True)
        assert rows[i, label]["label"] == f"{label}, where the network sees it"
    problems = json.loads((tmp_path / "o" / "summary.json").read_text())["problems"]
    assert sum("the network sees 'dog' nowhere" in problem for problem in problems) == 3


def test_the_class_at_most_places(segmented: Any, tmp_path: Path) -> None:
    """Pictures without classes: the top class is the one that the network sees at most places."""
    bundle, data, decided = segmented
    words = ("--methods", "gradcam", "--metrics", "drop", "--provider", "cpu", "-o", tmp_path / "o")
    result = run("evaluate", bundle, "--dataset", "folder", data / "ant", *words)
    assert result.exit_code == 0, result.output
    rows = rows_without_seconds(tmp_path / "o")
    assert {row["sample"]: int(row["target"]) for row in rows} == {
        f"{i}.png": int(np.bincount(decided[i].ravel()).argmax()) for i in range(3)
    }
