"""Files as converters write them: by the real converter where it can be had, else by hand in its documented form."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
import torch.nn.functional as F
from exporting import HEAD, OPTIONS, STEM, WEIGHTS, agrees, exported, own_scores, parsed, weights
from gradcheck import relative
from tiny import tiny_model
from torch import Tensor, nn

import sise_ort

REFERENCE = Path(__file__).parents[1] / "reference"


# Keras, by tf2onnx ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layers"),
    [("keras", [(8, 16, 24), (12, 8, 12), (16, 4, 6)]), ("keras_block", [(8, 8, 12), (16, 4, 6)])],
)
def test_keras(name: str, layers: list[tuple[int, int, int]], tmp_path: Path) -> None:
    """NHWC, SAME padding, batch or layer normalisation: blocks, scores, features and gradients as Keras computes them."""
    keras = np.load(REFERENCE / f"{name}.npz")
    sise_ort.export(REFERENCE / f"{name}.onnx", tmp_path / "k.sise", normalize="tf")
    explainer = sise_ort.load(tmp_path / "k.sise", provider="cpu")
    assert [(b.channels, b.height, b.width) for b in explainer.manifest.layers] == layers
    softmax = name == "keras"
    model = explainer.model
    extracted = model.extract(model.upload(keras["frame"]), [0, 2], 1.0 if softmax else 0.0)
    scores = np.exp(extracted.scores) / np.exp(extracted.scores).sum() if softmax else extracted.scores
    np.testing.assert_allclose(scores, keras["scores"], atol=1e-5)
    np.testing.assert_allclose(extracted.features[-1].numpy()[0], keras["features"], atol=1e-5)
    gradient = extracted.gradients[-1].numpy()[1] * ((1 - keras["scores"][2]) if softmax else 1)
    assert relative(gradient, keras["gradient"]) < 1e-5
    result = explainer.explain(keras["frame"], target=2)
    assert result.heatmap.shape == (32, 48) and result.heatmap.any()


# PyTorch, by the TorchScript exporter ---------------------------------------------------------------


class Shuffling(nn.Module):
    """Channel shuffle, a split, interpolation and pooling whose sizes are computed in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.norm, self.grouped = nn.BatchNorm2d(8), nn.Conv2d(6, 6, 3, 1, 1, groups=2)
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(12 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.norm(self.a(x)), 0, 6)
        x = F.gelu(self.b(x))
        left, right = x.chunk(2, dim=1)
        x = torch.cat([left, F.silu(self.grouped(right))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, -1, h, w)
        x = x + F.interpolate(F.avg_pool2d(x, 2), size=x.shape[2:])
        x = F.avg_pool2d(x, (4, 6))
        return self.fc(self.drop(x.view(x.size(0), -1)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_torchscript(opset: int, tmp_path: Path, frame: Any) -> None:
    torch.manual_seed(2)
    net = Shuffling().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.zeros(2, 3, 32, 48),), tmp_path / "m.onnx", dynamo=False, opset_version=opset,
            input_names=["picture"], dynamic_axes={"picture": {0: "n"}},
            training=torch.onnx.TrainingMode.EVAL, do_constant_folding=opset != 13,
        )  # fmt: skip
    model = onnx.load(tmp_path / "m.onnx")
    assert {"Shape", "Gather", "Concat"} <= {node.op_type for node in model.graph.node}
    explainer = exported(model, tmp_path)
    assert [b.height for b in explainer.manifest.layers] == [16, 8]
    agrees(explainer, model, frame)

    x = torch.tensor((frame.astype(np.float64) / 127.5 - 1).transpose(2, 0, 1)[None])
    seen: list[Tensor] = []
    net.double().a.register_forward_hook(lambda _, __, output: seen.append(output))
    scores = net(x)
    hidden = explainer.model.extract(explainer.model.upload(frame), [1, 3], 0.0)
    for k, target in enumerate((1, 3)):  # the block ends with the clipped batch normalisation of seen[0]
        (by_convolution,) = torch.autograd.grad(scores[0, target], seen[0], retain_graph=True)
        inside = hidden.gradients[0].numpy()[k] * (hidden.features[0].numpy()[0] > 0)
        slope = (net.norm.weight / (net.norm.running_var + net.norm.eps).sqrt()).detach().numpy()  # type: ignore[operator]
        assert relative(inside * slope[:, None, None], by_convolution[0].numpy()) < 1e-4


# Quantised and half-precision files, by onnxruntime's own tools -------------------------------------


def test_quantised(tmp_path: Path, frame: Any) -> None:
    """QDQ: gradients run through the dequantised values and are close to those of the float network."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Frames(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            shifts = [np.roll(frame, i, axis=1) + rng.normal(0, 10, frame.shape) for i in range(12)]
            self.rows = iter(
                [{"picture": ((s / 127.5 - 1).transpose(2, 0, 1)[None]).astype(np.float32)} for s in shifts]
            )

        def get_next(self) -> Any:
            return next(self.rows, None)

    model = tiny_model(opset=17)
    onnx.save(model, tmp_path / "float.onnx")
    quantize_static(
        tmp_path / "float.onnx", tmp_path / "q.onnx", Frames(), quant_format=QuantFormat.QDQ, per_channel=True
    )
    quantised = onnx.load(tmp_path / "q.onnx")
    kinds = [node.op_type for node in quantised.graph.node]
    assert kinds.count("QuantizeLinear") > 3 and kinds.count("Relu") == 0  # the quantisers took over Relu
    explainer = exported(quantised, tmp_path)
    agrees(explainer, quantised, frame, 0.1)  # see QUANTISED in verify.py
    sise_ort.export(tmp_path / "float.onnx", tmp_path / "f.sise", **OPTIONS)
    plain = sise_ort.load(tmp_path / "f.sise", provider="cpu")
    assert [(b.channels, b.height) for b in explainer.manifest.layers] == [
        (b.channels, b.height) for b in plain.manifest.layers
    ]  # a pooled tensor stays "only pooled" behind its quantiser
    ours, theirs = (e.model.extract(e.model.upload(frame), [0, 1, 2], 0.0) for e in (explainer, plain))
    for a, b in zip(ours.gradients, theirs.gradients, strict=True):
        assert np.corrcoef(a.numpy().ravel(), b.numpy().ravel())[0, 1] > 0.9
    maps = [e.explain(frame, target=1).heatmap for e in (explainer, plain)]
    assert np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] > 0.95


def test_half_precision_by_conversion(tmp_path: Path, frame: Any) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(tiny_model(opset=17), keep_io_types=True, op_block_list=["Gemm"])
    assert [node.op_type for node in model.graph.node].count("Cast") >= 2
    agrees(exported(model, tmp_path), model, frame, 0.02)


# By hand --------------------------------------------------------------------------------------------


def test_shapes_computed_in_the_graph(tmp_path: Path, frame: Any) -> None:
    """The flattening that TorchScript wrote before opset 13, and the Expand of a learned offset."""
    body = (
        STEM
        + """
      shape = Shape(s)
      first = Gather(shape, zero)
      first1 = Unsqueeze<axes=[0]>(first)
      target = Concat<axis=0>(first1, minus)
      two = Reshape(s, target)
      back = Concat<axis=0>(first1, rest)
      maps = Reshape(two, back)
      like = Shape(maps)
      wide = Expand(offset, like)
      sum = Add(maps, wide)
    """
        + HEAD.format("sum")
    )
    params = {
        "zero": np.array(0),
        "minus": np.array([-1]),
        "rest": np.array([16, 8, 12]),
        "offset": weights(16, 1, 1),
    }
    model = parsed(body, WEIGHTS | params, opset=11)
    explainer = exported(model, tmp_path)
    assert [b.height for b in explainer.manifest.layers] == [16, 8]
    agrees(explainer, model, frame)
    kinds = {
        n.op_type
        for n in onnx.load(tmp_path / "m.sise" / "predict.onnx", load_external_data=False).graph.node
    }
    assert not kinds & {"Gather", "Concat", "Unsqueeze"}


def test_decided_branches_are_taken(tmp_path: Path, frame: Any) -> None:
    """TorchScript's squeeze asks the shape before it squeezes."""
    body = (
        STEM
        + """
      g = GlobalAveragePool(s)
      shape = Shape(g)
      last = Gather(shape, three)
      is_one = Equal(last, one)
      f = If(is_one) <then_branch = t () => (float[n,16] a) { a = Squeeze(g, axes) },
                      else_branch = e () => (float[n,16,1,1] b) { b = Identity(g) }>
      scores = Gemm(f, fc)
    """
    )
    params = {"three": np.array(3), "one": np.array(1), "axes": np.array([2, 3])}
    model = parsed(body, WEIGHTS | params, opset=13)
    agrees(exported(model, tmp_path), model, frame)


@pytest.mark.parametrize("sizes", [np.array([6, 10]), np.array(10)], ids=["listed", "even"])
def test_parts_of_a_sequence(sizes: Any, tmp_path: Path, frame: Any) -> None:
    """torch's chunk, where no optimiser has made it a Split."""
    body = (
        STEM
        + """
      parts = SplitToSequence<axis=1>(s, sizes)
      a = SequenceAt(parts, zero)
      b = SequenceAt(parts, last)
      j = Concat<axis=1>(b, a)
    """
        + HEAD.format("j")
    )
    model = parsed(body, WEIGHTS | {"sizes": sizes, "zero": np.array(0), "last": np.array(-1)}, opset=18)
    explainer = exported(model, tmp_path)
    assert [b.height for b in explainer.manifest.layers] == [16, 8]
    agrees(explainer, model, frame)


def test_identity_chains_dropout_and_local_functions(tmp_path: Path, frame: Any) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 15, "mine" : 1]> g (float[n,3,32,48] picture) => (float[n,4] scores) {{
      i = Identity(picture)
      j = Identity(i)
      {STEM.replace("picture", "j").replace("s = Relu(d)", "t = mine.Bent(d)")}
      k, mask = Dropout(t, ratio, training)
      l = Identity(k)
      {HEAD.format("l")}
    }}
    <domain: "mine", opset_import: ["" : 15]> Bent (x) => (y) {{ p = Sigmoid(x) y = Mul(x, p) }}"""
    model = onnx.parser.parse_model(text)
    params = WEIGHTS | {"ratio": np.array(0.5, np.float32), "training": np.array(False)}
    for name, array in params.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    explainer = exported(model, tmp_path)
    assert [b.height for b in explainer.manifest.layers] == [16, 8]
    agrees(explainer, model, frame)


def test_double_constants(tmp_path: Path, frame: Any) -> None:
    body = STEM.replace("(picture, w)", "(scaled, w)") + HEAD.format("s")
    body = "wide = Cast<to=11>(picture)\n halved = Mul(wide, half)\n scaled = Cast<to=1>(halved)\n" + body
    model = parsed(body, WEIGHTS | {"half": np.array(0.5, np.float64)})
    agrees(exported(model, tmp_path), model, frame)


def test_label_beside_probabilities(tmp_path: Path, frame: Any) -> None:
    """As scikit-style exports: the winner's index is the first output, probabilities the second."""
    model = tiny_model(
        tail="probabilities = Softmax<axis=1>(scores)\n y = ArgMax<axis=1, keepdims=0>(scores)"
    )
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, ["n"]))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["n", 4])
    )
    explainer = exported(model, tmp_path)
    assert explainer.manifest.head.words == "softmax"
    result = explainer.explain(frame)
    theirs = own_scores(tiny_model(tail="y = Softmax<axis=1>(scores)"), frame)
    np.testing.assert_allclose(np.exp(result.scores) / np.exp(result.scores).sum(), theirs, atol=1e-5)


