"""What the tasks share. A task is a struct of the manifest that has

- ``name``, as users write it, and ``on_device``: whether its answers are read by readout.onnx where they lie (class scores
  are small and come down as they are);
- ``bounded(head)``, whether Ψ lies in [0, 1], and ``contrast(head)``, the seed's contrast where Ψ itself is differentiated;
  0 always means Ψ's score (`sise_ort.formulas.seed`);
- ``outputs(head)``, the outputs of predict.onnx by name, each without its first axis, the network inputs;
- ``given(head)``, the tensors of a question by name: ONNX's number of the type, and the shape without the axis of the questions;
- ``seed(op, head, scores, given, contrast)``, the seed of K questions at the output "scores", [K, …];
- where answers are read on the device, ``read(op, head, outputs, given)``, Ψ and the score of K questions, [K, n] each.
"""

from __future__ import annotations

from sise_ort.formulas.ops import INT64

FLOAT = 1
Lengths = tuple[int, ...]

CLASS: dict[str, tuple[int, Lengths]] = {"class": (INT64, ())}
"""The tensor of a question about a class, as a task's ``given`` lists it."""
