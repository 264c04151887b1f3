"""torchvision's families: their blocks, and scores, features and gradients against torch autograd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from gradcheck import relative
from torch import nn

import sise_ort
from sise_ort.exporter.blocks import choose_blocks, find_blocks
from sise_ort.exporter.export import load_network
from sise_ort.exporter.gradients import RULES, differentiate
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.sources import torch_model

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
FAMILIES = [
    *[pytest.param(name, blocks, id=name) for name, blocks in BLOCKS.items()],
    *[pytest.param(name, blocks, id=name, marks=pytest.mark.slow) for name, blocks in LARGE_BLOCKS.items()],
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


@pytest.mark.parametrize(("name", "blocks"), FAMILIES)
def test_family(name: str, blocks: list[tuple[int, int]], tmp_path: Path) -> None:
    net = net_of(name)
    manifest = sise_ort.export(net, tmp_path / "net.sise", input_size=224, normalize="imagenet")
    assert [(layer.channels, layer.height) for layer in manifest.layers] == blocks
    assert all(layer.height == layer.width for layer in manifest.layers)

    rng = np.random.default_rng(5)
    frame = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    model = sise_ort.load(tmp_path / "net.sise", provider="cpu", batch_size=2).model
    extracted = model.extract(model.upload(frame), [3, 7], 0.0)

    facts = manifest.preprocessing
    x = torch.tensor((frame - np.array(facts.mean)) / np.array(facts.std)).permute(2, 0, 1)[None]
    seen: dict[str, torch.Tensor] = {}
    modules = dict(net.named_modules())
    named = [b for b, layer in enumerate(manifest.layers) if layer.module and layer.module in modules]
    for b in named:
        path = manifest.layers[b].module
        modules[path].register_forward_hook(lambda _, __, output, path=path: seen.__setitem__(path, output))
    with torch.no_grad():
        net.float()(x.float())
        single = {path: tensor.double().numpy() for path, tensor in seen.items()}
    scores = net.double()(x)
    assert relative(extracted.scores, scores[0].detach().numpy()) < 1e-4
    assert len(named) >= len(blocks) - 1  # DenseNet's last activation is no module
    for k, target in enumerate((3, 7)):
        tensors = [seen[manifest.layers[b].module] for b in named]
        gradients = torch.autograd.grad(scores[0, target], tensors, retain_graph=True)
        for b, tensor, gradient in zip(named, tensors, gradients, strict=True):
            truth = tensor.detach().numpy()
            noise = relative(single[manifest.layers[b].module], truth)  # of torch's own float32
            assert relative(extracted.features[b].numpy(), truth) < max(1e-5, 2 * noise)
            last = b == len(blocks) - 1
            assert relative(extracted.gradients[b].numpy()[k : k + 1], gradient.numpy()) < (
                1e-4 if last else 2e-2
            )
            assert relative(extracted.pooled_gradients[b][k], gradient[0].sum((1, 2)).numpy()) < 2e-2


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
    session = onnxruntime.InferenceSession(
        ir.to_proto(network.model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(6)
    x = rng.normal(0, 1, (2, 3, 96, 96)).astype(np.float32)
    seeds = np.eye(1000, dtype=np.float32)[[4, 9]]
    ours = session.run(["gradient"], {"x": x, "seed": seeds})[0]
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    (net.double()(leaf) * torch.tensor(seeds)).sum().backward()
    assert leaf.grad is not None
    assert relative(ours, leaf.grad.numpy()) < 2e-2


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
    layers = str(error.value).split("--layers ")[1].split(";")[0].split(",")
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
