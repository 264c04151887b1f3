"""A model from PyTorch: a torchvision name, a factory with a checkpoint, or a module. The only importer of torch."""

from __future__ import annotations

import contextlib
import copy
import difflib
import hashlib
import importlib
import sys
import tempfile
import urllib.error
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.errors import MissingDependencyError, SourceError, first_line, option
from sise_ort.exporter.sources.cleaning import OPSET
from sise_ort.exporter.sources.inputs import FileInput
from sise_ort.exporter.sources.onnx_file import references_of
from sise_ort.exporter.sources.onnx_proto import refuse_pointer, regular_file
from sise_ort.exporter.sources.source import Source
from sise_ort.exporter.sources.translation import innermost

try:
    import torch
    from torch import nn
    from torch.nn import Module as Module
except ImportError as error:
    what = (
        "is not installed"
        if isinstance(error, ModuleNotFoundError)
        else f"cannot be imported ({first_line(error)})"
    )
    raise MissingDependencyError(
        f"PyTorch {what}, which models from torchvision or PyTorch need: "
        "pip install 'sise-ort[cpu,torch]'; an .onnx file needs only 'sise-ort[cpu,export]'"
    ) from error

_DECLARED: list[Any] = []


def torchvision_package() -> Any:
    """torchvision, also a build for CUDA beside a CPU-only torch (its classifiers need none of its operators)."""
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise MissingDependencyError(
            "torchvision is not installed: pip install 'sise-ort[cpu,torch]'"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)  # the declaration lives as long as this object
    return importlib.import_module("torchvision")


