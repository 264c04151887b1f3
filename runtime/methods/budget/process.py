"""A Gaussian process over masks: what the network would answer to masks that nobody scored (docs/budget.md)."""

from __future__ import annotations

from math import erf

import numpy as np
from numpy.typing import NDArray

NOISE = 1e-2
"""Variance of the confidences' own unevenness, in units of the process's variance."""
FREQUENCIES = 64
"""Frequencies that draw functions from the prior; more of them change nothing that was measured."""

Array = NDArray[np.floating]


class MaskProcess:
    """Gaussian process with a Matérn 3/2 kernel, k = (1 + √3 r) exp(-√3 r), whose observed masks are added one by one.

    The kernel matrix is never made whole: adding mask i costs one column of it and one row of the pivoted Cholesky
    factor, O(M·(d + n)) for M masks of d numbers, n of them observed.

    Parameters
    ----------
    vectors : float, [M, d]
        A mask each; r is their Euclidean distance.
    capacity : int
        Masks that will be observed at most.

    Attributes
    ----------
    variance : float32, [M]
        What is left of each mask's variance, in units of the process's.
    observed : list of int
        Numbers of the observed masks, in order.
    """

    def __init__(self, vectors: Array, capacity: int) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        count = len(self.vectors)
        self.variance: NDArray[np.float32] = np.ones(count, np.float32)
        self.observed: list[int] = []
        self._squares = np.einsum("md,md->m", self.vectors, self.vectors)
        self._rows = np.zeros((capacity, count), np.float32)  # L^-1 K[observed], with K + noise = L L^T
        self._factor = np.zeros((capacity, capacity))  # L
        self._white = np.zeros((0, 0))  # L^-1 (values, 1), as far as `mean` has come

    def observe(self, mask: int) -> None:
        """Add a mask to the observed ones, which lessens `variance`."""
        n = len(self.observed)
        head = self._rows[:n, mask].copy()
        own = float(np.sqrt(max(float(self.variance[mask]), 0.0) + NOISE))
        row = (self._column(mask) - head @ self._rows[:n]) / own
        self._rows[n] = row
        self._factor[n, :n], self._factor[n, n] = head, own
        self.variance = np.maximum(self.variance - row * row, 0.0)
        self.observed.append(mask)

    def mean(self, values: Array) -> tuple[Array, Array]:
        """The posterior mean of all masks from the observed ones' values.

        Parameters
        ----------
        values : float, [K, n]
            K functions at the observed masks, in the order in which they were added; from one call to the next only new
            ones may join them.

        Returns
        -------
        mean : float, [K, M]
            About a constant that is estimated with it (generalised least squares).
        squares : float, [K]
            Sum of squares of the n whitened residuals, which have n - 1 degrees of freedom and the process's variance.
        """
        n = len(self.observed)
        self._white = self._forward(np.vstack([values, np.ones(n)]).T, self._white)
        y, ones = self._white[:, :-1], self._white[:, -1]
        level = ones @ y / (ones @ ones)
        rest = y - np.outer(ones, level)
        mean = level[:, None] + rest.T.astype(np.float32) @ self._rows[:n]
        return mean, np.einsum("nk,nk->k", rest, rest)

    def prior(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draws from the process before anything is observed, in units of its standard deviation.

        Parameters
        ----------
        count : int
            Number of draws.
        rng : numpy.random.Generator
            Where they come from.

        Returns
        -------
        float32, [count, M]

        Notes
        -----
        Fourier features of random directions. The Matérn's spectral density is Student's t with 3 degrees of freedom,
        z √3 / ‖w‖ for Gaussian z and w, w in 3 dimensions; ‖w‖ takes its quantiles in turn, so that a few draws are
        representative.
        """
        frequencies = rng.standard_normal((self.vectors.shape[1], FREQUENCIES))
        phase = self.vectors @ (frequencies * (3**0.5 / _lengths(FREQUENCIES))).astype(np.float32)
        even, odd = rng.standard_normal((2, count, FREQUENCIES)).astype(np.float32) / np.float32(
            FREQUENCIES**0.5
        )
        drawn: NDArray[np.float32] = even @ np.cos(phase).T + odd @ np.sin(phase).T
        return drawn

    def deviations(self, prior: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
        """Draws from the posterior, less its mean, in units of the process's standard deviation.

        Parameters
        ----------
        prior : float32, [count, M]
            Draws from the prior.
        rng : numpy.random.Generator
            Where the observations' noise comes from.

        Returns
        -------
        float32, [count, M]

        Notes
        -----
        Matheron's rule (Wilson et al., ICML 2020, arXiv 2002.09309).
        """
        n = len(self.observed)
        seen = prior[:, self.observed] + np.sqrt(NOISE) * rng.standard_normal((len(prior), n))
        pull = self._forward(seen.T, np.zeros((0, 0))).astype(np.float32)
        drawn: NDArray[np.float32] = prior - pull.T @ self._rows[:n]
        return drawn

    def _forward(self, right: Array, known: Array) -> NDArray[np.float64]:
        """L^-1 right, [n, k], of which the first rows may be known already."""
        found = np.empty(right.shape)
        if len(known):
            found[: len(known)] = known
        for i in range(len(known), len(right)):
            found[i] = (right[i] - self._factor[i, :i] @ found[:i]) / self._factor[i, i]
        return found

    def _column(self, mask: int) -> NDArray[np.float32]:
        """k of all masks with one."""
        inner = self.vectors @ self.vectors[mask]
        r = np.sqrt(3 * np.maximum(self._squares + self._squares[mask] - 2 * inner, 0.0))
        column: NDArray[np.float32] = (1 + r) * np.exp(-r)
        return column


def _lengths(count: int) -> NDArray[np.float64]:
    """Quantiles of Maxwell's distribution in the middle of `count` equal shares.

    It is the distribution of the length r of a Gaussian vector in 3 dimensions: erf(r / √2) - √(2 / π) r exp(-r² / 2).
    """
    r = np.linspace(0, 8, 801)
    below = [erf(x) for x in r / 2**0.5] - (2 / np.pi) ** 0.5 * r * np.exp(-r * r / 2)
    return np.interp((np.arange(count) + 0.5) / count, below, r)
