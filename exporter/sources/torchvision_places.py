"""torchvision's segmentation networks and detectors, by name, cut down to what has a gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sise_ort.errors import SourceError, option
from sise_ort.exporter.sources import torch_model
from sise_ort.exporter.sources.source import Source

HEAD_OUTPUTS = ("cls_logits", "bbox_regression", "bbox_ctrness")
KINDS = ("segmentation", "detection")


class Segmentation(torch_model.Module):
    """A segmentation network's scores alone, without those of its auxiliary head."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(x)["out"]


class BeforeSuppression(torch_model.Module):
    """A detector's scores and box regression, without the scaling of pictures in front and the suppression behind."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.backbone, self.head = net.backbone, net.head

    def forward(self, x: Any) -> Any:
        found = self.head(list(self.backbone(x).values()))
        return tuple(found[name] for name in HEAD_OUTPUTS if name in found)


def names(models: Any) -> list[str]:
    """Names of torchvision's segmentation networks and detectors, those that are refused as well."""
    return [name for kind in KINDS for name in models.list_models(module=getattr(models, kind))]


def load_places(
    models: Any, name: str, weights: str | Path, classes: int | None, input_size: tuple[int, int] | None
) -> Source:
    """Build a torchvision segmentation network or one-stage detector.

    Parameters
    ----------
    models : module
        ``torchvision.models``.
    name : str
        One of `names`.
    weights : str or Path
        "DEFAULT", "NONE" (random) or a file with a state dict.
    classes : int, optional
        Number of classes, background included, where it is not that of torchvision's weights.
    input_size : (int, int), optional
        Height and width; None takes 520 × 520 for segmentations, a detector's own fixed size, else 800 × 800.

    Raises
    ------
    SourceError
        The detector has two stages, the weights cannot be had, or they do not fit.
    """
    if "rcnn" in name:
        raise SourceError(
            f"{name} has two stages: the boxes that its first stage chooses depend on the picture, without a gradient. Take a "
            "detector of one stage, such as retinanet_resnet50_fpn, fcos_resnet50_fpn, ssd300_vgg16 or ssdlite320_mobilenet_v3_large"
        )
    entries = list(models.get_model_weights(name))
    entry = models.get_model_weights(name).DEFAULT if str(weights) == "DEFAULT" else None
    labels: tuple[str, ...] = ()
    if entry is not None:
        if classes is not None and classes != len(entry.meta["categories"]):
            raise SourceError(
                f"{option('classes', classes)}: the DEFAULT weights have {len(entry.meta['categories'])} classes; pass "
                f"{option('weights')} a file or NONE"
            )
        net = torch_model.default_weights(models, name, entry)
    else:
        options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        state = {} if str(weights) == "NONE" else torch_model.load_state(Path(weights))
        if any(key.startswith("aux_classifier.") for key in state):
            options["aux_loss"] = True
        net = models.get_model(name, weights=None, weights_backbone=None, **options)
        if state:
            torch_model.fill(net, state, Path(weights), f"; pass {option('classes')} where they have others")
            entry = torch_model.recognise(Path(weights), entries) if classes is None else None
    if entry is not None:
        labels = tuple(entry.meta["categories"])
    origin = {"kind": "torchvision", "name": name, "weights": str(entry) if entry else str(weights)}
    module, size, defaults = _cut(net, entry or models.get_model_weights(name).DEFAULT)
    return torch_model.from_module(
        module, name, input_size or size, channels=3, origin=origin, defaults=defaults, labels=labels
    )


def _cut(net: Any, entry: Any) -> tuple[Any, tuple[int, int], dict[str, Any]]:
    """The part with a gradient, the size of its pictures, and how they are prepared.

    Segmentations, and detectors without a fixed size, keep a picture's proportions: a letterbox in its mean colour.
    """
    detects = hasattr(net, "head")
    source = net.transform if detects else entry.transforms()
    fixed = getattr(source, "fixed_size", None)
    mean, std = (source.image_mean, source.image_std) if detects else (source.mean, source.std)
    side = int(source.min_size[0] if detects else source.resize_size[0])
    defaults = {
        "mean": tuple(255 * value for value in mean),
        "std": tuple(255 * value for value in std),
        "fit": "stretch" if fixed else "letterbox",
    }
    size = (int(fixed[1]), int(fixed[0])) if fixed else (side, side)
    return (BeforeSuppression(net) if detects else Segmentation(net)), size, defaults
