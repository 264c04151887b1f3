"""SISE as the paper's page defines it: full-size masks, one after the other, in torch float64. Slow on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


@dataclass
class Block:
    alpha: Array  # [N]
    features: Array  # [N, h, w]
    selected: list[int]
    visualization: Array | None  # [H, W], scaled to [0, 1]


def otsu(values: Array) -> float:
    """From the definition: try every threshold, keep the first with the largest between-class variance."""
    bins = np.minimum(255, np.floor(256 * values.astype(np.float64).ravel())).astype(int)
    best, best_variance = 0, -1.0
    for t in range(256):
        low, high = bins[bins <= t], bins[bins > t]
        if len(low) == 0 or len(high) == 0:
            continue
        variance = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if variance > best_variance * (1 + 1e-12):
            best, best_variance = t, variance
    return (best + 0.5) / 256


def select(alpha: Array, features: Array, mu: float | str) -> list[int]:
    beta = alpha.max()
    if beta <= 0:
        return []
    if mu == "adaptive":
        positive = alpha[alpha > 0] / beta
        mu = otsu(positive) if len(set(positive.tolist())) > 1 else 0.0
    chosen = []
    for k, a in enumerate(alpha):
        flat = features[k].max() - features[k].min() <= 1e-5 * np.abs(features[k]).max()
        if a > float(mu) * beta and a > 0 and not flat:
            chosen.append(k)
    return chosen


def mask_of(feature_map: Array, size: tuple[int, int]) -> Array:
    wide = F.interpolate(
        torch.tensor(feature_map)[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    return np.asarray((wide - wide.min()) / (wide.max() - wide.min()))


def fuse(visualizations: Sequence[Array | None]) -> Array | None:
    """Figure 5, block by block; None marks an empty or flat block."""
    total: Array | None = None
    for v in visualizations:
        if v is None:
            continue
        total = v if total is None else (total + v) * (v > otsu(v))
    return None if total is None else total / total.max()


def visualize(
    x: Tensor, features: Array, selected: Sequence[int], confidence: Callable[[Tensor], float]
) -> Array | None:
    """Mean of s_k · m_k / Σ m_k, scaled to [0, 1]."""
    if not selected:
        return None
    size = (x.shape[2], x.shape[3])
    total = np.zeros(size)
    for k in selected:
        mask = mask_of(features[k], size)
        total += confidence(x * torch.tensor(mask)) * mask / mask.sum()
    total /= len(selected)
    if total.max() - total.min() <= 1e-12 * np.abs(total).max():
        return None
    return np.asarray((total - total.min()) / (total.max() - total.min()))


def explain(
    net: Callable[[Tensor], tuple[Tensor, list[Tensor]]],
    x: Tensor,
    target: int,
    mu: float | str,
    head: str,
    selections: Sequence[Sequence[int]] | None = None,
) -> tuple[Array | None, list[Block]]:
    """Heat map and blocks for network input x [1, C, H, W] float64; `net` returns scores and block outputs."""
    confidence_of = (lambda z: torch.softmax(z, 1)) if head == "softmax" else torch.sigmoid
    return explain_any(net, x, lambda z: confidence_of(z)[0, target], mu, selections)


def explain_any(
    net: Callable[[Tensor], tuple[Tensor, list[Tensor]]],
    x: Tensor,
    psi: Callable[[Tensor], Tensor],
    mu: float | str,
    selections: Sequence[Sequence[int]] | None = None,
) -> tuple[Array | None, list[Block]]:
    """The same for any number Ψ of the network's outputs."""
    scores, outputs = net(x)
    gradients = torch.autograd.grad(psi(scores), outputs)

    def confidence(masked: Tensor) -> float:
        with torch.no_grad():
            return float(psi(net(masked)[0]))

    blocks = []
    for b, (output, gradient) in enumerate(zip(outputs, gradients, strict=True)):
        features, alpha = output[0].detach().numpy(), gradient[0].sum((1, 2)).numpy()
        selected = list(selections[b]) if selections is not None else select(alpha, features, mu)
        blocks.append(Block(alpha, features, selected, visualize(x, features, selected, confidence)))
    return fuse([b.visualization for b in blocks]), blocks
