"""Attribution masks from feature maps, and pictures seen through them (docs/method.md, Masks)."""

from __future__ import annotations

from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.resampling import upsample
from sise_ort.formulas.scaling import scale


def attribution_masks(op: Ops[V], maps: V, height: int, width: int) -> tuple[V, V, V]:
    """Each map upsampled, then scaled to [0, 1] by its own minimum and maximum.

    Parameters
    ----------
    op : Ops
    maps : value [n, 1, h, w]
    height, width : int
        Size of the network's input.

    Returns
    -------
    masks : value [n, 1, H, W] in [0, 1]
    extent : value [n]
        Maximum - minimum of the upsampled map.
    total : value [n]
        Sum of the mask.
    """
    masks, extent = scale(op, upsample(op, maps, height, width), [2, 3])
    return masks, op.Reshape(extent, op.constant([-1])), op.ReduceSum(masks, [1, 2, 3], keepdims=0)


def see_through(op: Ops[V], x: V, masks: V, hidden: V | None = None) -> V:
    """Network inputs through masks: (x - hidden) ⊙ m + hidden.

    Parameters
    ----------
    op : Ops
    x : value [1, C, H, W]
        A network input.
    masks : value [n, 1, H, W] in [0, 1]
    hidden : value [1, C, 1, 1], optional
        What a pixel becomes where the mask is 0. Left out: 0, the mean colour.

    Returns
    -------
    value [n, C, H, W]
    """
    if hidden is None:
        return op.Mul(x, masks)
    return op.Add(op.Mul(op.Sub(x, hidden), masks), hidden)
