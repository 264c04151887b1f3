"""torchvision's segmentation networks and detectors, and a U-Net: their blocks, and gradients against torch autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from gradcheck import relative
from rounding import Float64
from torch import nn

from sise_ort.exporter.blocks import find_blocks, require_rules
from sise_ort.exporter.gradients import differentiate
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.sources import torch_model
from sise_ort.exporter.sources.cleaning import clean

# (channels, side) of every block of networks whose outputs have places, and the side of their input
PLACES = {
    "u_net": (32, [(8, 32), (12, 16), (16, 8)]),  # the maps before each pooling, and the deepest
    "fcn_resnet50": (64, [(64, 32), (256, 16), (512, 8)]),  # the head's hidden layer; layer3 and layer4 are dilated
    "deeplabv3_resnet50": (64, [(64, 32), (256, 16), (2048, 8)]),  # up to the pooled branch of its pyramid
    "deeplabv3_mobilenet_v3_large": (64, [(64, 32), (72, 16), (240, 8), (960, 4)]),
    "lraspp_mobilenet_v3_large": (64, [(64, 32), (72, 16), (240, 8), (128, 4)]),  # the head's weighted map
    "ssdlite320_mobilenet_v3_large": (  # each further level begins with a convolution 1 × 1 to half its channels
        320, [(64, 160), (72, 80), (240, 40), (672, 20), (256, 10), (128, 5), (128, 3), (256, 2)]
    ),
    "retinanet_resnet50_fpn": (
        256, [(64, 128), (256, 64), (512, 32), (1024, 16), (256, 8), (256, 4), (256, 2)]  # P5, P6, its head's tower on P7
    ),
}  # fmt: skip


class UNet(nn.Module):
    """Two convolutions per level, two poolings, skips by concatenation, transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(3, 8), (8, 12), (12, 16), (24, 12), (16, 8)]
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU())
            for i, o in sizes
        )  # fmt: skip
        self.up = nn.ModuleList([nn.ConvTranspose2d(16, 12, 2, 2), nn.ConvTranspose2d(12, 8, 2, 2)])
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.levels[0](x)
        b = self.levels[1](torch.max_pool2d(a, 2))
        c = self.levels[2](torch.max_pool2d(b, 2))
        b = self.levels[3](torch.cat([b, self.up[0](c)], 1))
        return self.last(self.levels[4](torch.cat([a, self.up[1](b)], 1)))  # type: ignore[no-any-return]


class Places(nn.Module):
    """A segmentation's class scores, or a detector's for every anchor, before anything is suppressed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        models = torch_model.torchvision_package().models
        family = models.detection if name.startswith(("ssd", "retina")) else models.segmentation
        self.net = (
            UNet()
            if name == "u_net"
            else getattr(family, name)(weights=None, weights_backbone=None, num_classes=4)
        )

    def forward(self, x: torch.Tensor) -> Any:
        if isinstance(self.net, UNet):
            return self.net(x)
        if not hasattr(self.net, "head"):
            return self.net(x)["out"]
        found = self.net.head(list(self.net.backbone(x).values()))
        return found["cls_logits"], found["bbox_regression"]


@pytest.mark.parametrize(
    ("name", "side", "blocks"),
    [
        pytest.param(name, *found, id=name, marks=() if name in ("u_net", "lraspp_mobilenet_v3_large") else pytest.mark.slow)
        for name, found in PLACES.items()
    ],
)  # fmt: skip
def test_networks_whose_outputs_have_places(
    name: str, side: int, blocks: list[tuple[int, int]], rng: np.random.Generator
) -> None:
    """Their blocks, and the gradients of scores over a region by torch autograd in float64."""
    net = without_normalisation(Places(name))
    model = torch_model.from_module(net, name, (side, side)).model
    assert isinstance(model, ir.Model)
    model = clean(model, output=model.graph.outputs[0].name).model
    graph = model.graph
    found = find_blocks(graph, places=True)
    assert [(c.channels, c.height) for c in found] == blocks
    assert all(c.height == c.width for c in found)
    require_rules(graph, found)

    scores = graph.outputs[0]
    assert scores.shape is not None
    dims = [1, *(int(d) for d in scores.shape.dims[1:])]  # type: ignore[arg-type]
    seed = ir.Value(name="seed", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", *dims[1:]]))
    values = {v.name: v for node in graph for v in node.outputs}
    roots = [graph.inputs[0], *(values[c.tensor] for c in found)]
    outputs = {
        f"gradient {root.name}": g
        for root, g in zip(roots, differentiate(Ops(graph), scores, seed, roots), strict=True)
    }
    graph.inputs.append(seed)
    for gradient_name, gradient in outputs.items():
        gradient.name, gradient.type = gradient_name, ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.extend([*outputs.values(), *roots[1:]])
    graph.sort()
    whole = Float64(ir.to_proto(model))
    region = rng.normal(0, 1, dims).astype(np.float32)  # one class: of some rows, or of all candidates
    if len(dims) == 4:
        region[:, [0, 2, 3]] = region[:, :, : side // 4] = region[:, :, side // 2 :] = 0
    else:
        region[..., [0, 2, 3]] = 0
    feeds = {"x": rng.normal(0, 1, (1, 3, side, side)).astype(np.float32), "seed": region}
    exact = whole.run(feeds)

    seen: dict[str, torch.Tensor] = {}
    modules = dict(net.named_modules())
    for c in found:
        if c.module in modules and modules[c.module].__class__.__name__ in ("ReLU", "Hardswish", "ReLU6"):
            modules[c.module].register_forward_hook(
                lambda _, __, output, c=c: seen.__setitem__(c.tensor, output)
            )
    leaf = torch.tensor(feeds["x"], dtype=torch.float64, requires_grad=True)
    answer = net.double()(leaf)
    answer = answer[0] if isinstance(answer, tuple) else answer
    theirs = torch.autograd.grad((answer * torch.tensor(region)).sum(), [leaf, *seen.values()])
    assert len(seen) >= len(blocks) // 2
    for tensor, gradient in zip(["x", *seen], theirs, strict=True):
        assert relative(exact[f"gradient {tensor}"], gradient.numpy()) < 1e-9, tensor


def without_normalisation(net: nn.Module) -> nn.Module:
    """The network without its normalisations, which torch folds into weights that it rounds to float32: the graph's numbers
    are then torch's own but for float64's rounding."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return net.eval()
