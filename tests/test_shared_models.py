"""Real networks and pictures, where the machine has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from gradcheck import relative
from pointing import boxed_pictures, point

import sise_ort
from sise_ort.exporter.sources import torch_model

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


def test_gradients_of_a_trained_network(shared_data: Path, tmp_path: Path) -> None:
    """SqueezeNet 1.1 with its real weights against torch in float64."""
    source = onnx.load(shared_data / "models" / "squeezenet1.1_fp32.onnx")
    net = torch_model.torchvision_package().models.squeezenet1_1(weights=None).eval().double()
    tensors = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in source.graph.initializer}
    used = [name for node in source.graph.node if node.op_type == "Conv" for name in node.input[1:]]
    order = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    for module, weight, bias in zip(order, used[::2], used[1::2], strict=True):
        module.weight.data.copy_(tensors[weight])
        module.bias.data.copy_(tensors[bias])
    seen: list[torch.Tensor] = []
    for path in ("features.1", "features.4", "features.7", "classifier.2"):
        net.get_submodule(path).register_forward_hook(lambda _, __, output: seen.append(output))

    explainer = sise_ort.load(bundle_of("squeezenet1.1_fp32", shared_data, tmp_path), provider="cpu")
    for picture, label, _ in boxed_pictures(shared_data)[:5]:
        frame, _ = explainer.prepare(picture)
        extracted = explainer.model.extract(explainer.model.upload(frame), [label], 0.0)
        facts = explainer.manifest.preprocessing
        x = torch.tensor((frame - np.array(facts.mean)) / np.array(facts.std)).permute(2, 0, 1)[None]
        seen.clear()
        scores = net(x)
        assert relative(extracted.scores, scores[0].detach().numpy()) < 1e-5
        for b, gradient in enumerate(torch.autograd.grad(scores[0, label], seen)):
            assert relative(extracted.features[b].numpy(), seen[b].detach().numpy()) < 1e-5
            assert relative(extracted.gradients[b].numpy(), gradient.numpy()) < (1e-4 if b == 3 else 2e-2)


@pytest.mark.slow
def test_sise_points_better_than_grad_cam(shared_data: Path, tmp_path: Path) -> None:
    """EBPG of SISE with μ = 0, at least 15 points above Grad-CAM's on the same 40 pictures."""
    bundle = bundle_of("mobilenet_v2_1.0_224_quant_deq_fp32", shared_data, tmp_path)
    sise, grad_cam = point(sise_ort.load(bundle, provider="cpu"), boxed_pictures(shared_data)[:40])
    assert np.nanmean(sise) - np.nanmean(grad_cam) >= 0.15
