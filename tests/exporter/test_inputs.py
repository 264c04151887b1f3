"""How .onnx files take their picture: axes, types, ranks and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from exporting import HEAD, STEM, WEIGHTS, exported, own_scores, parsed, weights
from onnx.reference import ReferenceEvaluator
from tiny import tiny_model

import sise_ort
from sise_ort.errors import ExportError, SourceError
from sise_ort.exporter.export import load_network
from sise_ort.exporter.sources.cleaning import clean
from sise_ort.exporter.sources.onnx_file import load_onnx

PLAIN: dict[str, Any] = {"normalize": "none"}
BODY = STEM + HEAD.format("s")


def declared(model: onnx.ModelProto, kind: int, dims: list[Any] | None) -> onnx.ModelProto:
    """The model with another type and shape of its first input."""
    name = model.graph.input[0].name
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info(name, kind, dims))
    return model


def run(model: onnx.ModelProto, array: Any) -> Any:
    """The file's own scores, for an input as it takes it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.ravel(session.run(None, {session.get_inputs()[0].name: array})[0])


def pixels(frame: Any, kind: Any = np.float32) -> Any:
    """A frame as [1, C, H, W]."""
    return frame.transpose(2, 0, 1)[None].astype(kind)


def flattening(side: int = 24) -> onnx.ModelProto:
    """A network of open size whose fully connected layer takes the features of one size; stride 1, so of one square only."""
    text = """<ir_version: 8, opset_import: ["" : 20]>
    g (float[n,c,h,w] picture) => (float[n,4] scores)
    {
      a = Conv<pads=[1,1,1,1]>(picture, w1)
      r = Relu(a)
      b = Conv(r, w2)
      s = Relu(b)
      f = Flatten(s)
      scores = Gemm(f, fc)
    }"""
    model = onnx.parser.parse_model(text)
    for name, array in {
        "w1": weights(8, 3, 3, 3), "w2": weights(4, 8, 3, 3), "fc": weights(4 * (side - 2) ** 2, 4) / 10,
    }.items():  # fmt: skip
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize(
    "dims", [["n", "c", 32, 48], [-1, -1, -1, -1], [0, 0, 0, 0], [1, "c", "h", "w"], None]
)
def test_channels_from_the_first_convolution(tmp_path: Path, frame: Any, dims: Any) -> None:
    model = declared(tiny_model(), onnx.TensorProto.FLOAT, dims)
    if dims in ([-1] * 4, [0] * 4):
        for d, value in zip(model.graph.input[0].type.tensor_type.shape.dim, dims, strict=True):
            d.dim_value = value
    explainer = exported(model, tmp_path, input_size=(32, 48))
    assert explainer.manifest.input.channels == 3
    expected = own_scores(tiny_model(), frame)
    np.testing.assert_allclose(explainer.explain(frame).scores, expected, atol=1e-4)


@pytest.mark.parametrize("prepared", [False, True])
def test_channels_last_from_the_first_convolution(tmp_path: Path, frame: Any, prepared: bool) -> None:
    """[-1, -1, -1, -1] in front of a Transpose, before or behind arithmetic, is [n, H, W, C]."""
    before = "q = Mul(picture, one)\n t = Transpose<perm=[0,3,1,2]>(q)\n x = Cast<to=1>(t)\n"
    after = "x = Transpose<perm=[0,3,1,2]>(picture)\n"
    model = parsed(
        (before if prepared else after) + BODY.replace("picture", "x"),
        {**WEIGHTS, "one": np.ones((1, 1, 1, 3), np.float32)},
    )
    declared(model, onnx.TensorProto.FLOAT, [-1, -1, -1, -1])
    explainer = exported(model, tmp_path, input_size=(32, 48), **PLAIN)
    expected = run(model, frame[None].astype(np.float32))
    np.testing.assert_allclose(explainer.explain(frame).scores, expected, rtol=1e-4, atol=1e-3)


def test_size_from_a_fully_connected_layer(tmp_path: Path) -> None:
    model = flattening(24)
    said: list[str] = []
    explainer = exported(model, tmp_path, report=said.append, **PLAIN)
    assert (explainer.manifest.input.height, explainer.manifest.input.width) == (24, 24)
    assert any("24 x 24 is the only square" in line for line in said)
    frame = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    np.testing.assert_allclose(explainer.explain(frame).scores, run(model, pixels(frame)), rtol=1e-4)
    # 22 · 22 = 44 · 11: another rectangle fits as well, and is taken when it is asked for
    said.clear()
    assert (
        exported(
            model, tmp_path, input_size="46x13", force=True, report=said.append, **PLAIN
        ).manifest.input.width
        == 13
    )
    assert not any("only square" in line for line in said)


