"""Evaluates formulas on NumPy arrays, with the meaning that ONNX gives the operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sise_ort.formulas.ops import BOOL, DOUBLE, FLOAT, INT32, INT64
from sise_ort.formulas.resampling import hat_matrix

Array = NDArray[Any]
Operand = Array | float

_TYPES: dict[int, type[np.generic]] = {
    FLOAT: np.float32,
    INT32: np.int32,
    INT64: np.int64,
    BOOL: np.bool_,
    DOUBLE: np.float64,
}


class NumpyOps:
    """The operator builder that computes at once.

    Like ONNX it never changes a type unasked: operands of one operator have one type.

    Parameters
    ----------
    float_type : numpy.float64 or numpy.float32
        The type of constants, and of the values that formulas are given.
    """

    def __init__(self, float_type: DTypeLike = np.float64) -> None:
        self.float_type = np.dtype(float_type)
        self.dtype = {"float32": FLOAT, "float64": DOUBLE}[self.float_type.name]

    def constant(self, array: ArrayLike, /) -> Array:
        """An array: floats in the builder's float type, integers as int64, booleans as they are."""
        data = np.asarray(array)
        if data.dtype.kind == "f":
            return data.astype(self.float_type)
        return data.astype(np.int64) if data.dtype.kind in "iu" else data

    def _of(self, *operands: Operand) -> list[Array]:
        """Operands as arrays of one type."""
        found = [
            np.asarray(o) if isinstance(o, (np.ndarray, np.generic)) else self.constant(o) for o in operands
        ]
        if len({o.dtype for o in found}) > 1:
            raise TypeError(f"operands of different types: {', '.join(str(o.dtype) for o in found)}")
        return found

    def Cast(self, x: Operand, /, *, to: int) -> Array:
        (value,) = self._of(x)
        return value.astype(_TYPES[to])

    def Identity(self, x: Array, /) -> Array:
        return x

    def Abs(self, x: Array, /) -> Array:
        return np.abs(x)

    def Exp(self, x: Array, /) -> Array:
        found: Array = np.exp(x)
        return found

    def Floor(self, x: Array, /) -> Array:
        return np.floor(x)

    def Log(self, x: Array, /) -> Array:
        found: Array = np.log(x)
        return found

    def Neg(self, x: Array, /) -> Array:
        found: Array = np.negative(x)
        return found

    def Relu(self, x: Array, /) -> Array:
        return np.maximum(x, np.zeros((), x.dtype))

    def Round(self, x: Array, /) -> Array:
        """Halves go to the even number."""
        return np.rint(x)

    def Sigmoid(self, x: Array, /) -> Array:
        """1 / (1 + exp(-x)), to full relative precision on both sides."""
        found: Array = np.exp(-np.logaddexp(x.dtype.type(0), -x))
        return found

    def Sqrt(self, x: Array, /) -> Array:
        found: Array = np.sqrt(x)
        return found

    def Softmax(self, x: Array, /, *, axis: int) -> Array:
        powers = np.exp(x - x.max(axis=axis, keepdims=True))
        found: Array = powers / powers.sum(axis=axis, keepdims=True)
        return found

    def Add(self, a: Operand, b: Operand, /) -> Array:
        return np.add(*self._of(a, b))

    def Sub(self, a: Operand, b: Operand, /) -> Array:
        return np.subtract(*self._of(a, b))

    def Mul(self, a: Operand, b: Operand, /) -> Array:
        return np.multiply(*self._of(a, b))

    def Div(self, a: Operand, b: Operand, /) -> Array:
        return np.divide(*self._of(a, b))

    def Max(self, a: Operand, b: Operand, /) -> Array:
        return np.maximum(*self._of(a, b))

    def Min(self, a: Operand, b: Operand, /) -> Array:
        return np.minimum(*self._of(a, b))

    def MatMul(self, a: Array, b: Array, /) -> Array:
        return np.matmul(*self._of(a, b))

    def And(self, a: Array, b: Array, /) -> Array:
        return np.logical_and(a, b)

    def Equal(self, a: Operand, b: Operand, /) -> Array:
        return np.equal(*self._of(a, b))

    def Greater(self, a: Operand, b: Operand, /) -> Array:
        return np.greater(*self._of(a, b))

    def Less(self, a: Operand, b: Operand, /) -> Array:
        return np.less(*self._of(a, b))

    def Where(self, condition: Array, x: Operand, y: Operand, /) -> Array:
        return np.where(condition, *self._of(x, y))

    def ArgMax(self, x: Array, /, *, axis: int, keepdims: int) -> Array:
        """The first of equal maxima, int64."""
        return np.asarray(np.argmax(x, axis=axis, keepdims=bool(keepdims)), np.int64)

    def CumSum(self, x: Array, axis: Array, /) -> Array:
        return np.cumsum(x, axis=int(axis), dtype=x.dtype)

    def ReduceMax(self, x: Array, axes: Array | list[int], /, *, keepdims: int) -> Array:
        return _reduced(np.max, x, axes, keepdims)

    def ReduceMin(self, x: Array, axes: Array | list[int], /, *, keepdims: int) -> Array:
        return _reduced(np.min, x, axes, keepdims)

    def ReduceMean(self, x: Array, axes: Array | list[int], /, *, keepdims: int) -> Array:
        return _reduced(np.mean, x, axes, keepdims)

    def ReduceSum(self, x: Array, axes: Array | list[int], /, *, keepdims: int) -> Array:
        return _reduced(np.sum, x, axes, keepdims)

    def Concat(self, *parts: Array, axis: int) -> Array:
        return np.concatenate(self._of(*parts), axis=axis)

    def Expand(self, x: Operand, shape: Array, /) -> Array:
        (value,) = self._of(x)
        return np.broadcast_to(value, np.broadcast_shapes(value.shape, tuple(shape.tolist())))

    def Gather(self, x: Array, index: Array, /, *, axis: int) -> Array:
        return np.take(x, index, axis=axis)

    def Range(self, start: Array, limit: Array, delta: Array, /) -> Array:
        return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)

    def Reshape(self, x: Array, shape: Array, /) -> Array:
        """0 keeps a dimension, -1 takes what is left."""
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())]
        if -1 in sizes:  # NumPy cannot tell it where there are no elements
            known = int(np.prod([n for n in sizes if n != -1]))
            sizes[sizes.index(-1)] = x.size // known if known else 0
        return x.reshape(sizes)

    def Resize(
        self,
        x: Array,
        roi: None,
        scales: None,
        sizes: Array,
        /,
        *,
        axes: Sequence[int],
        mode: str,
        coordinate_transformation_mode: str,
    ) -> Array:
        """Linear interpolation along some axes, half-pixel centres, edges repeated, no antialiasing."""
        if (mode, coordinate_transformation_mode) != ("linear", "half_pixel"):
            raise NotImplementedError(f"Resize {mode}, {coordinate_transformation_mode}")
        if x.dtype.kind != "f":
            raise TypeError(f"Resize of {x.dtype}")
        for axis, size in zip(axes, sizes.tolist(), strict=True):
            matrix = hat_matrix(size, x.shape[axis]).astype(x.dtype)
            x = (
                np.moveaxis(matrix @ np.moveaxis(x, axis, -2), -2, axis)
                if axis != x.ndim - 1
                else x @ matrix.T
            )
        return x

    def ScatterElements(
        self, x: Array, index: Array, updates: Array, /, *, axis: int, reduction: str
    ) -> Array:
        """Adds `updates` to `x` at places given along one axis; equal places add up."""
        if reduction != "add":
            raise NotImplementedError(f"ScatterElements {reduction!r}")
        self._of(x, updates)
        strides = np.cumprod((1, *x.shape[:0:-1]))[::-1]
        flat = index.astype(np.int64) * strides[axis]
        for other, grid in enumerate(np.ogrid[tuple(map(slice, index.shape))]):
            if other != axis and x.shape[other] > 1:
                flat += grid * strides[other]
        added = np.bincount(flat.ravel(), weights=updates.ravel(), minlength=x.size)
        found: Array = x + added.reshape(x.shape).astype(x.dtype)
        return found

    def Shape(self, x: Array, /, *, start: int = 0, end: int | None = None) -> Array:
        return np.array(x.shape[start:end], np.int64)

    def Slice(self, x: Array, starts: Array, ends: Array, axes: Array, /) -> Array:
        places = [slice(None)] * x.ndim
        for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
            places[axis] = slice(start, end)
        return x[tuple(places)]

    def Squeeze(self, x: Array, axes: Array, /) -> Array:
        return np.squeeze(x, tuple(axes.tolist()))

    def TopK(self, x: Array, k: Array, /, *, axis: int, outputs: int) -> tuple[Array, Array]:
        """The k largest values and their places, the largest first; of equal ones the first."""
        places = np.argsort(-x, axis=axis, kind="stable")
        index = np.take(places, np.arange(int(k.item())), axis=axis).astype(np.int64)
        return np.take_along_axis(x, index, axis), index

    def Transpose(self, x: Array, /, *, perm: Sequence[int]) -> Array:
        return np.transpose(x, tuple(perm))

    def Unsqueeze(self, x: Array, axes: Array, /) -> Array:
        return np.expand_dims(x, tuple(axes.tolist()))


def _reduced(reduce: Callable[..., Array], x: Array, axes: Array | list[int], keepdims: int) -> Array:
    found = reduce(x, axis=tuple(int(axis) for axis in axes), keepdims=bool(keepdims))
    return np.asarray(found, x.dtype)