def load_torchvision(
    name: str,
    weights: str | Path = "DEFAULT",
    classes: int | None = None,
    input_size: tuple[int, int] | None = None,
) -> Source:
    """Build a torchvision classifier, segmentation network or one-stage detector.

    Parameters
    ----------
    name : str
        As in ``torchvision.models.list_models()``.
    weights : str or Path
        "DEFAULT" (torchvision's own, from the torch cache or the network), "NONE" (random) or a file with a state dict.
        A file that is one of torchvision's own is recognised by its hash.
    classes : int, optional
        Number of classes, where it is not the 1000 of ImageNet.
    input_size : (int, int), optional
        Height and width; None takes the size of the DEFAULT weights.

    Raises
    ------
    SourceError
        The name is unknown, the weights cannot be had, or they do not fit.
    """
    models = torchvision_package().models
    known = models.list_models(module=models)
    if name not in known:
        from sise_ort.exporter.sources import torchvision_places as places

        if name in places.names(models):
            return places.load_places(models, name, weights, classes, input_size)
        close = difflib.get_close_matches(name, [*known, *places.names(models)], n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise SourceError(
            f"'{name}' is neither a file nor a torchvision model of classes, segmentations or detections{hint}"
        )
    entries = list(models.get_model_weights(name))
    default = models.get_model_weights(name).DEFAULT
    entry = None
    if str(weights) == "DEFAULT":
        if classes is not None and classes != len(default.meta["categories"]):
            raise SourceError(
                f"{option('classes', classes)}: the DEFAULT weights have 1000 classes; pass {option('weights')} a file or NONE"
            )
        entry = default
        net = default_weights(models, name, entry)
    elif str(weights) == "NONE":
        net = _bare(models, name, classes, {})
    else:
        path = Path(weights)
        state = load_state(path)
        entry = recognise(path, entries) if classes is None else None
        if entry is not None:
            net = _official_file(models, name, entry, path)
        else:
            net = _bare(models, name, classes, state)
            fill(
                net,
                state,
                path,
                f"; pass {option('classes')} where the network was trained for another number of classes",
            )
    transforms = (entry or default).transforms()
    crop, resize = transforms.crop_size[0], transforms.resize_size[0]
    size = input_size or (crop, crop)
    scaled = (round(size[0] * resize / crop), round(size[1] * resize / crop))
    defaults = {
        "mean": tuple(255 * m for m in transforms.mean),
        "std": tuple(255 * s for s in transforms.std),
        "fit": "crop",
        "resize": scaled,
    }
    labels = tuple(entry.meta["categories"]) if entry is not None else ()
    origin = {"kind": "torchvision", "name": name, "weights": str(entry) if entry else str(weights)}
    return from_module(net, name, size, channels=3, origin=origin, defaults=defaults, labels=labels)


def load_factory(
    spec: str, weights: str | Path | None, input_size: tuple[int, int] | None, channels: int
) -> Source:
    """Call ``package.module:factory`` without arguments for a module.

    Parameters
    ----------
    spec : str
        "package.module:factory".
    weights : str or Path, optional
        File with a state dict; None and "NONE" take the factory's weights.
    input_size : (int, int), optional
        Height and width; needed.
    channels : int
        Of the input: 1 or 3.

    Raises
    ------
    SourceError
        It cannot be imported or fails, returns no module, or the weights do not fit.
    """
    module_name, _, factory_name = spec.partition(":")
    sys.path.insert(0, "")
    try:
        net = getattr(importlib.import_module(module_name), factory_name)()
    except (Exception, SystemExit) as error:
        raise SourceError(
            f"'{spec}' cannot be called: {type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        sys.path.remove("")
    if not isinstance(net, nn.Module):
        raise SourceError(f"'{spec}' returns {type(net).__name__}, not a torch.nn.Module")
    if input_size is None:
        raise SourceError(
            f"a PyTorch module does not tell its picture's size: pass {option('input_size')} N, or height x width"
        )
    if weights is not None and str(weights) == "DEFAULT":
        raise SourceError(
            f"{option('weights', 'DEFAULT')} is for torchvision and timm names; pass a file, or nothing to take the factory's"
        )
    if weights is not None and str(weights) != "NONE":
        fill(net, load_state(Path(weights)), Path(weights))
    origin = {"kind": "torch", "factory": spec, "weights": str(weights or "")}
    return from_module(net, factory_name, input_size, channels=channels, origin=origin)


def from_module(
    net: nn.Module,
    name: str,
    size: tuple[int, int],
    *,
    channels: int = 3,
    origin: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
    labels: tuple[str, ...] = (),
) -> Source:
    """Trace a module by torch.onnx with a dynamic batch.

    Parameters
    ----------
    net : torch.nn.Module
    name : str
        For the default bundle name.
    size : (int, int)
        Height and width.
    channels : int
    origin : dict, optional
        Facts for the manifest.
    defaults : dict, optional
        Export options that the source knows.
    labels : tuple of str
        Class names.

    Raises
    ------
    SourceError
        torch cannot export it.
    """
    try:
        net = net.eval().float().cpu()
        example = torch.zeros(2, channels, *size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations are not the user's
            program = torch.onnx.export(
                net,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                input_names=["x"],
                verbose=False,
            )
    except Exception as error:
        cause = innermost(error)
        raise SourceError(
            f"torch cannot export '{name}' to ONNX: {type(cause).__name__}: {first_line(cause)}"
        ) from error
    assert program is not None
    model = program.model

    def reference(inputs: NDArray[np.float32], file_input: FileInput) -> NDArray[Any]:
        with torch.no_grad():
            output = net(torch.from_numpy(inputs))
        if isinstance(output, dict):
            output = next(iter(output.values()))
        elif isinstance(output, (tuple, list)):
            output = output[0]
        return np.asarray(output.numpy())

    facts = {**(origin or {"kind": "torch", "module": type(net).__name__}), "torch": torch.__version__}
    return Source(
        name,
        model,
        reference,
        facts,
        defaults or {},
        labels,
        size,
        f"the network '{name}'",
        references_of(model),
    )


def own_copy(net: nn.Module) -> nn.Module:
    """A module that can be set to evaluation in float32 on the CPU without changing the caller's.

    Raises
    ------
    SourceError
        It would have to be copied, and cannot be.
    """
    tensors = [*net.parameters(), *net.buffers()]
    ready = all(
        t.device.type == "cpu" and (t.dtype == torch.float32 or not t.is_floating_point()) for t in tensors
    )
    if ready and not any(module.training for module in net.modules()):
        return net
    try:
        return copy.deepcopy(net)
    except Exception as error:  # tensors inside a graph, locks, open files…
        raise SourceError(
            f"the module cannot be copied ({first_line(error)}); pass it as net.eval().float().cpu()"
        ) from error


def load_state(path: Path) -> dict[str, Any]:
    """Read a state dict from a .safetensors file, or from a checkpoint with ``weights_only=True``.

    A dict under "state_dict", "model" or "model_state_dict" is unwrapped.

    Raises
    ------
    SourceError
        There is no such file, or it holds something else.
    """
    if regular_file(path, "file of weights") is None:
        raise SourceError(f"there is no file of weights '{path}'")
    with path.open("rb") as file:
        refuse_pointer(path, file.read(100))
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zipfile's and torch's are of many kinds
        raise SourceError(
            f"'{path}' cannot be loaded as weights alone ({first_line(error)}). A file that holds a "
            "whole pickled model runs code when it is opened: save net.state_dict() instead"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise SourceError(f"'{path}' holds no state dict")
    if all(key.startswith("module.") for key in state):  # saved from DataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        loaded = importlib.import_module("safetensors.torch").load_file(path)
    except ImportError as error:
        raise MissingDependencyError(
            f"'{path}' needs the package safetensors: pip install safetensors"
        ) from error
    except Exception as error:
        raise SourceError(f"'{path}' cannot be read as safetensors: {first_line(error)}") from error
    return dict(loaded)


def fill(net: nn.Module, state: dict[str, Any], path: Path, hint: str = "") -> None:
    """Load a state dict strictly."""
    try:
        net.load_state_dict(state)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:4]) or first_line(error)
        raise SourceError(f"the weights in '{path}' do not fit the network: {details}{hint}") from error


def _bare(models: Any, name: str, classes: int | None, state: dict[str, Any]) -> nn.Module:
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": any(k.lower().startswith("aux") for k in state)}
    net: nn.Module = models.get_model(name, weights=None, **options)
    return net


def default_weights(models: Any, name: str, entry: Any) -> nn.Module:
    """The network with torchvision's own weights, from the torch cache or the network."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[-1]
    try:
        net: nn.Module = models.get_model(name, weights=entry)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise SourceError(
            f"the DEFAULT weights of {name} cannot be loaded ({reason}). Put a copy at '{cached}', "
            f"pass {option('weights')} a file, or take random ones with {option('weights', 'NONE')}. They are published at {entry.url}"
        ) from error
    return net


def recognise(path: Path, entries: list[Any]) -> Any | None:
    """torchvision's entry whose published hash is the file's (the first eight digits stand in the URL)."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for entry in entries:
        stem = entry.url.rsplit("/", 1)[-1].removesuffix(".pth")
        if "-" in stem and digest.startswith(stem.rsplit("-", 1)[-1]):
            return entry
    return None


def _official_file(models: Any, name: str, entry: Any, path: Path) -> nn.Module:
    """Build the model as torchvision does for these weights, reading them from `path`."""
    with _torch_cache(path, entry.url.rsplit("/", 1)[-1]):
        return default_weights(models, name, entry)


@contextlib.contextmanager
def _torch_cache(path: Path, name: str) -> Iterator[None]:
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        (checkpoints / name).symlink_to(path.resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)
