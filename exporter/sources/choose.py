"""The kind of source that the user named: a file, a name or a module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sise_ort.errors import ParameterError, SourceError, option
from sise_ort.exporter.sources.onnx_file import load_onnx
from sise_ort.exporter.sources.onnx_proto import regular_file
from sise_ort.exporter.sources.source import Source


def load_source(
    source: Any,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    input_size: tuple[int, int] | None = None,
    output: str | None = None,
    color: str | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Source:
    """Load a model from whatever the user named.

    Parameters
    ----------
    source : str, Path, torch.nn.Module or Source
        An .onnx file, a torchvision name, ``timm:NAME``, ``package.module:factory``, or a module. What is loaded already
        is returned as it is.
    weights : str or Path, optional
        For PyTorch: "DEFAULT", "NONE" or a file with a state dict.
    classes : int, optional
        For torchvision and timm names: number of classes.
    input_size : (int, int), optional
        Height and width.
    output : str, optional
        For .onnx files: the output, or any other tensor, that is explained.
    color : str, optional
        "gray" for PyTorch networks with one input channel.
    inputs : mapping, optional
        For .onnx files: constants for inputs other than the picture.

    Raises
    ------
    SourceError
        It is none of these, or cannot be loaded.
    ParameterError
        An option does not go with this kind of source.
    """
    if isinstance(source, Source):
        return source
    channels = 1 if color == "gray" else 3
    if not isinstance(source, (str, Path)):
        from sise_ort.exporter.sources import torch_model

        if not isinstance(source, torch_model.Module):
            raise SourceError(
                f"the source is {type(source).__name__}; a path, a name or a torch.nn.Module is needed"
            )
        if input_size is None:
            raise SourceError(
                f"a PyTorch module does not tell its picture's size: pass {option('input_size')} N, or height and width"
            )
        _refuse("a module", weights=weights, classes=classes, output=output, inputs=inputs or None)
        source_net = torch_model.own_copy(source)
        return torch_model.from_module(source_net, type(source).__name__, input_size, channels=channels)
    text = str(source)
    path = Path(source)
    is_name = isinstance(source, str) and re.fullmatch(r"[\w.:-]{1,200}", text) and path.suffix != ".onnx"
    is_file = (  # beside a folder of its name, resnet50 is still a name
        ":" not in text and path.is_file() if is_name else regular_file(path, "model file") is not None
    )
    if path.suffix in (".pt", ".pth", ".safetensors"):
        raise SourceError(
            f"'{text}' holds weights, not a network: name the network, such as resnet50 or package.module:factory, and pass "
            f"{option('weights', text)}"
        )
    if path.suffix == ".onnx" or is_file:
        _refuse("an .onnx file", weights=weights, classes=classes)
        return load_onnx(path, output, inputs)
    if not is_name:
        raise SourceError(f"there is no model file '{text}'")
    from sise_ort.exporter.sources import torch_model

    _refuse("a model from PyTorch", output=output, inputs=inputs or None)
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
        raise ParameterError(f"{option(given[0])} does not go with {kind}")
