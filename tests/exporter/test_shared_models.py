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
from rounding import Float64, Rounding

import sise_ort
from sise_ort.exporter.blocks import find_blocks
from sise_ort.exporter.sources import torch_model
from sise_ort.exporter.sources.cleaning import clean
from sise_ort.formulas.seed import NO_OTHER

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
    """SqueezeNet 1.1 with its real weights: the graph in float64 is torch's network in float64, and float32 differs by no
    more than rounding explains."""
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
    graph = Float64(tmp_path / "squeezenet1.1_fp32.sise" / "extract.onnx")
    for picture, label, _ in boxed_pictures(shared_data)[:2]:
        frame, _ = explainer.prepare(picture)
        extracted = explainer.model.extract(explainer.model.upload(frame), [label], 0.0)
        facts = explainer.manifest.preprocessing
        mean, std = (np.array(values, np.float32) for values in (facts.mean, facts.std))
        x = torch.tensor((frame.astype(np.float64) - mean) / std).permute(2, 0, 1)[None]
        seen.clear()
        scores = net(x)
        rounding = Rounding(
            graph,
            {
                "image": frame[None],
                "class": np.array([label]),
                "other": np.array([NO_OTHER]),
                "contrast": np.float32(0),
            },
        )
        ours, theirs = {"scores": extracted.scores[None]}, {"scores": scores}
        for b, gradient in enumerate(torch.autograd.grad(scores[0, label], seen)):
            ours |= {f"features_{b + 1}": extracted.features[b].numpy()}
            ours |= {f"gradients_{b + 1}": extracted.gradients[b].numpy()}
            theirs |= {f"features_{b + 1}": seen[b], f"gradients_{b + 1}": gradient}
        for name, value in theirs.items():
            truth = value.detach().numpy()
            assert relative(rounding.exact[name], truth) < 1e-9, name
            assert relative(ours[name], truth) < rounding.limit(name), name
        assert rounding.limit("scores") < 1e-2 and rounding.limit("gradients_4") < 1e-4


PLACES = {  # a file, an output, and the channels and size of every block
    "road_segmentation_adas": ("tf.identity", [(32, 256, 448), (48, 128, 224), (48, 64, 112), (16, 16, 28)]),
    "deeplab_v3_tf": ("ResizeBilinear_3", [(48, 129, 129), (72, 65, 65), (160, 33, 33)]),
    "yolox_nano": ("output", [(16, 208, 208), (32, 104, 104), (64, 52, 52), (128, 26, 26), (128, 13, 13)]),
    "ultraface_rfb320": ("scores", [(32, 120, 160), (32, 60, 80), (64, 30, 40), (128, 15, 20), (64, 8, 10), (256, 4, 5)]),
    "yunet_120x160": ("conf", [(16, 60, 80), (64, 30, 40), (64, 15, 20), (64, 7, 10), (64, 3, 5), (51, 1, 2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_blocks_where_outputs_have_places(name: str, shared_data: Path) -> None:
    """Segmentations and detectors as found: encoders up to their deepest map."""
    output, blocks = PLACES[name]
    graph = clean(onnx.load(shared_data / "wild" / f"{name}.onnx"), output=output).model.graph
    assert [(c.channels, c.height, c.width) for c in find_blocks(graph, places=True)] == blocks


@pytest.mark.slow
def test_sise_points_better_than_grad_cam(shared_data: Path, tmp_path: Path) -> None:
    """EBPG of SISE with μ = 0, at least 15 points above Grad-CAM's on the same 40 pictures."""
    bundle = bundle_of("mobilenet_v2_1.0_224_quant_deq_fp32", shared_data, tmp_path)
    sise, grad_cam = point(sise_ort.load(bundle, provider="cpu"), boxed_pictures(shared_data)[:40])
    assert np.nanmean(sise) - np.nanmean(grad_cam) >= 0.15
