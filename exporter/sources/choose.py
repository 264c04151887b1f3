"""The kind of source that the user named: a file, a name or a module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from sise_ort.errors import ParameterError, SourceError, option
from sise_ort.exporter.sources.cutting import unknown_tensor
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
        The output, or any other tensor of the file or the traced network, that is explained.
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
    path = None if not isinstance(source, (str, Path)) else _file(source)
    if path is not None:
        _refuse("an .onnx file", weights=weights, classes=classes)
        return load_onnx(path, output, inputs)
    if isinstance(source, (str, Path)):
        _refuse("a model from PyTorch", inputs=inputs or None)
        traced = _named(str(source), weights, classes, input_size, channels)
    else:
        _refuse("a module", inputs=inputs or None)
        traced = _module(source, weights, classes, input_size, channels)
    return traced if output is None else _take_output(traced, output)


def _take_output(source: Source, name: str) -> Source:
    """A traced network with one tensor as its output, changed in place.

    It is compared with the traced graph's own tensor, unless that is the first output, which the framework computes.

    Raises
    ------
    SourceError
        There is no such tensor; names that are close are proposed.
    """
    model = source.model
    assert isinstance(model, ir.Model) and source.reference_at is not None
    origin = {**source.origin, "output": name}
    outputs = [value.name for value in model.graph.outputs]
    if name not in outputs:
        found = [value for node in model.graph for value in node.outputs if value.name == name]
        if not found or not name:
            raise SourceError(unknown_tensor(ir.to_proto(model), name))
        model.graph.outputs.append(found[0])
    first = outputs[:1] == [name]
    return replace(source, origin=origin, reference=source.reference if first else source.reference_at(name))


def _file(source: str | Path) -> Path | None:
    """The .onnx file that is named; None where the source is a name."""
    text, path = str(source), Path(source)
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
        return path
    if not is_name:
        raise SourceError(f"there is no model file '{text}'")
    return None


def _module(
    net: Any,
    weights: str | Path | None,
    classes: int | None,
    input_size: tuple[int, int] | None,
    channels: int,
) -> Source:
    from sise_ort.exporter.sources import torch_model

    if not isinstance(net, torch_model.Module):
        raise SourceError(
            f"the source is {type(net).__name__}; a path, a name or a torch.nn.Module is needed"
        )
    if input_size is None:
        raise SourceError(
            f"a PyTorch module does not tell its picture's size: pass {option('input_size')} N, or height and width"
        )
    _refuse("a module", weights=weights, classes=classes)
    own = torch_model.own_copy(net)
    return torch_model.from_module(own, type(net).__name__, input_size, channels=channels)


def _named(
    text: str,
    weights: str | Path | None,
    classes: int | None,
    input_size: tuple[int, int] | None,
    channels: int,
) -> Source:
    from sise_ort.exporter.sources import torch_model

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
