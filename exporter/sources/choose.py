"""Which kind of source the user named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sise_ort.errors import ParameterError, SourceError
from sise_ort.exporter.sources.onnx_file import load_onnx
from sise_ort.exporter.sources.source import Source


def load_source(
    source: Any,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    input_size: tuple[int, int] | None = None,
    output: str | None = None,
    color: str | None = None,
) -> Source:
    """An .onnx file, a torchvision name, ``timm:NAME``, ``package.module:factory``, or a torch.nn.Module.

    Raises
    ------
    SourceError : none of these, or it cannot be loaded.
    ParameterError : an option that this kind of source does not take.
    """
    channels = 1 if color == "gray" else 3
    if not isinstance(source, (str, Path)):
        from sise_ort.exporter.sources import torch_model

        if not isinstance(source, torch_model.Module):
            raise SourceError(
                f"the source is {type(source).__name__}; a path, a name or a torch.nn.Module is needed"
            )
        if input_size is None:
            raise SourceError(
                "a PyTorch module does not tell its picture's size: pass input_size=N or (H, W)"
            )
        _refuse("a module", weights=weights, classes=classes, output=output)
        return torch_model.from_module(source, type(source).__name__, input_size, channels=channels)
    text = str(source)
    path = Path(source)
    if path.suffix == ".onnx" or (path.is_file() and path.suffix not in (".pt", ".pth")):
        _refuse("an .onnx file", weights=weights, classes=classes)
        return load_onnx(path, output)
    if path.suffix in (".pt", ".pth"):
        raise SourceError(
            f"'{text}' holds weights, not a network: name the network and pass --weights {text}, "
            f"as in `sise-ort export resnet50 --weights {text}` or `sise-ort export package.module:factory --weights {text}`"
        )
    if isinstance(source, Path) or "/" in text or path.is_dir():
        raise SourceError(f"there is no model file '{text}'")
    from sise_ort.exporter.sources import torch_model

    _refuse("a model from PyTorch", output=output)
    if text.startswith("timm:"):
        from sise_ort.exporter.sources.timm_model import load_timm

        return load_timm(text.removeprefix("timm:"), weights or "DEFAULT", classes, input_size)
    if ":" in text:
        _refuse("a factory", classes=classes)
        return torch_model.load_factory(text, weights, input_size, channels)
    return torch_model.load_torchvision(text, weights or "DEFAULT", classes, input_size)


def _refuse(kind: str, **options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ParameterError(f"--{given[0]} does not go with {kind}")
