"""Everything that a model can come from, and what is no model at all."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exporting import OPTIONS, exported, own_scores
from gradcheck import relative
from rounding import Float64, Rounding
from tiny import tiny_model
from torch import nn

import sise_ort
from sise_ort.bundle import InputSpec
from sise_ort.errors import ExportError, SourceError
from sise_ort.exporter.options import Input, Outputs
from sise_ort.exporter.sources import torch_model
from sise_ort.exporter.sources.choose import load_source
from sise_ort.exporter.sources.source import Source
from sise_ort.exporter.sources.timm_model import _placement, load_timm
from sise_ort.fitting import fit_frame
from sise_ort.formulas.seed import NO_OTHER


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 20, 21, 22, 23, 24])
def test_every_opset(tmp_path: Path, frame: Any, opset: int) -> None:
    model = tiny_model(opset=opset, tail="y = Softmax<axis=1>(scores)")
    model.ir_version = 3 if opset < 9 else 8
    if opset < 9:  # in those days weights were inputs too
        for tensor in model.graph.initializer:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    explainer = exported(model, tmp_path)
    assert explainer.manifest.head.words == "softmax"
    result = explainer.explain(frame)
    probabilities = np.exp(result.scores) / np.exp(result.scores).sum()
    np.testing.assert_allclose(probabilities, own_scores(model, frame), atol=1e-5)
    assert len(result.mask_counts) == 3


@pytest.mark.parametrize("opset", [0, 25])
def test_opsets_out_of_range(tmp_path: Path, opset: int) -> None:
    model = tiny_model()
    model.opset_import[0].version = opset
    with pytest.raises(SourceError, match=rf"opset {opset}; 1 to 24 can be read"):
        exported(model, tmp_path)


def test_fixed_batch_becomes_dynamic(tmp_path: Path, frame: Any) -> None:
    model = tiny_model(batch=1)
    flatten = next(n for n in model.graph.node if n.op_type == "Flatten")
    flatten.CopyFrom(onnx.helper.make_node("Reshape", ["g", "flat"], ["f"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 16]), "flat"))
    explainer = exported(model, tmp_path)
    np.testing.assert_allclose(explainer.explain(frame).scores, own_scores(model, frame), atol=1e-4)


def test_half_precision(tmp_path: Path, frame: Any) -> None:
    model = tiny_model(opset=13)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    explainer = exported(model, tmp_path)
    np.testing.assert_allclose(explainer.explain(frame).scores, own_scores(model, frame), atol=0.05)


def test_external_weights(tmp_path: Path, frame: Any) -> None:
    model = tiny_model()
    expected = own_scores(model, frame)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size > 10_000
    sise_ort.export(tmp_path / "m.onnx", tmp_path / "m.sise", **OPTIONS)
    np.testing.assert_allclose(sise_ort.load(tmp_path / "m.sise").explain(frame).scores, expected, atol=1e-4)
    (tmp_path / "m.data").unlink()
    with pytest.raises(SourceError, match="external weights"):
        sise_ort.export(tmp_path / "m.onnx", tmp_path / "m2.sise", **OPTIONS)


def test_channels_last_input(tmp_path: Path, frame: Any) -> None:
    model = tiny_model()
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    for d in (0, 32, 48, 3):
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = d
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", ["picture"], ["first"], perm=[0, 3, 1, 2]))
    model.graph.node[1].input[0] = "first"
    explainer = exported(model, tmp_path)
    np.testing.assert_allclose(explainer.explain(frame).scores, own_scores(tiny_model(), frame), atol=1e-4)


def test_open_size_needs_input_size(tmp_path: Path) -> None:
    model = tiny_model(size=("h", "w"))
    with pytest.raises(SourceError, match="pass input_size="):
        exported(model, tmp_path)
    assert exported(model, tmp_path, input_size="40x24").manifest.input.width == 24
    with pytest.raises(SourceError, match="asks for height 64, but the file fixes it to 32"):
        sise_ort.export(_saved(tiny_model(), tmp_path), tmp_path / "x.sise", input_size=64, **OPTIONS)


def test_several_outputs(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.output.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["n", 16]))
    with pytest.raises(SourceError, match="outputs scores, f: name the class scores with output="):
        exported(model, tmp_path)
    assert exported(model, tmp_path, output="scores").manifest.head.classes == 4


def _saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def small_net(classes: int = 5) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
    )  # fmt: skip


def test_factory_with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from test_sources import small_net\ndef build():\n    return small_net()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)  # where the factory finds `small_net`
    net = small_net()
    for parameter in net.parameters():
        parameter.data.mul_(2)
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "best.pth")
    sise_ort.export("my_nets:build", weights="best.pth", input_size=(32, 40), normalize="none")
    explainer = sise_ort.load("build.sise")
    frame = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = net.eval()(torch.tensor(frame).float().permute(2, 0, 1)[None])[0].numpy()
    np.testing.assert_allclose(explainer.explain(frame).scores, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(SourceError, match="pass input_size="):
        sise_ort.export("my_nets:build", "other.sise", normalize="none")
    with pytest.raises(SourceError, match="'my_nets:nothing' cannot be called: AttributeError"):
        sise_ort.export("my_nets:nothing", "other.sise", input_size=32, normalize="none")


class Trap:
    def __reduce__(self) -> Any:
        return (print, ("this code ran",))


def test_the_callers_module_stays_as_it_is(tmp_path: Path) -> None:
    net = small_net().double().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sise_ort.export(net, tmp_path / "t.sise", input_size=32, normalize="tf")
    assert all(module.training for module in net.modules())
    assert {t.dtype for t in net.parameters()} == {torch.float64}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_folder_of_the_models_name_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    source = load_source("resnet18", weights="NONE", classes=np.int64(3), input_size=(64, 64))
    assert source.name == "resnet18"
    assert Outputs(classes=np.int64(3)).classes == 3  # type: ignore[arg-type]


def test_checkpoints_never_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(SourceError, match="weights alone"):
        sise_ort.export("resnet18", tmp_path / "r.sise", weights=tmp_path / "trap.pth")
    assert "this code ran" not in capsys.readouterr().out


def score_limit(bundle: Path, frame: Any) -> float:
    """The largest relative error of a bundle's class scores that float32 explains."""
    feeds = {
        "image": frame[None],
        "class": np.array([0]),
        "other": np.array([NO_OTHER]),
        "contrast": np.float32(0),
    }
    limit = Rounding(Float64(bundle / "extract.onnx"), feeds).limit("scores")
    assert limit < 1e-2
    return limit


