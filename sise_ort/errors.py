"""Every error that sise-ort raises on purpose: what was given, what was expected, what to do."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's message: other libraries' messages run over many."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class SiseError(Exception):
    """Base of all errors of this package; catch it to catch them all."""


class BundleError(SiseError):
    """A bundle is missing, damaged, foreign, half-copied or too new."""


class FrameError(SiseError, ValueError):
    """A picture or array cannot be explained: unreadable, empty, wrong shape or dtype, not finite."""


class TargetError(SiseError, ValueError):
    """The class asked for does not exist, or the head cannot answer the question."""


class ParameterError(SiseError, ValueError):
    """A parameter is out of its range."""


class ProviderError(SiseError, RuntimeError):
    """An execution provider was asked for and is not really in use."""


class OutOfMemoryError(ProviderError):
    """The device has no memory left for this batch."""


class MissingDependencyError(SiseError, ImportError):
    """A package that this step needs is not installed."""


class DatasetError(SiseError):
    """A data set's folder does not have the layout of its kind, or nothing in it can be used."""


class OutputError(SiseError, OSError):
    """Results cannot be written: read-only folder, full disk, something in the way."""


class ExportError(SiseError):
    """A model cannot be turned into a bundle."""


class SourceError(ExportError):
    """The model file, name or factory cannot be loaded, or is no image classifier."""


class NoBlocksError(ExportError):
    """The network has no tensor that can serve as the output of a convolutional block."""


class GradientError(ExportError):
    """The graph cannot be differentiated between the scores and a block output."""