def test_several_sizes_fit_a_fully_connected_layer(tmp_path: Path) -> None:
    """A stride of 2 leaves two sides open: the error names them."""
    model = flattening(24)
    second = next(n for n in model.graph.node if n.output[0] == "b")
    second.attribute.append(onnx.helper.make_attribute("strides", [2, 2]))
    fc = next(t for t in model.graph.initializer if t.name == "fc")
    fc.CopyFrom(onnx.numpy_helper.from_array(weights(4 * 11 * 11, 4), "fc"))
    with pytest.raises(
        SourceError, match=r"squares of 23 to 24 pixels fit its fully connected layer\): pass input_size="
    ):
        exported(model, tmp_path, **PLAIN)
    assert exported(model, tmp_path, input_size=24, **PLAIN).manifest.input.height == 24


def test_pooled_networks_leave_the_size_open(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"leaves the picture's size open: pass"):
        exported(declared(tiny_model(), onnx.TensorProto.FLOAT, ["n", "c", "h", "w"]), tmp_path)


QUANTISER = {"z": np.array(7, np.uint8), "k": np.array(0.125, np.float32)}


@pytest.mark.parametrize(
    "start",
    [
        "x = Cast<to=1>(picture)\n",
        "t = Transpose<perm=[0,1,3,2]>(picture)\n u = Transpose<perm=[0,1,3,2]>(t)\n x = Cast<to=1>(u)\n",
        "x = DequantizeLinear(picture, k, z)\n",
        "i = Cast<to=6>(picture)\n j = Sub(i, m)\n c0 = Cast<to=1>(j)\n x = Mul(c0, k)\n",
        "p = Pad(picture, edges, z)\n x = Cast<to=1>(p)\n",
    ],
    ids=["cast", "moved", "dequantised", "integers", "padded"],
)
def test_bytes(tmp_path: Path, frame: Any, start: str) -> None:
    """uint8 inputs: pixels as they are, without a word on normalisation."""
    params = {
        **WEIGHTS,
        **QUANTISER,
        "m": np.array(128, np.int32),
        "edges": np.array([0, 0, 1, 0, 0, 0, 2, 1]),
    }
    used = {name: array for name, array in params.items() if name in start or name in WEIGHTS}
    model = declared(
        parsed(start + BODY.replace("picture", "x"), used), onnx.TensorProto.UINT8, ["n", 3, 32, 48]
    )
    explainer = exported(model, tmp_path, normalize=None)
    assert explainer.manifest.preprocessing.mean == (0, 0, 0)
    result = explainer.explain(frame)
    np.testing.assert_allclose(result.scores, run(model, pixels(frame, np.uint8)), rtol=1e-4, atol=1e-4)
    assert result.heatmap.max() == 1


def test_bytes_take_no_other_normalisation(tmp_path: Path) -> None:
    model = declared(
        parsed("x = Cast<to=1>(picture)\n" + BODY.replace("picture", "x"), WEIGHTS),
        onnx.TensorProto.UINT8,
        ["n", 3, 32, 48],
    )
    with pytest.raises(ExportError, match="'picture' takes whole numbers \\(uint8\\)"):
        exported(model, tmp_path, normalize="tf")


def test_signed_bytes(tmp_path: Path, frame: Any) -> None:
    """int8 inputs hold pixels less 128."""
    model = declared(
        parsed("x = Cast<to=1>(picture)\n" + BODY.replace("picture", "x"), WEIGHTS),
        onnx.TensorProto.INT8,
        ["n", 3, 32, 48],
    )
    explainer = exported(model, tmp_path, normalize=None, mean=128, std=1)
    expected = run(model, (pixels(frame) - 128).astype(np.int8))
    np.testing.assert_allclose(explainer.explain(frame).scores, expected, rtol=1e-4, atol=1e-4)


def test_bytes_that_are_computed_with(tmp_path: Path) -> None:
    model = parsed(
        "h = Div(picture, two)\n x = Cast<to=1>(h)\n" + BODY.replace("picture", "x"),
        {**WEIGHTS, "two": np.array(2, np.uint8)},
    )
    declared(model, onnx.TensorProto.UINT8, ["n", 3, 32, 48])
    with pytest.raises(SourceError, match=r"operator Div .* computes with them before they become floats"):
        exported(model, tmp_path, normalize=None)