def test_operators_that_changed_between_opsets(tmp_path: Path, frame: Any) -> None:
    """Attributes that became inputs: Clip, Pad, Slice, Upsample, Squeeze, ReduceMean, Dropout, Split."""
    old = STEM.replace(
        "r = Relu(c)",
        "b = BatchNormalization(c, scale, bias, mean, variance)\n r = Clip<min=0.0, max=6.0>(b)",
    )
    old += """
      p = Pad<pads=[0,0,1,0,0,0,0,1], mode="reflect">(s)
      q = Slice<axes=[2,3], starts=[0,1], ends=[8,13]>(p)
      u = Upsample<mode="nearest", scales=[1.0,1.0,2.0,2.0]>(q)
      a, e = Split<axis=1, split=[6,10]>(u)
      j = Concat<axis=1>(e, a)
      m = ReduceMean<axes=[2], keepdims=1>(j)
      k = ReduceMean<axes=[3], keepdims=1>(m)
      z = Squeeze<axes=[2,3]>(k)
      f = Dropout<ratio=0.5>(z)
      scores = Gemm(f, fc, zero)
    """
    norm = {n: weights(8, seed=i) ** 2 + 0.5 for i, n in enumerate(("scale", "bias", "mean", "variance"))}
    model = parsed(old, WEIGHTS | norm | {"zero": np.zeros(4, np.float32)}, opset=7)
    model.ir_version = 4
    explainer = exported(model, tmp_path)
    assert [b.height for b in explainer.manifest.layers] == [16, 16]
    agrees(explainer, model, frame)


