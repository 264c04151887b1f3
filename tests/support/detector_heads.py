"""Small detectors with the heads of YOLO v5, v8 and X, YuNet and UltraFace, and decoders written from their definitions.

Each decoder loops over levels, places and anchors, in float64, and knows nothing of the exporter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

SIZE = (64, 96)
CLASSES = 3
ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
FACE_SIDES = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))

Rows = list[tuple[list[float], list[float]]]
"""For every candidate its logits (objectness last) and its corners."""


class Levels(nn.Module):
    """Feature maps at strides 8, 16, 32 (and 64), each with convolutions to the given numbers of channels."""

    def __init__(self, *channels: tuple[int, ...], gain: float = 1.0, pool: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 9, 8, 1 if pool else 4)
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 3, 2, 1) for _ in channels[1:])
        self.heads = nn.ModuleList(nn.ModuleList(nn.Conv2d(8, c, 1) for c in level) for level in channels)
        self.gain, self.pool = gain, pool
        generator = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            scale = 1.5 / math.sqrt(parameter[0].numel()) if parameter.dim() > 1 else 0.2
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale

    def raw(self, x: torch.Tensor, first: list[torch.Tensor] | None = None) -> list[list[torch.Tensor]]:
        """What the convolutions give, level by level; the first feature maps are added to `first`."""
        found, f = [], torch.relu(self.stem(x))
        if first is not None:
            first.append(f)
        for number, head in enumerate(self.heads):
            if number:
                f = torch.relu(nn.functional.max_pool2d(f, 2) if self.pool else self.down[number - 1](f))
            found.append([self.gain * c(f) if self.gain != 1 else c(f) for c in head])
        return found


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def centred(x: float, y: float, w: float, h: float) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def places(maps: Any) -> list[tuple[int, int, Any]]:
    """Row, column and the channels of every place of [c, h, w], row by row."""
    return [(r, c, maps[:, r, c]) for r in range(maps.shape[1]) for c in range(maps.shape[2])]


class YoloV5(Levels):
    """Detect of YOLOv5 6.0 and later: one convolution per level, three anchors per place."""

    def __init__(self, gain: float = 1.0, split: bool = True) -> None:
        super().__init__(*[(3 * (5 + CLASSES),)] * 3, gain=gain)
        self.split = split

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = []
        for (y,), anchors, stride in zip(self.raw(x), ANCHORS, (8, 16, 32), strict=True):
            n, _, h, w = y.shape
            y = y.view(n, 3, 5 + CLASSES, h, w).permute(0, 1, 3, 4, 2).contiguous()
            rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            grid = torch.stack((columns, rows), 2).view(1, 1, h, w, 2).float() - 0.5
            sizes = torch.tensor(anchors).view(1, 3, 1, 1, 2).float()
            if self.split:
                xy, wh, rest = y.sigmoid().split((2, 2, CLASSES + 1), 4)
            else:  # as YOLOv5 5.0 and YOLOv7 write it
                y = y.sigmoid()
                xy, wh, rest = y[..., 0:2], y[..., 2:4], y[..., 4:]
            y = torch.cat(((xy * 2 + grid) * stride, (wh * 2) ** 2 * sizes, rest), 4)
            z.append(y.view(n, -1, 5 + CLASSES))
        return torch.cat(z, 1)

    def decoded(self, raw: list[list[Any]]) -> Rows:
        found: Rows = []
        for (maps,), anchors, stride in zip(raw, ANCHORS, (8, 16, 32), strict=True):
            for a, (aw, ah) in enumerate(anchors):
                for row, column, z in places(maps[a * 8 : a * 8 + 8]):
                    x = (2 * sigmoid(z[0]) - 0.5 + column) * stride
                    y = (2 * sigmoid(z[1]) - 0.5 + row) * stride
                    w, h = (2 * sigmoid(z[2])) ** 2 * aw, (2 * sigmoid(z[3])) ** 2 * ah
                    found.append(([*z[5:], z[4]], centred(x, y, w, h)))
        return found


class YoloV8(Levels):
    """Detect of Ultralytics' YOLOv8: distributions over 16 distances to each side, no objectness.

    With `masks` five coefficients follow, as in YOLOv8-seg; with `ones` it is laid out as YOLOv6 is, whose objectness is 1.
    """

    def __init__(self, gain: float = 1.0, masks: bool = False, ones: bool = False) -> None:
        super().__init__(*[(64, CLASSES, *([5] if masks else []))] * 3, gain=gain)
        self.ones = ones

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raw = self.raw(x)
        maps = torch.cat([torch.cat(parts[:2], 1).view(x.shape[0], 64 + CLASSES, -1) for parts in raw], 2)
        box, scores = maps.split((64, CLASSES), 1)
        points, strides = [], []
        for (level, *_), stride in zip(raw, (8, 16, 32), strict=True):
            h, w = level.shape[2:]
            rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            points.append(torch.stack((columns, rows), -1).view(-1, 2))
            strides.append(torch.full((h * w, 1), float(stride)))
        anchors, step = torch.cat(points).T[None], torch.cat(strides).T
        n, _, a = box.shape
        weights = torch.arange(16, dtype=torch.float).view(1, 16, 1, 1)
        distances = (box.view(n, 4, 16, a).transpose(2, 1).softmax(1) * weights).sum(1)
        low, high = distances.chunk(2, 1)
        first, second = anchors - low, anchors + high
        decoded = torch.cat(((first + second) / 2, second - first), 1) * step
        if self.ones:
            seen = torch.ones(x.shape[0], 1, a)
            return torch.cat((decoded, seen, scores.sigmoid()), 1).permute(0, 2, 1)
        rest = [torch.cat([part.flatten(2) for _, _, part in raw], 2)] if len(raw[0]) > 2 else []
        return torch.cat((decoded, scores.sigmoid(), *rest), 1)

    def decoded(self, raw: list[list[Any]]) -> Rows:
        found: Rows = []
        for (box, scores, *_), stride in zip(raw, (8, 16, 32), strict=True):
            for (row, column, z), (_, _, s) in zip(places(box), places(scores), strict=True):
                sides = []
                for side in range(4):
                    e = np.exp(z[side * 16 : side * 16 + 16])
                    sides.append(float((e / e.sum() * np.arange(16)).sum()))
                x, y = column + 0.5, row + 0.5
                box_here = (x - sides[0], y - sides[1], x + sides[2], y + sides[3])
                found.append((list(s), [stride * v for v in box_here]))
        return found


class YoloX(Levels):
    """YOLOXHead, exported without decoding."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(*[(4, 1, CLASSES)] * 3, gain=gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [torch.cat([b, o.sigmoid(), c.sigmoid()], 1) for b, o, c in self.raw(x)]
        return torch.cat([p.flatten(start_dim=2) for p in parts], dim=2).permute(0, 2, 1)

    def decoded(self, raw: list[list[Any]]) -> Rows:
        found: Rows = []
        for (box, seen, scores), stride in zip(raw, (8, 16, 32), strict=True):
            for row, column, z in places(np.concatenate([box, seen, scores])):
                x, y = (z[0] + column) * stride, (z[1] + row) * stride
                corners = centred(x, y, np.exp(z[2]) * stride, np.exp(z[3]) * stride)
                found.append(([*z[5:], z[4]], corners))
        return found