def test_double_precision(tmp_path: Path, frame: Any) -> None:
    model = declared(
        parsed(BODY, {k: v.astype(np.float64) for k, v in WEIGHTS.items()}),
        onnx.TensorProto.DOUBLE,
        ["n", 3, 32, 48],
    )
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    explainer = exported(model, tmp_path, **PLAIN)
    expected = ReferenceEvaluator(model).run(None, {"picture": pixels(frame, np.float64)})[0][0]
    np.testing.assert_allclose(explainer.explain(frame).scores, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE"])
def test_cast_from_another_precision(tmp_path: Path, frame: Any, kind: str) -> None:
    model = parsed("x = Cast<to=1>(picture)\n" + BODY.replace("picture", "x"), WEIGHTS)
    declared(model, getattr(onnx.TensorProto, kind), ["n", 3, 32, 48])
    explainer = exported(model, tmp_path, **PLAIN)
    expected = run(model, pixels(frame, np.float16 if kind == "FLOAT16" else np.float64))
    np.testing.assert_allclose(explainer.explain(frame).scores, expected, rtol=1e-4, atol=1e-3)


CHW, HWC = [3, 32, 48], [32, 48, 3]
FRONT = {"a": np.array([0]), "one": np.array(0.5, np.float32), "target": np.array([1, 3, 32, 48])}


@pytest.mark.parametrize(
    ("dims", "start", "dynamic"),
    [
        (CHW, "x = Unsqueeze(picture, a)\n", True),
        (CHW, "m = Mul(picture, one)\n x = Unsqueeze(m, a)\n", True),
        (CHW, "x = Reshape(picture, target)\n", True),
        (HWC, "t = Transpose<perm=[2,0,1]>(picture)\n x = Unsqueeze(t, a)\n", True),
        (HWC, "t = Unsqueeze(picture, a)\n x = Transpose<perm=[0,3,1,2]>(t)\n", True),
        (CHW, "q = Softplus(picture)\n x = Unsqueeze(q, a)\n", False),
    ],
    ids=["front", "scaled", "reshaped", "channels last", "moved later", "one at a time"],
)  # fmt: skip
@pytest.mark.parametrize("end", ["kept", "squeezed", "taken", "softmax"])
def test_pictures_without_a_batch(
    tmp_path: Path, frame: Any, dims: Any, start: str, dynamic: bool, end: str
) -> None:
    ends = {
        "kept": "", "squeezed": "scores = Squeeze(k, a)", "taken": "scores = Gather<axis=0>(k, i)",
        "softmax": "o = Squeeze(k)\n scores = Softmax<axis=0>(o)",
    }  # fmt: skip
    body = start + BODY.replace("picture", "x")
    body = body.replace("scores =", "k =") + "\n" + ends[end] if ends[end] else body
    params = {**WEIGHTS, **FRONT, "i": np.array(0)}
    used = {name: v for name, v in params.items() if f" {name})" in body or f" {name}," in body}
    model = declared(parsed(body, used), onnx.TensorProto.FLOAT, dims)
    if ends[end]:
        model.graph.output[0].CopyFrom(
            onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [4])
        )
    explainer = exported(model, tmp_path, normalize="tf")
    assert explainer.manifest.input.batch == (None if dynamic else 1)
    x = ((frame - 127.5) / 127.5).astype(np.float32)
    expected = run(model, x if dims == HWC else x.transpose(2, 0, 1))
    scores = explainer.explain(frame).scores
    if end == "softmax":
        scores = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)


def test_gray_pictures_without_a_channel(tmp_path: Path, frame: Any) -> None:
    """[n, H, W], as files for handwritten digits have it."""
    params = {**WEIGHTS, "w": weights(8, 1, 3, 3), "a": np.array([1])}
    model = declared(
        parsed("x = Unsqueeze(picture, a)\n" + BODY.replace("picture", "x"), params),
        onnx.TensorProto.FLOAT,
        ["n", 32, 48],
    )
    explainer = exported(model, tmp_path, **PLAIN)
    assert explainer.manifest.input.channels == 1 and explainer.manifest.input.batch is None
    gray = frame[..., :1]
    np.testing.assert_allclose(
        explainer.explain(gray).scores,
        run(model, gray[None, :, :, 0].astype(np.float32)),
        rtol=1e-4,
        atol=1e-3,
    )


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ([1, 4, 32, 48], "has 4 channels"),
        (["n", 300], "does not tell which axis"),
        (["n", 5, 3, 32, 48], "one input that is a picture"),
    ],
)
def test_no_picture(tmp_path: Path, dims: Any, words: str) -> None:
    body = "scores = Relu(picture)" if len(dims) != 4 else BODY
    params = {} if len(dims) != 4 else {**WEIGHTS, "w": weights(8, 4, 3, 3)}
    model = declared(parsed(body, params), onnx.TensorProto.FLOAT, dims)
    with pytest.raises(SourceError, match=words):
        exported(model, tmp_path, **PLAIN)


