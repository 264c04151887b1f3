"""What every task has: the tensors of the network's answer and of a question, and the formulas between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sise_ort.formulas.ops import INT64, Ops, V
from sise_ort.heads import Head

FLOAT = 1
Lengths = tuple[int, ...]
Tensors = Mapping[str, Any]
"""Values of a builder by name."""

CLASS = {"class": (INT64, ())}
"""The tensor of a question about a class, as `Task.given` lists it."""


class TaskFormulas(Protocol):
    """The side of a task that graphs and the runtime see.

    Attributes
    ----------
    on_device : bool
        Whether the answers are read by readout.onnx where they lie. Class scores are small: they come down as they are.
    name : str
        The task as users name it, "segmentation".
    """

    @property
    def on_device(self) -> bool: ...
    @property
    def name(self) -> str: ...

    def bounded(self, head: Head) -> bool:
        """Whether Ψ lies in [0, 1]."""

    def contrast(self, head: Head) -> float:
        """The seed's contrast where Ψ itself is differentiated; 0 always means its score (`formulas.seed`)."""

    def outputs(self, head: Head) -> dict[str, Lengths]:
        """The outputs of predict.onnx by name, each without its first axis, the network inputs."""

    def given(self, head: Head) -> dict[str, tuple[int, Lengths]]:
        """The tensors of a question by name: ONNX's number of the type, and the shape without the axis of the questions."""

    def seed(self, op: Ops[V], head: Head, scores: V, given: Mapping[str, V], contrast: V | float) -> V:
        """The seed of K questions at the output "scores", [K, …]."""

    def read(self, op: Ops[V], head: Head, outputs: Mapping[str, V], given: Mapping[str, V]) -> tuple[V, V]:
        """Ψ and the score of K questions, [K, n] each, from the network's outputs for n inputs."""
