"""The table of gradient rules: one small function per operator, one file per kind.

A rule gets the op builder, the forward node and one gradient per output, and returns one gradient per
input (see engine.Rule). Its docstring's first paragraph is the operator's row in docs/operators.md.
Where the output says as much as the input (Relu, Clip, Sigmoid), the rule reads the output, so that ONNX
Runtime can still fuse the operator with the convolution before it.
Only operators that the CUDA provider runs may be emitted.
"""

from sise_ort.exporter.gradients.rules import (
    activations as activations,
    arithmetic as arithmetic,
    arrangement as arrangement,
    linear as linear,
    normalization as normalization,
    pooling as pooling,
    quantization as quantization,
    reductions as reductions,
    resampling as resampling,
)  # importing them fills the table
