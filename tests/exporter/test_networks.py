"""torchvision's families: their blocks, and scores, features and gradients against torch autograd."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from gradcheck import relative
from rounding import Float64, Rounding, is_derivative
from torch import nn

import sise_ort
from sise_ort.exporter.blocks import choose_blocks, find_blocks
from sise_ort.exporter.export import load_network
from sise_ort.exporter.gradients import RULES, differentiate
from sise_ort.exporter.gradients.engine import Rule
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.sources import torch_model
from sise_ort.formulas.seed import NO_OTHER

# (channels, side) of every block at 224 × 224
BLOCKS = {
    "resnet18": [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7)],
    "vgg11": [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)],
    "squeezenet1_1": [(64, 111), (128, 55), (256, 27), (1000, 13)],
    "mobilenet_v2": [(96, 112), (144, 56), (192, 28), (576, 14), (1280, 7)],
    "mobilenet_v3_small": [(16, 112), (72, 56), (96, 28), (288, 14), (576, 7)],
    "densenet121": [(64, 112), (128, 56), (256, 28), (512, 14), (1024, 7)],
    "googlenet": [(64, 112), (192, 56), (480, 28), (832, 14), (1024, 7)],
    "efficientnet_b0": [(96, 112), (144, 56), (240, 28), (672, 14), (1280, 7)],
    "regnet_y_400mf": [(32, 112), (48, 56), (104, 28), (208, 14), (440, 7)],
}
LARGE_BLOCKS = {
    "resnet50": [(64, 112), (256, 56), (512, 28), (1024, 14), (2048, 7)],
    "resnet101": [(64, 112), (256, 56), (512, 28), (1024, 14), (2048, 7)],
    "vgg16": [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)],
    "vgg16_bn": [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)],
    "squeezenet1_0": [(96, 109), (256, 54), (512, 27), (1000, 13)],
    "mobilenet_v3_large": [(64, 112), (72, 56), (240, 28), (672, 14), (960, 7)],
    "densenet169": [(64, 112), (128, 56), (256, 28), (640, 14), (1664, 7)],
    "efficientnet_v2_s": [(24, 112), (48, 56), (256, 28), (960, 14), (1280, 7)],
    "regnet_x_400mf": [(32, 112), (32, 56), (64, 28), (160, 14), (400, 7)],
}
SMALL_BLOCKS = {  # at 96 × 96; VGG takes multiples of 224
    "resnet18": [(64, 48), (64, 24), (128, 12), (256, 6), (512, 3)],
    "squeezenet1_1": [(64, 47), (128, 23), (256, 11), (1000, 5)],
    "mobilenet_v2": [(96, 48), (144, 24), (192, 12), (576, 6), (1280, 3)],
    "mobilenet_v3_small": [(16, 48), (72, 24), (96, 12), (288, 6), (576, 3)],
    "densenet121": [(64, 48), (128, 24), (256, 12), (512, 6), (1024, 3)],
    "googlenet": [(64, 48), (192, 24), (480, 12), (832, 6), (1024, 3)],
    "efficientnet_b0": [(96, 48), (144, 24), (240, 12), (672, 6), (1280, 3)],
    "regnet_y_400mf": [(32, 48), (48, 24), (104, 12), (208, 6), (440, 3)],
}
FAMILIES = [
    *[pytest.param(name, 96, blocks, id=name) for name, blocks in SMALL_BLOCKS.items()],
    *[
        pytest.param(name, 224, blocks, id=f"{name}-224", marks=pytest.mark.slow)
        for name, blocks in {**BLOCKS, **LARGE_BLOCKS}.items()
    ],
]


def net_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    models = torch_model.torchvision_package().models
    options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    net: nn.Module = models.get_model(name, weights=None, **options).eval()
    if name == "efficientnet_v2_s":  # with the statistics below torch's own float32 gradients are 94 % off
        return net
    # Running statistics as training would leave them, so that signals neither die nor explode.
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.train()
    with torch.no_grad():
        net(torch.randn(4, 3, 224, 224))
    return net.eval()


@pytest.mark.parametrize(("name", "side", "blocks"), FAMILIES)
def test_family(name: str, side: int, blocks: list[tuple[int, int]], tmp_path: Path) -> None:
    """Scores, feature maps, gradients and pooled gradients of a whole network.

    In float64 the graph's gradients are the derivatives of its scores, and all numbers are torch's, as is what onnxruntime
    computes in float32, within what rounding explains (torch folds its normalisation into weights that it rounds).
    """
    net = net_of(name)
    manifest = sise_ort.export(net, tmp_path / "net.sise", input_size=side, normalize="imagenet")
    assert [(layer.channels, layer.height) for layer in manifest.layers] == blocks
    assert all(layer.height == layer.width for layer in manifest.layers)

    frame = np.random.default_rng(5).integers(0, 256, (side, side, 3), dtype=np.uint8)
    model = sise_ort.load(tmp_path / "net.sise", provider="cpu", batch_size=2).model
    extracted = model.extract(model.upload(frame), TARGETS, 0.0)
    graph = Float64(tmp_path / "net.sise" / "extract.onnx")
    feeds = {
        "image": frame[None],
        "class": np.array(TARGETS),
        "other": np.full(2, NO_OTHER),
        "contrast": np.float32(0),
    }
    rounding = Rounding(graph, feeds)
    exact = rounding.exact
    for b in range(1, len(blocks) + 1):
        features = f"features_{b}"

        def scores_at(step: Any, features: str = features) -> Any:
            return graph.run(feeds, moved={features: step}, wanted=["scores"])["scores"][0, TARGETS]

        assert is_derivative(exact[f"gradients_{b}"], scores_at, exact[features]), features

    truth, named = by_torch(net, manifest, frame)
    assert len(named) >= len(blocks) - 1  # DenseNet's last activation is no module
    single = {"scores": extracted.scores[None]}
    for b in range(1, len(blocks) + 1):
        single |= {
            f"features_{b}": extracted.features[b - 1].numpy(),
            f"gradients_{b}": extracted.gradients[b - 1].numpy(),
            f"alpha_{b}": extracted.pooled_gradients[b - 1],
        }
        assert relative(single[f"features_{b}"], exact[f"features_{b}"]) < rounding.limit(f"features_{b}")
    for key, theirs in truth.items():
        for k in range(len(theirs)):  # a class, or the one picture
            limit = rounding.limit(key, lambda value, k=k: value[k])  # type: ignore[misc]
            assert relative(single[key][k], theirs[k]) < limit, (key, k)
            assert relative(exact[key][k], theirs[k]) < limit, (key, k)
    assert rounding.limit("scores") < 1e-2  # the limits still say something
    assert rounding.limit(f"gradients_{len(blocks)}") < 1e-4 and rounding.limit("features_1") < 1e-4


TARGETS = [3, 7]


def by_torch(net: nn.Module, manifest: Any, frame: Any) -> tuple[dict[str, Any], list[int]]:
    """The outputs of extract.onnx as torch autograd has them in float64, and the blocks that are outputs of modules."""
    mean, std = (np.array(v, np.float32) for v in (manifest.preprocessing.mean, manifest.preprocessing.std))
    x = torch.tensor((frame.astype(np.float64) - mean) / std).permute(2, 0, 1)[None].requires_grad_()
    modules, seen = dict(net.named_modules()), {}
    for b, layer in enumerate(manifest.layers, 1):
        if layer.module and layer.module in modules:
            modules[layer.module].register_forward_hook(
                lambda _, __, output, b=b: seen.__setitem__(b, output)
            )
    scores = net.double().requires_grad_(False)(x)
    truth = {"scores": scores.detach().numpy()}
    for b, tensor in seen.items():
        rows = [torch.autograd.grad(scores[0, k], tensor, retain_graph=True)[0] for k in TARGETS]
        gradients = torch.cat(rows).numpy()
        truth |= {f"features_{b}": tensor.detach().numpy(), f"gradients_{b}": gradients}
        truth[f"alpha_{b}"] = gradients.sum((2, 3))
    return truth, list(seen)


def test_a_rule_wrong_by_a_hundredth_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a whole network, too, where one of its many operators has a gradient that is 1 % too large."""
    right = RULES["", "MaxPool"]
    wrong = Rule(lambda op, node, g: op.Mul(right.function(op, node, g), 1.01))
    monkeypatch.setitem(RULES, ("", "MaxPool"), wrong)
    with pytest.raises(AssertionError, match=r"^features_1\n"):
        test_family("squeezenet1_1", 96, SMALL_BLOCKS["squeezenet1_1"], tmp_path)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_gradient_of_the_image(name: str) -> None:
    """On request the walk goes on to the image: N pictures with N gradients."""
    net = net_of(name)
    network = load_network(net, input_size=96).clean
    graph = network.model.graph
    seed = ir.Value(name="seed", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 1000]))
    op = Ops(graph)
    (gradient,) = differentiate(op, graph.outputs[0], seed, [graph.inputs[0]])
    graph.inputs.append(seed)
    gradient.name = "gradient"
    gradient.type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(gradient)
    graph.sort()
    proto = ir.to_proto(network.model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(6).normal(0, 1, (2, 3, 96, 96)).astype(np.float32)
    feeds = {"x": x, "seed": np.eye(1000, dtype=np.float32)[TARGETS]}
    ours = session.run(["gradient"], feeds)[0]
    whole = Float64(proto)
    rounding = Rounding(whole, feeds)
    scores_name = str(graph.outputs[0].name)

    def asked(step: Any) -> Any:
        scores = whole.run({**feeds, "x": x.astype(np.float64) + step}, wanted=[scores_name])[scores_name]
        return (scores * feeds["seed"]).sum(keepdims=True)[0]

    assert is_derivative(rounding.exact["gradient"][None], asked, x)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    (net.double()(leaf) * torch.tensor(feeds["seed"])).sum().backward()
    assert leaf.grad is not None
    for found in (ours, rounding.exact["gradient"]):
        assert relative(found, leaf.grad.numpy()) < rounding.limit("gradient")


def test_googlenet_with_its_input_transform(tmp_path: Path) -> None:
    """The published weights come with transform_input: Gather and Unsqueeze before the first layer are no block."""
    torch.manual_seed(0)
    net = torch_model.torchvision_package().models.googlenet(
        weights=None, init_weights=True, aux_logits=False, transform_input=True
    )
    graph = load_network(net.eval(), input_size=224).clean.model.graph
    assert [(c.channels, c.height) for c in find_blocks(graph)] == BLOCKS["googlenet"]


class Odd(nn.Module):
    """Three blocks; the second ends with an operator whose rule is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, 8, 3, 2, 1) for i in (3, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.erf(torch.relu(self.b(torch.relu(self.a(x)))))
        return torch.relu(self.c(x)).mean((2, 3))


def test_unknown_operator_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, ("", "Erf"))
    with pytest.raises(
        sise_ort.GradientError, match=r"no gradient rule for operator Erf \(node '.*shallowest block"
    ) as error:
        sise_ort.export(Odd(), tmp_path / "odd.sise", input_size=32, normalize="none")
    layers = ast.literal_eval(str(error.value).split("layers=")[1].split(";")[0])
    assert not any(tmp_path.iterdir())
    manifest = sise_ort.export(Odd(), tmp_path / "odd.sise", input_size=32, normalize="none", layers=layers)
    assert [layer.height for layer in manifest.layers] == [8, 4]


def test_layers_by_module_path() -> None:
    graph = load_network(net_of("resnet18"), input_size=64).clean.model.graph
    chosen = choose_blocks(graph, ["layer4.1.relu", "layer2.0"])
    assert [c.module for c in chosen] == ["layer2.0", "layer4.1.relu"]
    with pytest.raises(sise_ort.ExportError, match="no tensor or module 'layer9'"):
        choose_blocks(graph, ["layer9"])


def test_a_network_too_sensitive_for_float32_is_told_from_a_wrong_bundle(tmp_path: Path) -> None:
    """Thirty steps of the logistic map: the source cannot repeat its own scores."""
    torch.manual_seed(0)

    class Chaotic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.sigmoid(self.a(x))
            for _ in range(30):  # the logistic map
                x = 3.99 * x * (1 - x)
            return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    with pytest.raises(sise_ort.ExportError, match="too sensitive for float32"):
        sise_ort.export(Chaotic(), tmp_path / "c.sise", input_size=16, normalize="none")
    assert not any(tmp_path.iterdir())
