"""Export a CNN as a folder of ONNX graphs, and explain its predictions with heat maps on ONNX Runtime alone.

>>> import sise_ort
>>> explainer = sise_ort.load("model.sise")
>>> result = explainer.explain("strip.png")
>>> result.label, result.confidence, result.heatmap.shape
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sise_ort.errors import (
    BundleError,
    ClosedError,
    DatasetError,
    ExportError,
    FrameError,
    GradientError,
    MissingDependencyError,
    NoBlocksError,
    NotSeenError,
    OutputError,
    ParameterError,
    ProviderError,
    SiseError,
    SourceError,
    TargetError,
)

if TYPE_CHECKING:
    from sise_ort.bundle import Manifest
    from sise_ort.explanation import Explanation
    from sise_ort.heatmap_files import read_heatmap
    from sise_ort.line.cluster.dataset import Summary
    from sise_ort.line.cluster.workers import Workers
    from sise_ort.runtime.checking import Checks
    from sise_ort.runtime.explainer import Explainer
    from sise_ort.runtime.limits import Limits
    from sise_ort.runtime.methods.method import Method
    from sise_ort.targets import Detection, LikenessTo, RatherThan, Region, Value
    from sise_ort.verdicts import Verdict

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "Checks",
    "ClosedError",
    "DatasetError",
    "Detection",
    "Explainer",
    "Explanation",
    "ExportError",
    "FrameError",
    "GradientError",
    "LikenessTo",
    "Limits",
    "MissingDependencyError",
    "NoBlocksError",
    "NotSeenError",
    "OutputError",
    "ParameterError",
    "ProviderError",
    "RatherThan",
    "Region",
    "SiseError",
    "SourceError",
    "TargetError",
    "Value",
    "Verdict",
    "Workers",
    "__version__",
    "explain_dataset",
    "export",
    "load",
    "read_heatmap",
]


def load(
    bundle: str | Path,
    provider: str = "auto",
    batch_size: int | None = None,
    threads: int | None = None,
    provider_options: Mapping[str, object] | None = None,
    limits: Limits | None = None,
    trusted: bool = True,
    precision: str = "auto",
) -> Explainer:
    """Open a bundle.

    Parameters
    ----------
    bundle : str or Path
        Folder that `export` wrote. It is read once, into memory.
    provider : str
        "auto", "cpu", "cuda", "tensorrt", "openvino" (a processor; "openvino:GPU", "openvino:NPU" and "openvino:AUTO" name
        other devices), or "plugin:NAME" for a plug-in of onnxruntime (docs/providers.md). A provider that is named but does
        not work is an error, never replaced.
    batch_size : int or None
        Number of masks scored at once; None takes what `sise-ort bench` has measured on this machine, else chooses by
        the picture's size.
    threads : int or None
        Number of CPU threads to use; None takes all cores.
    provider_options : mapping or None
        Options of onnxruntime's provider for the session that scores masks, by onnxruntime's names, such as
        {"use_tf32": 0} or {"gpu_mem_limit": 2 << 30}; the provider cpu has none.
    limits : Limits or None
        Seconds and bytes that loading may take, and seconds of each run of a graph; None takes the defaults.
    trusted : bool
        False tries the bundle first in a process of its own with limited memory and time: for bundles from people you
        do not know (docs/bundle.md).
    precision : str
        Number format in which the network scores masks: "auto" (the bundle's own, never less), "fp32", "bf16" (provider
        openvino on a processor with AVX512_BF16 or AMX) or "fp16" (openvino:GPU, openvino:NPU). What the provider really
        computes in is measured; one that it cannot give is an error.

    Returns
    -------
    Explainer
        The open bundle, ready to explain.

    Raises
    ------
    BundleError, ProviderError, ParameterError, MissingDependencyError
    """
    from sise_ort.runtime.explainer import Explainer

    return Explainer(bundle, provider, batch_size, threads, provider_options, limits, trusted, precision)


def explain_dataset(
    bundle: str | Path,
    pictures: Any,
    out: str | Path,
    target: Any = None,
    *,
    method: str | Method = "sise",
    formats: Sequence[str] = (),
    workers: Workers | None = None,
    progress: Callable[[int, int], None] | None = None,
    **asked: Any,
) -> Summary:
    """Explain many pictures by several processes, on this machine or on a cluster of Ray; needs the extra `ray`.

    Results go to OUT/results as Parquet files, a row for each picture and question: ``path``, ``number`` (of the question),
    ``target``, ``label``, ``confidence``, ``score``, ``scores``, ``map`` (for `read_heatmap`), ``seconds``, ``files`` and
    ``record`` (JSON). Pictures that cannot be explained are listed in OUT/failures. A call with the same arguments goes on
    where an earlier one was stopped, and tries again what failed (docs/scale.md).

    Parameters
    ----------
    bundle : str or Path
        Folder that `export` wrote; each machine must find it under the same path.
    pictures : str, Path, or iterable of these
        Picture files, folders, addresses that fsspec opens such as ``s3://bucket/strips``, or Parquet files with a column of
        pictures' bytes or one named ``path`` with addresses.
    out : str or Path
        Folder or address to write to; each machine must find it under the same path.
    target : None, int, str, object or sequence of these
        As for `Explainer.explain`.
    method : str or Method
        As for `Explainer.explain`.
    formats : sequence of str
        Files to write for each result beside the Parquet, by the names of `sise_ort.saving.FORMATS`; none at first.
    workers : Workers or None
        How many processes, and where: None starts Ray on this machine.
    progress : callable or None
        Called with (pictures done, pictures in all).
    **asked
        ``levels``, ``color``, and the method's parameters, as for `Explainer.explain_many`.

    Returns
    -------
    Summary
        Where the results are, and how many pictures were explained, failed, and had results already.

    Raises
    ------
    SiseError
        Of its kinds: MissingDependencyError, BundleError, ParameterError, TargetError, OutputError (the folder holds results
        of another bundle or question), ProviderError.

    Examples
    --------
    >>> workers = sise_ort.Workers("auto", count=8)
    >>> sise_ort.explain_dataset("strips.sise", "s3://plant/strips", "s3://plant/maps", passes=64, workers=workers)
    """
    from sise_ort.line.cluster import dataset

    return dataset.explain_dataset(
        bundle,
        pictures,
        out,
        target,
        method=method,
        formats=formats,
        workers=workers,
        progress=progress,
        **asked,
    )


def export(source: Any, bundle: str | Path | None = None, **options: Any) -> Manifest:
    """Turn a CNN into a bundle; needs the extra `export`, and `torch` for models from PyTorch.

    Parameters
    ----------
    source : str, Path or torch.nn.Module
        Path of an .onnx file, a torchvision name, "timm:NAME", "package.module:factory", or a module.
    bundle : str, Path or None
        Folder to write; None takes NAME.sise in the working folder.
    **options
        As for `sise_ort.exporter.export_bundle`, such as ``normalize="imagenet", labels="names.txt"``.

    Returns
    -------
    Manifest
        Manifest of the bundle that was written.

    Raises
    ------
    ExportError, ParameterError, OutputError, MissingDependencyError

    Examples
    --------
    >>> sise_ort.export("model.onnx", "model.sise", mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    """
    from sise_ort.exporter import export_bundle

    return export_bundle(source, bundle, **options)


def __getattr__(name: str) -> Any:
    if name == "Explainer":
        from sise_ort.runtime.explainer import Explainer

        return Explainer
    if name == "Checks":
        from sise_ort.runtime.checking import Checks

        return Checks
    if name == "Verdict":
        from sise_ort.verdicts import Verdict

        return Verdict
    if name == "Limits":
        from sise_ort.runtime.limits import Limits

        return Limits
    if name == "Explanation":
        from sise_ort.explanation import Explanation

        return Explanation
    if name == "read_heatmap":
        from sise_ort.heatmap_files import read_heatmap

        return read_heatmap
    if name == "Workers":
        from sise_ort.line.cluster.workers import Workers

        return Workers
    if name in ("Detection", "LikenessTo", "RatherThan", "Region", "Value"):
        from sise_ort import targets

        return getattr(targets, name)
    raise AttributeError(f"module 'sise_ort' has no attribute '{name}'")
