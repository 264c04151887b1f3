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


def is_selected(op: Ops[V], alpha: V, span: V, mu: float | str) -> V:
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
    mu : float or "adaptive"

    Returns
    -------
    value, bool [K, N]
    """
    positive = op.Greater(alpha, 0.0)
    beta = op.ReduceMax(alpha, [1], keepdims=1)
    if mu == "adaptive":
        threshold = op.Mul(_adaptive_mu(op, alpha, beta, positive), beta)
    else:
        threshold = op.Mul(beta, float(mu))
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
    return is_selected(NumpyOps(), rows.reshape(-1, rows.shape[-1]), widths, mu).reshape(rows.shape)
