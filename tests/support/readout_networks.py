"""Small networks of every task in torch, with their block outputs, and Ψ of a question from its definition."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import detector_heads
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Scores = Callable[[Tensor], tuple[Tensor, list[Tensor]]]


def set_weights(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        scale = math.sqrt(2 / parameter[0].numel()) if parameter.dim() > 1 else 0.2
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale


class Tiny(nn.Module):
    """Three blocks of 8, 12 and 16 maps and what stands behind them."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 12, 3, padding=1)
        self.third = nn.Conv2d(12, 16, 3, padding=1)
        self.last = nn.Linear(16, classes)
        set_weights(self, seed)
        self.last.weight.data *= 3

    def scores(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the task calls scores, and the block outputs."""
        a = F.relu(self.first(x))
        b = F.relu(self.second(F.max_pool2d(a, 2)))
        c = F.relu(self.third(F.max_pool2d(b, 2)))
        return self.last(c.mean((2, 3))), [a, b, c]

    def forward(self, x: Tensor) -> Any:
        return self.scores(x)[0]


class Softmax(Tiny):
    def forward(self, x: Tensor) -> Any:
        return torch.softmax(self.scores(x)[0], 1)


class Sigmoid(Tiny):
    def forward(self, x: Tensor) -> Any:
        return torch.sigmoid(self.scores(x)[0])


class Unit(Tiny):
    """An embedding, scaled to length 1."""

    def scores(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        z, blocks = super().scores(x)
        return F.normalize(z, dim=1), blocks


class Table(Tiny):
    """Values [n, 2, 3]."""

    def scores(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        z, blocks = super().scores(x)
        return z.reshape(-1, 2, 3), blocks


class UNet(nn.Module):
    """An encoder of three blocks, a decoder with skip connections, class scores at every pixel (or every second one).

    Parameters
    ----------
    ending : str
        "softmax", "sigmoid", or "last" for softmax with channels last.
    """

    def __init__(self, ending: str, seed: int, classes: int = 4) -> None:
        super().__init__()
        self.ending = ending
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 12, 3, padding=1)
        self.deepest = nn.Conv2d(12, 16, 3, padding=1)
        self.behind = nn.Conv2d(16, 16, 3, padding=1)
        self.rise = nn.Conv2d(28, 12, 3, padding=1)
        self.top = nn.Conv2d(20, 8, 3, padding=1)
        self.last = nn.Conv2d(8, classes, 1)
        set_weights(self, seed)

    def scores(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        a = F.relu(self.first(x))
        b = F.relu(self.second(F.max_pool2d(a, 2)))
        c = F.relu(self.behind(F.relu(self.deepest(F.max_pool2d(b, 2)))))
        wide = F.interpolate(c, scale_factor=2.0, mode="bilinear", align_corners=False)
        d = F.relu(self.rise(torch.cat([wide, b], 1)))
        e = F.relu(self.top(torch.cat([F.interpolate(d, scale_factor=2.0, mode="nearest"), a], 1)))
        return self.last(e), [a, b, c]

    def forward(self, x: Tensor) -> Tensor:
        z, _ = self.scores(x)
        if self.ending == "sigmoid":
            return torch.sigmoid(z)
        if self.ending == "last":
            return torch.softmax(z.permute(0, 2, 3, 1), -1)
        return torch.softmax(z, 1)


class Yolo(detector_heads.YoloX):
    """The detector with an objectness whose decoder the exporter writes."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(gain)
        self.blocks: list[Tensor] = []
        for box, _, _ in self.heads:  # boxes of about 2 × 1.6 strides around the middle of each place
            box.weight.data *= 0.1
            box.bias.data = torch.tensor([0.5, 0.5, 0.7, 0.5])

    def raw(self, x: Tensor, first: list[Tensor] | None = None) -> list[list[Tensor]]:
        found, f = [], F.relu(self.stem(x))
        self.blocks = [f]
        for number, head in enumerate(self.heads):
            if number:
                f = F.relu(self.down[number - 1](f))
                self.blocks.append(f)
            found.append([self.gain * c(f) for c in head])
        return found

    def scores(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        rows = [torch.cat([c, o], 1).flatten(2).permute(0, 2, 1) for _, o, c in self.raw(x)]
        return torch.cat(rows, 1), self.blocks


def doubled(net: Any) -> Scores:
    """The same network in float64: x -> scores, block outputs."""
    found = copy.deepcopy(net).double().eval()
    return lambda x: found.scores(x.requires_grad_() if x.is_leaf else x)


def psi_of(task: str, kind: str, question: Any) -> Callable[[Tensor], Tensor]:
    """Ψ of the first row of scores, from the page of the method; contrast 0's number is `score_of`."""
    index = question.index
    given = {name: torch.tensor(value) for name, value in question.tensors.items()}

    def activated(z: Tensor, axis: int) -> Tensor:
        return {"softmax": torch.softmax(z, axis), "sigmoid": torch.sigmoid(z), "none": z}[kind]

    def of_class(z: Tensor) -> Tensor:
        if question.other >= 0:
            return torch.sigmoid(z[0, index] - z[0, question.other])
        return 1 - torch.sigmoid(z[0, index]) if question.absent else activated(z, 1)[0, index]

    def of_region(z: Tensor) -> Tensor:
        there = given["region"] > 0
        return (activated(z, 1)[0, index] * given["region"].double())[there].sum()

    def of_detection(z: Tensor) -> Tensor:
        classes = z.shape[2] - 1
        return (torch.sigmoid(z[0, :, index]) * torch.sigmoid(z[0, :, classes]))[
            given["candidates"] > 0
        ].max()

    def of_likeness(z: Tensor) -> Tensor:
        return (1 + F.cosine_similarity(z[0], given["reference"].double(), dim=0)) / 2

    def of_value(z: Tensor) -> Tensor:
        return (z[0] * given["weights"].double()).sum()

    return {
        "classes": of_class,
        "segmentation": of_region,
        "detection": of_detection,
        "embedding": of_likeness,
        "value": of_value,
    }[task]


def score_of(task: str, question: Any) -> Callable[[Tensor], Tensor]:
    """The score behind Ψ, in exact scale."""
    index = question.index
    if task == "classes":
        if question.other >= 0:
            return lambda z: z[0, index] - z[0, question.other]
        return lambda z: z[0, index]  # the sign of an absence is the runtime's
    if task == "detection":
        counted = torch.tensor(question.tensors["candidates"]) > 0
        return lambda z: (z[0, :, index] + z[0, :, -1])[counted].max()
    if task == "embedding":
        likeness = psi_of(task, "none", question)
        return lambda z: 2 * likeness(z) - 1
    return psi_of(task, "none", question)