@pytest.mark.parametrize(
    ("call", "opset"),
    [
        ("GroupNormalization<num_groups=4, epsilon=0.01>(d, scale, bias)", 21),
        ("GroupNormalization<num_groups=4>(d, four, four)", 18),
        ("RMSNormalization<epsilon=0.01>(d, row)", 23),
    ],
)
def test_operators_that_opset_20_lacks(call: str, opset: int, tmp_path: Path, frame: Any) -> None:
    body = STEM.replace("s = Relu(d)", f"t = {call}\n s = Relu(t)") + HEAD.format("s")
    params = {"scale": weights(16), "bias": weights(16, seed=5), "four": weights(4) + 1, "row": weights(12)}
    model = parsed(body, WEIGHTS | {k: v for k, v in params.items() if k in call}, opset=opset)
    model.ir_version = 10
    explainer = exported(model, tmp_path)
    agrees(explainer, model, frame)


def test_swish_of_opset_24(tmp_path: Path, frame: Any) -> None:
    """onnxruntime 1.32 does not run Swish-24, so its definition is the reference."""
    from sise_ort.exporter.sources.cleaning import clean

    body = STEM.replace("s = Relu(d)", "s = Swish<alpha=1.5>(d)") + HEAD.format("s")
    kinds = [node.op_type for node in clean(parsed(body, WEIGHTS, opset=24)).model.graph]
    assert kinds.count("Sigmoid") == kinds.count("Mul") - 1 == 1


