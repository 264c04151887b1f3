"""The formulas of the method, each written once over an operator builder (docs/method.md).

A formula is a function of `op` and values: ``otsu(op, maps)``. With `sise_ort.formulas.numpy_ops.NumpyOps` it computes on
NumPy arrays; with `sise_ort.exporter.ops.Ops` it writes the same computation as ONNX nodes.
"""
