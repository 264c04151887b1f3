"""The part of explain.onnx that brings a frame of any size to the network's."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sise_ort.bundle import Manifest
from sise_ort.exporter.ops import Ops
from sise_ort.exporter.phases.graph import FLOAT, UINT8
from sise_ort.formulas.fitting import back_matrices, fit_matrices

DOUBLE = ir.DataType.DOUBLE


def fitted_frame(op: Ops, exact: Ops, image: ir.Value, manifest: Manifest) -> ir.Value:
    """Append the bundle's fit.

    Parameters
    ----------
    op, exact : Ops
        Of one graph, in float32 and float64.
    image : onnx_ir.Value [H0, W0, C]
        uint8 or float32.
    manifest : Manifest

    Returns
    -------
    onnx_ir.Value [H, W, C]
        Of the frame's type; whole numbers again where that is uint8.
    """
    spec, fit = manifest.input, manifest.fit
    (rows, columns), (down, along) = fit_matrices(
        exact, _lengths(exact, image), (spec.height, spec.width), fit.mode, fit.resize
    )
    planes = op.Transpose(op.Cast(image, to=FLOAT), perm=[2, 0, 1])
    fitted = op.MatMul(op.Cast(rows, to=FLOAT), planes)
    fitted = op.MatMul(fitted, op.Transpose(op.Cast(columns, to=FLOAT), perm=[1, 0]))
    if fit.mode == "letterbox":
        there = op.Cast(exact.Mul(down, exact.Transpose(along, perm=[1, 0])), to=FLOAT)
        border = op.constant(np.array(fit.border, np.float32).reshape(-1, 1, 1))
        fitted = op.Add(fitted, op.Mul(op.Sub(1.0, there), border))
    fitted = op.Transpose(fitted, perm=[1, 2, 0])
    if image.dtype != UINT8:
        return fitted
    return op.Cast(op.Min(op.Max(op.Round(fitted), 0.0), 255.0), to=UINT8)


def placed_back(op: Ops, exact: Ops, image: ir.Value, heatmap: ir.Value, manifest: Manifest) -> ir.Value:
    """Append the way back: a heat map [H, W] at the frame's own size [H0, W0], 0 where the network did not look."""
    spec, fit = manifest.input, manifest.fit
    rows, columns = back_matrices(
        exact, _lengths(exact, image), (spec.height, spec.width), fit.mode, fit.resize
    )
    placed = op.MatMul(op.Cast(rows, to=FLOAT), heatmap)
    placed = op.MatMul(placed, op.Transpose(op.Cast(columns, to=FLOAT), perm=[1, 0]))
    return op.Min(op.Max(placed, 0.0), 1.0)


def _lengths(exact: Ops, image: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Height and width of a frame as float64 [1] each."""
    height, width = (exact.Cast(exact.Shape(image, start=i, end=i + 1), to=DOUBLE) for i in (0, 1))
    return height, width
