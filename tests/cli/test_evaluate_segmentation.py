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
from evaluating import rows_without_seconds, run

import sise_ort

LABELS = ("ant", "bee", "cat", "dog")
SIZE = (32, 48)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A bundle, pictures of every class with masks, and where the network decides for which class, by torch in float64."""
    folder = tmp_path_factory.mktemp("segmented")
    net = nets.UNet("softmax", 3).eval()
    net.last.bias.data[3] = -1000  # a dog is seen nowhere
    sise_ort.export(net, folder / "s.sise", normalize="tf", input_size=SIZE, labels=LABELS)
    rng, decided = np.random.default_rng(4), {}
    for label in LABELS:
        (folder / "data" / label).mkdir(parents=True)
        (folder / "data" / "masks" / label).mkdir(parents=True)
    for i in range(3):
        picture = cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8), (0, 0), 2)
        x = torch.tensor((picture[:, :, ::-1] - 127.5) / 127.5).permute(2, 0, 1)[None]
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
