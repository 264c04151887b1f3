"""What a network's outputs are, and what can be read off them; one file per task (docs/method.md, Readouts)."""

from __future__ import annotations

from sise_ort.tasks.classes import Classes
from sise_ort.tasks.detection import Detector
from sise_ort.tasks.embedding import Embedding
from sise_ort.tasks.segmentation import Segmentation
from sise_ort.tasks.value import Values

Task = Classes | Segmentation | Detector | Embedding | Values
"""All tasks; each is a struct of the manifest."""

__all__ = ["Classes", "Detector", "Embedding", "Segmentation", "Task", "Values"]
