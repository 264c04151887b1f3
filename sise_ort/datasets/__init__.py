"""Data sets with a known truth: pictures, the class in each, and where it is."""

from sise_ort.datasets.dataset import Dataset, Problem, Sample
from sise_ort.datasets.kinds import KINDS, open_dataset

__all__ = ["KINDS", "Dataset", "Problem", "Sample", "open_dataset"]