def test_default_weights_from_the_torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = torch_model.torchvision_package().models
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    with pytest.raises(SourceError, match=r"pass weights= a file.*") as error:
        sise_ort.export("squeezenet1_1")
    assert str(cache) in str(error.value)
    assert not (tmp_path / "squeezenet1_1.sise").exists()

    torch.manual_seed(4)
    net = models.squeezenet1_1(weights=None).eval()
    cache.mkdir(parents=True, exist_ok=True)
    name = models.SqueezeNet1_1_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    torch.save(net.state_dict(), cache / name)
    manifest = sise_ort.export("squeezenet1_1")
    assert manifest.labels[281] == "tabby"
    assert manifest.fit.mode == "crop" and manifest.fit.resize == (256, 256)
    explainer = sise_ort.load("squeezenet1_1.sise")
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    x = (torch.tensor(frame) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        expected = net.double()(x.permute(2, 0, 1)[None].double())[0].numpy()
    scores = explainer.explain(frame, mu=0.9).scores
    assert relative(scores, expected) < score_limit(Path("squeezenet1_1.sise"), frame)


def test_torchvision_weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = torch_model.torchvision_package().models
    net = models.squeezenet1_1(weights=None, num_classes=7)
    torch.save(net.state_dict(), tmp_path / "seven.pth")
    with pytest.raises(SourceError, match=r"do not fit the network.*classes="):
        sise_ort.export("squeezenet1_1", tmp_path / "s.sise", weights=tmp_path / "seven.pth")
    manifest = sise_ort.export(
        "squeezenet1_1", tmp_path / "s.sise", weights=tmp_path / "seven.pth", classes=7
    )
    assert manifest.head.classes == 7 and manifest.labels == ()

    net = models.squeezenet1_1(weights=None)  # a file that is torchvision's own, by its hash
    path = tmp_path / "renamed.pth"
    torch.save(net.state_dict(), path)
    entry = models.SqueezeNet1_1_Weights.DEFAULT
    monkeypatch.setattr(torch_model, "recognise", lambda path, entries: entry)
    monkeypatch.setattr(torch.hub, "_get_torch_home", lambda: str(tmp_path / "empty"))
    assert sise_ort.export("squeezenet1_1", tmp_path / "o.sise", weights=path).labels[0] == "tench"
    assert not (tmp_path / "empty").exists()


def test_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size, normalisation and crop are those of timm's configuration; weights come from .pth and .safetensors."""
    torch_model.torchvision_package()
    timm: Any = importlib.import_module("timm")
    torch.manual_seed(3)
    net = timm.create_model("lcnet_035", num_classes=6).eval()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "six.pth")
    importlib.import_module("safetensors.torch").save_file(net.state_dict(), tmp_path / "six.safetensors")
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    x = (torch.tensor(frame) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        expected = net.double()(x.permute(2, 0, 1)[None].double())[0].numpy()
    for name in ("six.pth", "six.safetensors"):
        bundle = tmp_path / f"{name}.sise"
        manifest = sise_ort.export("timm:lcnet_035", bundle, weights=tmp_path / name, classes=6)
        assert manifest.fit.mode == "crop" and manifest.fit.resize == (256, 256)  # crop_pct 0.875
        assert manifest.origin["kind"] == "timm" and manifest.labels == ()
        result = sise_ort.load(bundle, provider="cpu").explain(frame, mu=0.9)
        assert relative(result.scores, expected) < score_limit(bundle, frame)
    with pytest.raises(SourceError, match=r"do not fit the network.*classes="):
        sise_ort.export("timm:lcnet_035", tmp_path / "o.sise", weights=tmp_path / "six.pth")
    with pytest.raises(SourceError, match="timm has no model 'lcnet_5'; did you mean timm:lcnet_"):
        sise_ort.export("timm:lcnet_5")
    with pytest.raises(SourceError, match="classes=6: the DEFAULT weights have their own classes"):
        sise_ort.export("timm:lcnet_050", classes=6)
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(SourceError, match=r"bad\.safetensors' cannot be read as safetensors"):
        sise_ort.export("timm:lcnet_035", weights=tmp_path / "bad.safetensors")

    def offline(*arguments: Any, **options: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        SourceError,
        match=r"timm:lcnet_050 cannot be loaded \(no route to host\).*https://huggingface.co/timm/lcnet_050.*weights=",
    ):
        sise_ort.export("timm:lcnet_050")


def test_timm_pictures_are_scaled_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_model.torchvision_package()
    timm: Any = importlib.import_module("timm")
    made: Any = lambda *_, **options: Source("resnet18", None, None, {}, options["defaults"])  # noqa: E731
    monkeypatch.setattr(torch_model, "from_module", made)
    defaults = load_timm("resnet18", "NONE").defaults
    config = timm.data.resolve_data_config(model=timm.create_model("resnet18"))
    assert config["crop_pct"] == 0.95
    size = timm.data.create_transform(**config).transforms[0].size
    assert defaults["resize"] == (size, size)  # 235 of 235.8


@pytest.mark.parametrize(
    ("mode", "share", "fit", "scaled"),
    [("center", 0.9, "crop", 248), ("squash", 1.0, "stretch", 224), ("squash", 0.9, "stretch", 248),
     ("border", 1.0, "letterbox", 224), ("border", 0.9, "letterbox", 248)],
)  # fmt: skip
def test_timm_pictures_are_placed_as_timm_places_them(mode: str, share: float, fit: str, scaled: int) -> None:
    """Where timm cuts out the middle of what it has stretched or put on a border, a note says that we do not."""
    found, resize, notes = _placement({"crop_pct": share, "crop_mode": mode}, (224, 224))
    assert found == fit and resize == ((scaled, scaled) if mode == "center" else (224, 224))
    assert bool(notes) == (mode != "center" and share < 1) and all(f"{scaled} × {scaled}" in n for n in notes)


def test_timms_border_is_a_letterbox(rng: np.random.Generator) -> None:
    """A wide picture of one colour: what timm's transform gives and what the bundle's fit gives, pixel by pixel."""
    torch_model.torchvision_package()
    timm: Any = importlib.import_module("timm")
    image: Any = pytest.importorskip("PIL.Image")
    mean = (0.48, 0.45, 0.4)
    transform = timm.data.create_transform(
        (3, 64, 64), crop_pct=1.0, crop_mode="border", mean=mean, std=(1, 1, 1), interpolation="bilinear"
    )
    frame = np.full((40, 80, 3), rng.integers(0, 256, 3), np.uint8)
    expected = transform(image.fromarray(frame)).numpy().transpose(1, 2, 0) + mean
    fit, resize, _ = _placement({"crop_pct": 1.0, "crop_mode": "border"}, (64, 64))
    spec = InputSpec(64, 64, 3, "uint8", None)
    facts = Input(mean=tuple(255 * m for m in mean), std=(1, 1, 1)).preprocessing(3, {})
    placed, _ = fit_frame(frame, spec, Input().placement(spec, facts, {"fit": fit, "resize": resize}))
    np.testing.assert_allclose(placed / 255, expected, atol=1e-6)


def test_timm_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(sise_ort.MissingDependencyError, match=r"pip install 'sise-ort\[cpu,timm\]'"):
        sise_ort.export("timm:resnet18d")


def test_names_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="did you mean resnet50"):
        sise_ort.export("resnet500")
    with pytest.raises(SourceError, match="there is no model file"):
        sise_ort.export(tmp_path / "none.onnx")
    with pytest.raises(SourceError, match="holds weights, not a network"):
        sise_ort.export("best.pth")