def test_maps_that_are_flattened_channels_last(tmp_path: Path, frame: Any) -> None:
    """As keras2onnx writes them: the last block's gradient is in the file's order already, and is not turned twice."""
    body = STEM + "t = Transpose<perm=[0,2,3,1]>(s)\n f = Flatten(t)\n scores = Gemm(f, fc)"
    model = parsed(body, WEIGHTS | {"fc": weights(16 * 8 * 12, 4)})
    explainer = exported(model, tmp_path)
    assert [(b.tensor, b.channels, b.height, b.width) for b in explainer.manifest.layers][-1] == (
        "t",
        16,
        8,
        12,
    )
    agrees(explainer, model, frame)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("opset", [9, 10])
def test_resizing_before_opset_11_keeps_its_places(mode: str, opset: int, tmp_path: Path, frame: Any) -> None:
    """Before opset 11 the first pixels of both sides coincide; today's default lays their centres apart."""
    name = "Upsample" if opset == 9 else "Resize"
    head = "p = GlobalAveragePool(m)\n f = Flatten(p)\n scores = MatMul(f, fc)"
    body = STEM + f'u = {name}<mode="{mode}">(s, scales)\n m = Mul(u, places)\n {head}'
    params = {"scales": np.array([1, 1, 2.5, 1.5], np.float32), "places": weights(1, 1, 20, 18)}
    model = parsed(body, WEIGHTS | params, opset=opset)
    agrees(exported(model, tmp_path), model, frame)
