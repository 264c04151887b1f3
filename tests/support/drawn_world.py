"""Pictures with a red disc and a blue square, whose places are known, and networks that learn to name, outline and find both."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

SIDE = 96
NAMES = ("disc", "square")
Array = NDArray[Any]


@dataclass
class Drawn:
    """A picture uint8 [H, W, 3]; for disc and square its mask [H, W] and its box x0, y0, x1, y1, None where it is not there."""

    picture: Array
    masks: Array
    boxes: list[tuple[int, int, int, int] | None]


def draw(rng: np.random.Generator, *, both: bool = True) -> Drawn:
    """One object in each half of the picture, left and right or upper and lower."""
    picture = rng.normal(120, 12, (SIDE, SIDE, 3)) + np.linspace(-30, 30, SIDE)[:, None, None] * rng.normal()
    masks = np.zeros((2, SIDE, SIDE), bool)
    boxes: list[tuple[int, int, int, int] | None] = [None, None]
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    halves, turned = rng.permutation(2), rng.random() < 0.5
    for kind in (0, 1):
        if not both and rng.random() < 0.4:
            continue
        radius = int(rng.integers(10, 15))
        along = int(rng.integers(radius + 2, SIDE // 2 - radius - 2)) + SIDE // 2 * int(halves[kind])
        across = int(rng.integers(radius + 2, SIDE - radius - 2))
        y, x = (along, across) if turned else (across, along)
        if kind == 0:
            masks[kind] = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        else:
            masks[kind] = np.maximum(abs(rows - y), abs(columns - x)) < radius
        color = np.array([[190, 70, 80], [80, 70, 190]])[kind] + rng.normal(0, 12, 3)
        picture[masks[kind]] = color + rng.normal(0, 12, (masks[kind].sum(), 3))
        boxes[kind] = (x - radius, y - radius, x + radius, y + radius)
    return Drawn(np.clip(picture, 0, 255).astype(np.uint8), masks, boxes)


class Trunk(nn.Module):
    """Three blocks of convolutions, of 12, 16 and 24 maps."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 12, 16, 24)
        self.blocks = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))

    def maps(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = F.relu(block(F.max_pool2d(x, 2) if number else x))
            found.append(x)
        return found


class Namer(Trunk):
    """Which objects there are: two probabilities, each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(24, 2)

    def raw(self, x: Tensor) -> Tensor:
        return self.last(self.maps(x)[-1].mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.raw(x))

    def loss(self, x: Tensor, drawn: list[Drawn]) -> Tensor:
        there = torch.tensor(np.stack([d.masks.any((1, 2)) for d in drawn]), dtype=torch.float32)
        return F.binary_cross_entropy_with_logits(self.raw(x), there)


class Outliner(Trunk):
    """Background, disc or square at every pixel: a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.behind = nn.Conv2d(24, 24, 3, padding=1)
        self.rise = nn.Conv2d(40, 16, 3, padding=1)
        self.top = nn.Conv2d(28, 12, 3, padding=1)
        self.last = nn.Conv2d(12, 3, 1)

    def raw(self, x: Tensor) -> Tensor:
        a, b, c = self.maps(x)
        c = F.relu(self.behind(c))
        d = F.relu(self.rise(torch.cat([F.interpolate(c, scale_factor=2.0, mode="nearest"), b], 1)))
        e = F.relu(self.top(torch.cat([F.interpolate(d, scale_factor=2.0, mode="nearest"), a], 1)))
        return self.last(e)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.raw(x), 1)

    def loss(self, x: Tensor, drawn: list[Drawn]) -> Tensor:
        classes = np.stack([d.masks[0] + 2 * d.masks[1] for d in drawn])
        return F.cross_entropy(self.raw(x), torch.tensor(classes), weight=torch.tensor([0.2, 1.0, 1.0]))


class Finder(Trunk):
    """A box, an objectness and two classes at every place of strides 8, 16 and 32, laid out as YOLOX is."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(24, 24, 3, 2, 1) for _ in range(3))
        self.heads = nn.ModuleList(nn.ModuleList(nn.Conv2d(24, c, 1) for c in (4, 1, 2)) for _ in range(3))

    def raw(self, x: Tensor) -> list[list[Tensor]]:
        found, maps = [], self.maps(x)[-1]
        for down, head in zip(self.down, self.heads, strict=True):
            maps = F.relu(down(maps))
            found.append([c(maps) for c in head])
        return found

    def forward(self, x: Tensor) -> Tensor:
        parts = [torch.cat([b, o.sigmoid(), c.sigmoid()], 1) for b, o, c in self.raw(x)]
        return torch.cat([p.flatten(start_dim=2) for p in parts], dim=2).permute(0, 2, 1)

    def loss(self, x: Tensor, drawn: list[Drawn]) -> Tensor:
        """Every place of stride 8 whose middle lies well inside an object finds it; no other place finds anything."""
        (box, seen, classes), *others = self.raw(x)
        middles = np.arange(SIDE // 8) * 8 + 4.0
        there = torch.zeros_like(seen)
        total = sum(F.binary_cross_entropy_with_logits(s, torch.zeros_like(s)) for _, s, _ in others)
        for n, d in enumerate(drawn):
            for kind, place in enumerate(d.boxes):
                if place is None:
                    continue
                x0, y0, x1, y1 = place
                cx, cy, reach = (x0 + x1) / 2, (y0 + y1) / 2, 6
                rows, columns = (torch.tensor(np.flatnonzero(abs(middles - c) <= reach)) for c in (cy, cx))
                r, c = (v.flatten() for v in torch.meshgrid(rows, columns, indexing="ij"))
                there[n, 0, r, c] = 1
                sides = [np.log((x1 - x0) / 8), np.log((y1 - y0) / 8)]
                wanted = torch.stack([cx / 8 - c, cy / 8 - r, *(torch.full(c.shape, v) for v in sides)])
                own = torch.eye(2)[kind][:, None].expand(2, len(c))
                found = F.l1_loss(box[n][:, r, c], wanted.float())
                found = found + F.binary_cross_entropy_with_logits(classes[n][:, r, c], own)
                total = total + found / len(drawn)
        return total + 5 * F.binary_cross_entropy_with_logits(seen, there)


def inputs(pictures: list[Array]) -> Tensor:
    stacked = np.stack(pictures).astype(np.float32)
    return torch.tensor((stacked - 127.5) / 127.5).permute(0, 3, 1, 2).contiguous()


def trained(net: Any, steps: int, seed: int = 0, batch: int = 8) -> Any:
    """The network after some steps on drawn pictures."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    for parameter in net.parameters():
        spread = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(steps):
        drawn = [draw(rng, both=False) for _ in range(batch)]
        loss = net.loss(inputs([d.picture for d in drawn]), drawn)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def shuffled(net: Any, seed: int = 0) -> Any:
    """A network of the same weights, the numbers of every layer in random order."""
    found, generator = copy.deepcopy(net), torch.Generator().manual_seed(seed)
    for parameter in found.parameters():
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.data = parameter.data.flatten()[order].reshape(parameter.shape)
    return found