class YoloXDecoded(YoloX):
    """YOLOXHead with decode_in_inference: boxes decoded in the file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        grids, strides = [], []
        for stride in (8, 16, 32):
            rows, columns = torch.meshgrid(
                torch.arange(SIZE[0] // stride), torch.arange(SIZE[1] // stride), indexing="ij"
            )
            grids.append(torch.stack((columns, rows), 2).view(1, -1, 2).float())
            strides.append(torch.full((1, grids[-1].shape[1], 1), float(stride)))
        grid, step = torch.cat(grids, 1), torch.cat(strides, 1)
        return torch.cat([(y[..., 0:2] + grid) * step, torch.exp(y[..., 2:4]) * step, y[..., 4:]], dim=-1)


class YuNet2023(Levels):
    """YuNet of 2023: outputs cls_8 … bbox_32 of every stride."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(*[(1, 1, 4)] * 3, gain=gain)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = [[c.permute(0, 2, 3, 1).flatten(1, 2) for c in level] for level in self.raw(x)]
        return (*(r[0].sigmoid() for r in rows), *(r[1].sigmoid() for r in rows), *(r[2] for r in rows))

    outputs = tuple(f"{kind}_{s}" for kind in ("cls", "obj", "bbox") for s in (8, 16, 32))

    def decoded(self, raw: list[list[Any]]) -> Rows:
        found: Rows = []
        for (scores, seen, box), stride in zip(raw, (8, 16, 32), strict=True):
            for row, column, z in places(np.concatenate([scores, seen, box])):
                x, y = (column + z[2]) * stride, (row + z[3]) * stride
                corners = centred(x, y, np.exp(z[4]) * stride, np.exp(z[5]) * stride)
                found.append(([z[0], z[1]], corners))
        return found


