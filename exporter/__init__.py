"""Anything -> bundle. Needs onnx and onnx_ir; torch only for models from PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sise_ort.errors import MissingDependencyError

if TYPE_CHECKING:
    from sise_ort.exporter.export import export_bundle as export_bundle
    from sise_ort.exporter.export import list_layers as list_layers
    from sise_ort.exporter.inspection import Inspection as Inspection
    from sise_ort.exporter.inspection import inspect as inspect

__all__ = ["Inspection", "export_bundle", "inspect", "list_layers"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sise_ort.exporter' has no attribute '{name}'")
    try:
        import onnx  # noqa: F401
        import onnx_ir  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"exporting needs the package '{error.name}': pip install 'sise-ort[cpu,export]' for .onnx files, "
            "'sise-ort[cpu,torch]' for models from PyTorch"
        ) from error
    from sise_ort.exporter import export, inspection

    return getattr(inspection if hasattr(inspection, name) else export, name)
