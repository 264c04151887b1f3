"""The table of gradient rules: one small function per operator, one file per kind.

A rule gets the op builder, the forward node and one gradient per output, and returns one gradient per
input (see engine.Rule). Its docstring's first paragraph is the operator's row in docs/operators.md.
Where the output says as much as the input (Relu, Clip, Sigmoid), the rule reads the output, so that ONNX
Runtime can still fuse the operator with the convolution before it.
Only operators that the CUDA provider runs may be emitted. Importing the files below fills the table.
"""

from sise_ort.exporter.gradients.rules import activations as activations
from sise_ort.exporter.gradients.rules import arithmetic as arithmetic
from sise_ort.exporter.gradients.rules import arrangement as arrangement
from sise_ort.exporter.gradients.rules import linear as linear
from sise_ort.exporter.gradients.rules import normalization as normalization
from sise_ort.exporter.gradients.rules import pooling as pooling
from sise_ort.exporter.gradients.rules import quantization as quantization
from sise_ort.exporter.gradients.rules import reductions as reductions
from sise_ort.exporter.gradients.rules import resampling as resampling