class YuNet2021(Levels):
    """YuNet of 2021: outputs loc [N, 14], conf [N, 2] and iou [N, 1] of one picture."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(*[(17 * len(sides),) for sides in FACE_SIDES], gain=gain, pool=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        flat = [c.permute(0, 2, 3, 1).reshape(x.shape[0], -1) for (c,) in self.raw(x)]
        y = torch.cat(flat, 1).view(x.shape[0], -1, 17)
        loc, conf, iou = y[..., :14], y[..., 14:16], y[..., 16:]
        return loc.reshape(-1, 14), conf.reshape(-1, 2).softmax(1), iou.reshape(-1, 1)

    outputs = ("loc", "conf", "iou")

    def decoded(self, raw: list[list[Any]]) -> Rows:
        found: Rows = []
        for (maps,), stride, sides in zip(raw, (8, 16, 32, 64), FACE_SIDES, strict=True):
            for row, column, z in places(maps):
                for a, side in enumerate(sides):
                    d = z[a * 17 : a * 17 + 17]
                    x = (column + 0.5) * stride + d[0] * 0.1 * side
                    y = (row + 0.5) * stride + d[1] * 0.1 * side
                    corners = centred(x, y, side * np.exp(0.2 * d[2]), side * np.exp(0.2 * d[3]))
                    found.append((list(d[14:16]), corners))
        return found


class UltraFace(Levels):
    """UltraFace: background and face after a softmax, boxes as shares of the picture (or still differences to priors)."""

    def __init__(self, gain: float = 1.0, decode: bool = True) -> None:
        super().__init__(*[(2 * len(sides), 4 * len(sides)) for sides in FACE_SIDES], gain=gain)
        self.decode = decode

    def priors(self, level: int, h: int, w: int) -> list[tuple[float, float, float, float]]:
        """As shares of the picture, clamped to it."""
        found = []
        for row in range(h):
            for column in range(w):
                for side in FACE_SIDES[level]:
                    found.append(
                        ((column + 0.5) / w, (row + 0.5) / h, min(side / SIZE[1], 1), min(side / SIZE[0], 1))
                    )
        return found

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = self.raw(x)
        scores = [s.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 2) for s, _ in raw]
        boxes = torch.cat([b.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for _, b in raw], 1)
        probabilities = torch.cat(scores, 1).softmax(2)
        if not self.decode:
            return probabilities, boxes
        priors = torch.tensor([p for i, (s, _) in enumerate(raw) for p in self.priors(i, *s.shape[2:])])[None]
        centres = boxes[..., :2] * 0.1 * priors[..., 2:] + priors[..., :2]
        sizes = torch.exp(boxes[..., 2:] * 0.2) * priors[..., 2:]
        found = torch.cat([centres, sizes], 2)
        return probabilities, torch.cat(
            [found[..., :2] - found[..., 2:] / 2, found[..., :2] + found[..., 2:] / 2], 2
        )

    outputs = ("scores", "boxes")

    def decoded(self, raw: list[list[Any]]) -> Rows:
        found: Rows = []
        for level, (scores, boxes) in enumerate(raw):
            priors = iter(self.priors(level, *scores.shape[1:]))
            for (_, _, s), (_, _, b) in zip(places(scores), places(boxes), strict=True):
                for a in range(len(FACE_SIDES[level])):
                    cx, cy, pw, ph = next(priors)
                    d = b[4 * a : 4 * a + 4]
                    w, h = pw * np.exp(0.2 * d[2]), ph * np.exp(0.2 * d[3])
                    x, y = cx + 0.1 * d[0] * pw, cy + 0.1 * d[1] * ph
                    corners = centred(x, y, w, h)
                    found.append(
                        (list(s[2 * a : 2 * a + 2]), [c * SIZE[1 - i % 2] for i, c in enumerate(corners)])
                    )
        return found


class Ssd(Levels):
    """The head of torchvision's SSDLite over six levels, with a softmax at the end."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(*[(6 * CLASSES, 6 * 4)] * 6, gain=gain)

    columns = (CLASSES, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = []
        for which, columns in enumerate(self.columns):
            parts = []
            for level in self.raw(x):
                n, _, h, w = level[which].shape
                part = level[which].view(n, -1, columns, h, w).permute(0, 3, 4, 1, 2)
                parts.append(part.reshape(n, -1, columns))
            found.append(torch.cat(parts, 1))
        return self.finish(found[0]), found[1]

    def finish(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.softmax(-1)

    def shapes(self, level: int) -> list[tuple[float, float]]:
        """Widths and heights of the default boxes, as shares of the picture."""
        scales = [0.2 + (0.95 - 0.2) * k / 5 for k in range(6)] + [1.0]
        s, t = scales[level], math.sqrt(scales[level] * scales[level + 1])
        found = [(s, s), (t, t)]
        for ratio in (2, 3):
            found += [
                (s * math.sqrt(ratio), s / math.sqrt(ratio)),
                (s / math.sqrt(ratio), s * math.sqrt(ratio)),
            ]
        return [(min(w, 1.0), min(h, 1.0)) for w, h in found]

    def decoded(self, raw: list[list[Any]]) -> Rows:
        found: Rows = []
        for level, (scores, boxes) in enumerate(raw):
            h, w = scores.shape[1:]
            for (row, column, s), (_, _, b) in zip(places(scores), places(boxes), strict=True):
                for a, (pw, ph) in enumerate(self.shapes(level)):
                    pw, ph = pw * SIZE[1], ph * SIZE[0]
                    d = b[4 * a : 4 * a + 4]
                    x = (column + 0.5) / w * SIZE[1] + d[0] / 10 * pw
                    y = (row + 0.5) / h * SIZE[0] + d[1] / 10 * ph
                    corners = centred(x, y, pw * np.exp(d[2] / 5), ph * np.exp(d[3] / 5))
                    found.append((list(s[CLASSES * a : CLASSES * a + CLASSES]), corners))
        return found


class RetinaNet(Ssd):
    """The head of torchvision's RetinaNet over five levels, with a sigmoid at the end."""

    def __init__(self, gain: float = 1.0) -> None:
        Levels.__init__(self, *[(9 * CLASSES, 9 * 4)] * 5, gain=gain)

    def finish(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.sigmoid()

    def decoded(self, raw: list[list[Any]]) -> Rows:
        found: Rows = []
        for level, (scores, boxes) in enumerate(raw):
            h, w = scores.shape[1:]
            side = 32 * 2**level
            sides = [side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))]
            anchors = [(s / math.sqrt(r), s * math.sqrt(r)) for r in (0.5, 1.0, 2.0) for s in sides]
            for (row, column, s), (_, _, b) in zip(places(scores), places(boxes), strict=True):
                for a, (aw, ah) in enumerate(anchors):
                    aw, ah = 2 * np.round(np.float32(aw) / 2), 2 * np.round(np.float32(ah) / 2)
                    d = b[4 * a : 4 * a + 4]
                    x, y = column * (SIZE[1] // w) + d[0] * aw, row * (SIZE[0] // h) + d[1] * ah
                    most = math.log(1000 / 16)
                    corners = centred(x, y, aw * np.exp(min(d[2], most)), ah * np.exp(min(d[3], most)))
                    found.append((list(s[CLASSES * a : CLASSES * a + CLASSES]), corners))
        return found
