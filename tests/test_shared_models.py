"""Real networks and pictures, where the machine has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pointing import boxed_pictures, point

import sise_ort

MODELS: dict[str, dict[str, Any]] = {
    "squeezenet1.1_fp32": {"normalize": "imagenet"},
    "mobilenet_v1_0.5_160_quant_deq_fp32": {"mean": (128,) * 3, "std": (128,) * 3},
    "mobilenet_v2_1.0_224_quant_deq_fp32": {"mean": (128,) * 3, "std": (128,) * 3},
    "SqueezeNet_fp16": {"mean": (103.939, 116.779, 123.68), "std": (1, 1, 1), "color": "bgr"},
}


def bundle_of(name: str, shared_data: Path, folder: Path) -> Path:
    labels = shared_data / "models" / "imagenet_labels.txt"
    sise_ort.export(
        shared_data / "models" / f"{name}.onnx", folder / f"{name}.sise", labels=labels, **MODELS[name]
    )
    return folder / f"{name}.sise"


@pytest.mark.parametrize("name", MODELS)
def test_export_and_explain(name: str, shared_data: Path, tmp_path: Path) -> None:
    explainer = sise_ort.load(bundle_of(name, shared_data, tmp_path), provider="cpu")
    right = 0
    for path, label, _ in boxed_pictures(shared_data)[:10]:
        result = explainer.explain(path, mu=0.6)
        right += result.target == label
        assert result.heatmap.max() == 1 and result.frame_heatmap.shape == (227, 227)
    assert right >= 5  # preprocessing and labels are right: these networks know two pictures in three


@pytest.mark.slow
def test_sise_points_better_than_grad_cam(shared_data: Path, tmp_path: Path) -> None:
    """EBPG of SISE with μ = 0, at least 15 points above Grad-CAM's on the same 40 pictures."""
    bundle = bundle_of("mobilenet_v2_1.0_224_quant_deq_fp32", shared_data, tmp_path)
    sise, grad_cam = point(sise_ort.load(bundle, provider="cpu"), boxed_pictures(shared_data)[:40])
    assert np.nanmean(sise) - np.nanmean(grad_cam) >= 0.15
