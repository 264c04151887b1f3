"""Which feature maps become attribution masks (docs/method.md, Selection)."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sise_ort.errors import ParameterError, option, shown
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.ops import Ops, V
from sise_ort.formulas.otsu import otsu
from sise_ort.formulas.scaling import TINY, is_uneven
from sise_ort.formulas.seed import LEAST


def check_mu(mu: float | str) -> float | str:
    """Return `mu` where it is a number in [0, 1) or "adaptive".

    Raises
    ------
    ParameterError
        It is neither.
    """
    if isinstance(mu, str) and mu == "adaptive":
        return mu
    number = -1.0
    if isinstance(mu, (str, int, float, np.integer, np.floating)) and not isinstance(mu, bool):
        with suppress(ValueError, OverflowError):
            number = float(mu)
    if not 0.0 <= number < 1.0:
        raise ParameterError(f'{option("mu")} is {shown(mu)}; it must be a number in [0, 1) or "adaptive"')
    return number


def pooled_gradients(op: Ops[V], gradients: V) -> V:
    """α, the sum of each map's gradient over its places: [K, N, h, w] -> [K, N]."""
    return op.ReduceSum(gradients, [2, 3], keepdims=0)


def spans(op: Ops[V], maps: V) -> V:
    """(maximum - minimum) / max |map| of each map, 0 for a zero map: [1, N, h, w] -> [1, N]."""
    largest = op.ReduceMax(op.Abs(maps), [2, 3], keepdims=0)
    extent = op.Sub(op.ReduceMax(maps, [2, 3], keepdims=0), op.ReduceMin(maps, [2, 3], keepdims=0))
    return op.Div(extent, op.Max(largest, TINY))


def is_selected(op: Ops[V], alpha: V, span: V, mu: V | float | str) -> V:
    """Which feature maps of one block become masks.

    Map k does where α_k > μ·β with β = max α, α_k > 0, and the map is not flat. "adaptive" puts Otsu's threshold of α/β over
    the positive ones in place of μ; where these are all equal it keeps them all.

    Parameters
    ----------
    op : Ops
    alpha : value [K, N]
        Pooled gradients.
    span : value [1, N]
        See `spans`.
    mu : value, float or "adaptive"

    Returns
    -------
    value, bool [K, N]
    """
    positive = op.Greater(alpha, 0.0)
    beta = op.ReduceMax(alpha, [1], keepdims=1)
    if isinstance(mu, str):
        threshold = op.Mul(_adaptive_mu(op, alpha, beta, positive), beta)
    else:
        threshold = op.Mul(beta, mu)
    return op.And(op.And(positive, op.Greater(alpha, threshold)), is_uneven(op, span, 1.0))


def _adaptive_mu(op: Ops[V], alpha: V, beta: V, positive: V) -> V:
    """Otsu's threshold of α/β over the positive ones, [K, 1]; below 1 where these are all equal."""
    ratio = op.Where(positive, op.Div(alpha, op.Where(op.Greater(beta, 0.0), beta, 1.0)), 1.0)
    row = op.constant([1, 2])
    counted = op.Unsqueeze(op.Cast(positive, to=op.dtype), row)
    return op.Squeeze(otsu(op, op.Unsqueeze(ratio, row), counted), op.constant([2, 3]))


def flat_maps(span: ArrayLike) -> NDArray[np.bool_]:
    """Which feature maps are flat (docs/method.md, Flat maps), from their `spans` [N]."""
    flat: NDArray[np.bool_] = ~is_uneven(NumpyOps(), np.asarray(span, np.float64), 1.0)
    return flat


def select_maps(alpha: ArrayLike, span: ArrayLike, mu: float | str = 0.0) -> NDArray[np.bool_]:
    """Which feature maps of one block become masks, computed in float64; see `is_selected`.

    Parameters
    ----------
    alpha : array_like, [N] or [K, N]
        Pooled gradients.
    span : array_like, [N]
        (maximum - minimum) / max |map| of each map.
    mu : float in [0, 1) or "adaptive"

    Returns
    -------
    numpy.ndarray, bool, of the shape of `alpha`
    """
    rows = np.asarray(alpha, np.float64)
    if not rows.size:
        return np.zeros(rows.shape, bool)
    widths = np.asarray(span, np.float64).reshape(1, -1)
    threshold = mu if isinstance(mu, str) else float(mu)
    return is_selected(NumpyOps(), rows.reshape(-1, rows.shape[-1]), widths, threshold).reshape(rows.shape)


def due_block(op: Ops[V], counts: V, free: V, blocks: int) -> V:
    """Choose the block that gets the next mask where nothing is known yet; each block counts twice as much as the one before.

    It is the block with the largest p_b (1 + Σ c) - c_b. It has c_b masks already, and p_b is its part of the importance 2^b
    of all blocks that have masks left.

    Parameters
    ----------
    op : Ops
    counts : value [B]
        Masks that each block has got, c.
    free : value, bool [B]
        Which blocks have masks left.
    blocks : int
        B.

    Returns
    -------
    value, int64 [1]
        The block, counted from 0; the first of equal ones.
    """
    importance = op.Where(free, op.constant(2.0 ** (np.arange(blocks) - blocks + 1)), 0.0)
    part = op.Div(importance, op.ReduceSum(importance, [0], keepdims=1))
    due = op.Sub(op.Mul(part, op.Add(op.ReduceSum(counts, [0], keepdims=1), 1.0)), counts)
    return op.ArgMax(op.Where(free, due, LEAST), axis=0, keepdims=1)


def share_one(op: Ops[V], counts: V, available: V, blocks: int) -> V:
    """Give one more mask to the block that is due (`due_block`): from masks that each block has got [B] to the same [B]."""
    chosen = due_block(op, counts, op.Less(counts, available), blocks)
    return op.Add(counts, op.Cast(op.Equal(op.constant(np.arange(blocks)), chosen), to=op.dtype))


def largest_first(op: Ops[V], alpha: V, selected: V, channels: int) -> V:
    """The maps of one block by their pooled gradients, the largest first; those that are not selected stand last.

    Parameters
    ----------
    op : Ops
    alpha : value [1, N]
    selected : value, bool [1, N]
        See `is_selected`.
    channels : int
        N.

    Returns
    -------
    value, int64 [N]
    """
    ranked = op.Where(selected, alpha, -1.0)
    _, index = op.TopK(ranked, op.constant([channels]), axis=1, outputs=2)
    return op.Squeeze(index, op.constant([0]))