# Files that are wrong -------------------------------------------------------------------------------


def test_broken_files(tmp_path: Path) -> None:
    whole = tiny_model().SerializeToString()
    for content in (b"", b"hello, this is text", whole[: len(whole) // 2]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(SourceError, match=r"'.*bad\.onnx' (is not an ONNX model|holds no graph)"):
            sise_ort.export(tmp_path / "bad.onnx", tmp_path / "bad.sise", **OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.onnx"]


def test_models_that_are_no_image_classifiers(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 20]> g (float[n,{0}] x) => (float[n,{1}] y) {{ {2} }}'
    weights = onnx.numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    cases = [
        (text.format("12", "12", "y = Relu(x)"), SourceError, "does not tell which axis holds the channels"),
        (text.format("3,8,8", "3,8,8", "y = Relu(x)"), sise_ort.NoBlocksError, "no spatial block"),
        (
            text.format("7,8,8", "7", "p = GlobalAveragePool(x)\n y = Flatten(p)"),
            SourceError,
            "has 7 channels",
        ),
        (
            text.format("3,8,8", "3", "p = GlobalAveragePool(x)\n f = Flatten(p)\n y = MatMul(f, w)"),
            sise_ort.NoBlocksError,
            "no spatial block",
        ),
        (
            text.format("3,8,8", "3", "p = GlobalAveragePool(x)\n f = Flatten(x)\n y = MatMul(f, w)"),
            SourceError,
            "shapes do not fit",
        ),
    ]
    for body, kind, words in cases:
        model = onnx.parser.parse_model(body)
        model.graph.initializer.append(weights)
        with pytest.raises(kind, match=words):
            exported(model, tmp_path)
        assert not (tmp_path / "m.sise").exists()


def test_a_bundle_that_differs_is_an_error(
    tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sise_ort.exporter.sources import onnx_file

    right = onnx_file.Reference.__call__
    monkeypatch.setattr(onnx_file.Reference, "__call__", lambda self, *inputs: right(self, *inputs) * 1.01)
    with pytest.raises(
        ExportError, match=r"differ from the source model's by 9\.\d+e-03 of their size, more than 1e-03"
    ):
        sise_ort.export(tiny_onnx, tmp_path / "t.sise", **OPTIONS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.onnx"]