def test_sound_is_no_picture(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 20]> g (float[1,80,300] features, float[2,n] state) => (float y, float z) {
      c = Conv(features, w)
      y = Relu(c)
      z = Relu(state)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights(8, 80, 3), "w"))
    with pytest.raises(
        SourceError, match=r"must have one input that is a picture.*features FLOAT \[1,80,300\], state"
    ):
        exported(model, tmp_path, **PLAIN)  # not: name an output
    del model.graph.input[1], model.graph.output[1], model.graph.node[2]
    with pytest.raises(SourceError, match=r"operator Conv .* slides along 1 axis, not over rows and columns"):
        exported(model, tmp_path, **PLAIN)


def test_what_the_wild_files_take(shared_data: Path) -> None:
    """The inputs of all files as found, or the true reason why there is none."""
    taken = {
        "cifar100edge": (3, 32, 32), "deeplab_v3_tf": (3, 257, 257), "ezkl_fr_age": (3, 64, 64), "light_shufflenet": (3, 224, 224),
        "mesonet": (3, 256, 256), "mnist_charlie": (1, 28, 28), "mobilefacenet": (3, 112, 112), "mtcnn_pnet": (3, 48, 64),
        "mtcnn_rnet": (3, 24, 24), "ortex_mnist": (1, 28, 28), "own_sq_dynamic": (3, 224, 224), "own_sq_qoperator": (3, 224, 224),
        "ppocr_cls": (3, 48, 64), "road_segmentation_adas": (3, 512, 896), "seeta_eye_state": (3, 90, 90),
        "seeta_gender_predictor": (3, 108, 108), "ultraface_rfb320": (3, 240, 320), "winml_candy_style": (3, 720, 720),
        "winml_cifar_classifier": (3, 32, 32), "yolox_nano": (3, 416, 416), "yunet_120x160": (3, 120, 160),
    }  # fmt: skip
    refused = {
        "caelatent_mnist": "no picture: its height or width is 1",
        "sign_language": "external weights are missing",
        "silero_vad": "must have one input that is a picture",
    }
    sizes = {
        "mtcnn_pnet": (48, 64),
        "ppocr_cls": (48, 64),
        "seeta_eye_state": (90, 90),
        "seeta_gender_predictor": (108, 108),
    }
    files = {path.stem: path for path in (shared_data / "wild").glob("*.onnx")}
    assert set(files) == taken.keys() | refused.keys()
    for name, path in files.items():
        if name in refused:
            with pytest.raises(SourceError, match=refused[name]):
                clean(load_onnx(path).model, every_output=True)
            continue
        network = clean(load_onnx(path).model, input_size=sizes.get(name), every_output=True)
        assert (network.channels, network.height, network.width) == taken[name], name


@pytest.mark.parametrize(
    ("name", "side", "layout"),
    [("seeta_gender_predictor", 108, (0, 1, 2, 3)), ("seeta_eye_state", 90, (0, 3, 1, 2))],
)
def test_files_without_a_size(shared_data: Path, tmp_path: Path, name: str, side: int, layout: Any) -> None:
    path = shared_data / "wild" / f"{name}.onnx"
    with pytest.raises(SourceError, match=r"squares of \d+ to \d+ pixels fit its fully connected layer"):
        load_network(path)
    assert load_network(path, input_size=side).clean.file_input.axes == layout
    sise_ort.export(
        path, tmp_path / "b.sise", input_size=side, color="bgr", normalize="none"
    )  # compares the scores
    frame = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    assert sise_ort.load(tmp_path / "b.sise", provider="cpu").explain(frame).heatmap.shape == (side, side)


def test_a_vector_is_no_picture(tmp_path: Path) -> None:
    """A decoder's start: [1, 7, 1, 1] is no gray picture of 7 × 1 places."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 20]>
        g (float[1,7,1,1] latent) => (float[1,3,4,4] y) { y = ConvTranspose(latent, w) }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((7, 3, 4, 4), np.float32), "w"))
    with pytest.raises(
        SourceError, match=r"input 'latent' \[1,7,1,1\] is no picture: its height or width is 1"
    ):
        exported(model, tmp_path, **PLAIN)
