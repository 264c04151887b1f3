"""torchvision's segmentation networks and detectors by name: the module that is exported, its size and its preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sise_ort
from sise_ort.errors import SourceError
from sise_ort.exporter.sources import torch_model
from sise_ort.exporter.sources.torch_model import load_torchvision, torchvision_package


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, tuple[int, int], dict[str, Any]]]:
    """Modules in the place of exported programs, with their sizes and further facts."""
    found: list[tuple[Any, tuple[int, int], dict[str, Any]]] = []
    monkeypatch.setattr(
        torch_model, "from_module", lambda net, name, size, **facts: found.append((net.eval(), size, facts))
    )
    return found


def network_input(picture: torch.Tensor, facts: dict[str, Any]) -> torch.Tensor:
    mean, std = (torch.tensor(facts["defaults"][name])[:, None, None] / 255 for name in ("mean", "std"))
    return ((picture - mean) / std)[None]


@pytest.mark.parametrize(
    "name",
    ["fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"],
)
def test_segmentations_give_their_scores(modules: Any, name: str, tmp_path: Path) -> None:
    models = torchvision_package().models
    torch.manual_seed(0)
    options = {} if name.startswith("lraspp") else {"aux_loss": True}
    net = models.get_model(name, weights=None, weights_backbone=None, num_classes=5, **options).eval()
    torch.save(net.state_dict(), tmp_path / "five.pth")
    load_torchvision(name, tmp_path / "five.pth", classes=5)
    ((module, size, facts),) = modules
    assert size == (520, 520) and facts["defaults"]["fit"] == "letterbox" and facts["labels"] == ()
    assert facts["defaults"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(module(x), net(x)["out"])
        assert module(x).shape == (1, 5, 64, 64)


@pytest.mark.parametrize(
    ("name", "size", "fit"),
    [("ssdlite320_mobilenet_v3_large", (320, 320), "stretch"), ("ssd300_vgg16", (300, 300), "stretch"),
     ("retinanet_resnet50_fpn", (800, 800), "letterbox"), ("fcos_resnet50_fpn", (800, 800), "letterbox")],
)  # fmt: skip
def test_detectors_give_what_their_own_program_makes_boxes_of(
    modules: Any, name: str, size: tuple[int, int], fit: str, tmp_path: Path
) -> None:
    """The detector runs on a picture of values from 0 to 1, which it normalises itself; a hook looks at its head."""
    models = torchvision_package().models
    torch.manual_seed(0)
    net = models.get_model(name, weights=None, weights_backbone=None, num_classes=5).eval()
    torch.save(net.state_dict(), tmp_path / "five.pth")
    load_torchvision(name, tmp_path / "five.pth", classes=5)
    ((module, found, facts),) = modules
    assert found == size and facts["defaults"]["fit"] == fit
    if fit == "letterbox":  # a size of its own keeps the picture as it is
        net.transform.min_size, net.transform.max_size, size = (96,), 96, (96, 96)
    heads: list[dict[str, torch.Tensor]] = []
    net.head.register_forward_hook(lambda _, inputs, output: heads.append(output))
    picture = torch.rand(3, *size)
    with torch.no_grad():
        try:
            net([picture])
        except (RuntimeError, NotImplementedError) as error:  # no suppression without torchvision's operators
            assert "nms" in str(error) or "custom C++ ops" in str(error)
        outputs = module(network_input(picture, facts))
    (head,) = heads
    wanted = [head[key] for key in ("cls_logits", "bbox_regression", "bbox_ctrness") if key in head]
    assert len(outputs) == len(wanted) == (3 if name.startswith("fcos") else 2)
    for ours, theirs in zip(outputs, wanted, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision_package()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(
        SourceError, match=r"fasterrcnn_resnet50_fpn has two stages.* such as retinanet_resnet50_fpn"
    ):
        sise_ort.export("fasterrcnn_resnet50_fpn")
    with pytest.raises(SourceError, match="did you mean fcn_resnet50"):
        sise_ort.export("fcn_resnet5")
    with pytest.raises(SourceError, match=r"classes=5: the DEFAULT weights have 21 classes"):
        sise_ort.export("fcn_resnet50", classes=5)
    with pytest.raises(
        SourceError, match=r"the DEFAULT weights of lraspp_mobilenet_v3_large cannot be loaded.*weights="
    ):
        sise_ort.export("lraspp_mobilenet_v3_large")
    net = torchvision_package().models.get_model(
        "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None
    )
    torch.save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(SourceError, match=r"do not fit the network.*pass weights=|classes="):
        sise_ort.export("lraspp_mobilenet_v3_large", weights=tmp_path / "w.pth", classes=5)
    assert not list(tmp_path.glob("*.sise"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "task"),
    [("lraspp_mobilenet_v3_large", 64, "segmentation"), ("ssdlite320_mobilenet_v3_large", 96, "detection")],
)
def test_names_are_exported(tmp_path: Path, name: str, size: int, task: str) -> None:
    torch.manual_seed(0)
    manifest = sise_ort.export(name, tmp_path / "b.sise", weights="NONE", input_size=size)
    assert manifest.task.name == task and manifest.head.kind == "softmax"
    assert manifest.origin["name"] == name and len(manifest.layers) >= 4
