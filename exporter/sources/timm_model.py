"""A model from timm (PyTorch Image Models): ``timm:NAME``."""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sise_ort.errors import MissingDependencyError, SourceError, first_line, option
from sise_ort.exporter.sources import torch_model
from sise_ort.exporter.sources.source import Source
from sise_ort.exporter.sources.translation import translated


def load_timm(
    name: str,
    weights: str | Path = "DEFAULT",
    classes: int | None = None,
    input_size: tuple[int, int] | None = None,
) -> Source:
    """Build a timm classifier with the picture size, normalisation and crop of its pretrained configuration.

    Parameters
    ----------
    name : str
        As in ``timm.list_models()``, also with a tag: "resnet50d.ra2_in1k".
    weights : str or Path
        "DEFAULT" (timm's own, from the Hugging Face cache or the network), "NONE" (random) or a file with a state dict
        (.pth or .safetensors).
    classes : int, optional
        Number of classes, where it is not that of the configuration.
    input_size : (int, int), optional
        Height and width; None takes the configuration's.

    Raises
    ------
    MissingDependencyError
        timm is not installed.
    SourceError
        The name is unknown, the weights cannot be had, or they do not fit.
    """
    timm = _timm()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(f'timm:{c}' for c in close)}?" if close else ""
        raise SourceError(f"timm has no model '{name}'{hint}")
    text = str(weights)
    if text == "DEFAULT" and classes is not None:
        raise SourceError(
            f"{option('classes', classes)}: the DEFAULT weights have their own classes; pass {option('weights')} a file or NONE"
        )
    options: dict[str, Any] = {"exportable": True, **({} if classes is None else {"num_classes": classes})}
    if text == "DEFAULT":
        net = _pretrained(timm, name, options)
    else:
        with translated(f"timm cannot build '{name}'", SourceError):
            net = timm.create_model(name, pretrained=False, **options)
        if text != "NONE":
            path = Path(weights)
            hint = f"; pass {option('classes')} where the network was trained for another number of classes"
            torch_model.fill(net, torch_model.load_state(path), path, hint)
    facts = timm.data.resolve_model_data_config(net)
    channels, *own_size = facts["input_size"]
    size = input_size or (own_size[0], own_size[1])
    fit, resize, notes = _placement(facts, size)
    defaults = {
        "mean": tuple(255 * m for m in facts["mean"]),
        "std": tuple(255 * s for s in facts["std"]),
        "fit": fit,
        "resize": resize,
    }
    labels = _labels(timm, net) if text == "DEFAULT" else ()
    origin = {"kind": "timm", "name": name, "weights": text, "timm": timm.__version__}
    source = torch_model.from_module(
        net, name, size, channels=channels, origin=origin, defaults=defaults, labels=labels
    )
    return replace(source, notes=notes)


def _placement(
    facts: Mapping[str, Any], size: tuple[int, int]
) -> tuple[str, tuple[int, int], tuple[str, ...]]:
    """How timm brings pictures to network size, as `fit` and `resize`, and what a user should know.

    timm's "center" is a crop, its "squash" a stretching, and its "border" a letterbox filled with the mean colour; all
    three to the size divided by `crop_pct`, of which the middle is cut out.
    """
    scaled = tuple(math.floor(length / facts["crop_pct"]) for length in size)
    mode = facts.get("crop_mode") or "center"
    if mode not in ("squash", "border"):
        return "crop", (scaled[0], scaled[1]), ()
    fit, words = ("stretch", "stretches") if mode == "squash" else ("letterbox", "fits")
    if scaled == size:
        return fit, size, ()
    note = (
        f"timm {words} pictures for this network to {scaled[0]} × {scaled[1]} and cuts out the middle; this export brings "
        f"the whole picture to {size[0]} × {size[1]} by {fit}"
    )
    return fit, size, (note,)


def _timm() -> Any:
    torch_model.torchvision_package()  # timm imports it: make sure that it can be
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise MissingDependencyError("timm is not installed: pip install 'sise-ort[cpu,timm]'") from error


def _pretrained(timm: Any, name: str, options: dict[str, Any]) -> Any:
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise SourceError(
            f"timm has no weights for '{name}'; pass {option('weights')} a file, or NONE for random ones"
        )
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # Hugging Face's and torch's errors are of many kinds
        place = (
            f"https://huggingface.co/{config.hf_hub_id}"
            if config.hf_hub_id
            else config.url or "its authors' page"
        )
        raise SourceError(
            f"the DEFAULT weights of timm:{name} cannot be loaded ({first_line(error)}). They are published at "
            f"{place}: pass a copy with {option('weights')}, or take random ones with {option('weights', 'NONE')}"
        ) from error


def _labels(timm: Any, net: Any) -> tuple[str, ...]:
    """The names of the ImageNet subset that the weights were trained on, where timm knows it."""
    subset = timm.data.infer_imagenet_subset(net)
    if not subset:
        return ()
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(info.num_classes()))
