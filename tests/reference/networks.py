"""Small CNNs in PyTorch with weights from NumPy, the same in every environment; and pictures for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

SIZE = (56, 72)
CLASSES = 5
MEAN, STD = (118.0, 121.0, 127.0), (58.0, 61.0, 55.0)


def residual(gain: float = 6.0) -> nn.Module:
    """Batch normalisation, a residual sum, global pooling."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
            self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.relu2(x + self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))
            return y

    stem = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    last = [nn.Conv2d(16, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()]
    return _filled(
        nn.Sequential(*stem, Block(), *last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, CLASSES)),
        gain,
    )


def plain() -> nn.Module:
    """Convolutions with biases, a dense layer on the whole map."""
    return _filled(
        nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 20, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(20, 28, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(28 * 14 * 18, CLASSES),
        ),
        3.0,
    )  # fmt: skip


def steep() -> nn.Module:
    """The residual network with large gradients, beside which pytorch-grad-cam's small constants (1e-6 in Grad-CAM++,
    1e-7 in FullGrad) are nothing."""
    return residual(120.0)


NETWORKS = {"residual": residual, "plain": plain}
LAST = {"residual": 7, "plain": 7, "steep": 7}
"""Place of the last block's ReLU in the sequence."""


def _filled(net: nn.Module, gain: float) -> nn.Module:
    rng = np.random.default_rng(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            _set(module.weight, rng.normal(0, (2 / fan) ** 0.5, module.weight.shape))
        elif isinstance(module, nn.Linear):
            _set(module.weight, rng.normal(0, gain / module.in_features**0.5, module.weight.shape))
        elif isinstance(module, nn.BatchNorm2d):
            _set(module.weight, rng.uniform(0.8, 1.2, module.weight.shape))
            _set(module.running_mean, rng.normal(0, 0.1, module.weight.shape))
            _set(module.running_var, rng.uniform(0.7, 1.3, module.weight.shape))
        if getattr(module, "bias", None) is not None:
            _set(module.bias, rng.normal(0, 0.2, module.bias.shape))
    return net.eval()


def _set(parameter: Any, values: Any) -> None:
    parameter.data = torch.from_numpy(np.asarray(values, np.float32))


def pictures(count: int) -> Any:
    """uint8 [count, H, W, 3]: a bright or dark patch on waves."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    found = []
    for _ in range(count):
        y, x, side = rng.integers(8, 40), rng.integers(8, 56), rng.integers(8, 16)
        waves = 120 + 50 * np.sin(rows / rng.uniform(3, 9))[..., None] * np.cos(
            columns[..., None] / rng.uniform(3, 9, 3)
        )
        waves[y : y + side, x : x + side] += rng.uniform(-110, 110, 3)
        found.append(np.clip(waves + rng.normal(0, 8, waves.shape), 0, 255).astype(np.uint8))
    return np.stack(found)


def network_input(frame: Any) -> torch.Tensor:
    """[1, 3, H, W] of a picture."""
    x = (frame.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(x.transpose(2, 0, 1)[None].copy())
