"""Coordinate attention (Hou et al., CVPR 2021) is followed: strips of rows and columns, side by side and apart again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sise_ort

torch = pytest.importorskip("torch")


def attention(channels: int) -> Any:
    """The authors' module, with ReLU6 for their h-swish."""
    nn = torch.nn

    class CoordinateAttention(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
            self.conv1, self.bn1, self.act = nn.Conv2d(channels, 4, 1), nn.BatchNorm2d(4), nn.ReLU6()
            self.conv_h, self.conv_w = nn.Conv2d(4, channels, 1), nn.Conv2d(4, channels, 1)

        def forward(self, x: Any) -> Any:
            _, _, h, w = x.size()
            strips = torch.cat([self.pool_h(x), self.pool_w(x).permute(0, 1, 3, 2)], dim=2)
            rows, columns = torch.split(self.act(self.bn1(self.conv1(strips))), [h, w], dim=2)
            a_w = self.conv_w(columns.permute(0, 1, 3, 2)).sigmoid()
            return x * a_w * self.conv_h(rows).sigmoid()

    return CoordinateAttention()


@pytest.fixture(scope="module")
def network() -> Any:
    nn = torch.nn
    torch.manual_seed(0)
    layers: list[Any] = []
    for before, after in ((3, 8), (8, 12), (12, 16)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU(), attention(after)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()


def test_the_gated_maps_are_the_blocks(network: Any, tmp_path: Path) -> None:
    """The gated maps of each resolution are the last tensors that all paths cross; their gradients are autograd's."""
    manifest = sise_ort.export(
        network, tmp_path / "n.sise", input_size=(32, 48), mean=[0, 0, 0], std=[1, 1, 1]
    )
    assert [(layer.channels, layer.height, layer.width) for layer in manifest.layers] == [
        (8, 16, 24), (12, 8, 12), (16, 4, 6),
    ]  # fmt: skip
    frame = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    kept = []
    hooks = [network[i].register_forward_hook(lambda _, __, y: kept.append(y)) for i in (2, 5, 8)]
    scores = network(torch.tensor(frame.transpose(2, 0, 1)[None].astype(np.float32)))[0]
    for hook in hooks:
        hook.remove()
    with sise_ort.load(tmp_path / "n.sise", provider="cpu") as explainer:
        found = explainer.model.extract(explainer.model.upload(frame), [1], 0.0)
    for maps, gradients, reference in zip(found.features, found.gradients, kept, strict=True):
        expected = torch.autograd.grad(scores[1], reference, retain_graph=True)[0].numpy()
        values = reference.detach().numpy()
        np.testing.assert_allclose(maps.numpy(), values, rtol=1e-4, atol=1e-4 * np.abs(values).max())
        np.testing.assert_allclose(gradients.numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
