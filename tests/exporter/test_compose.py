"""explain.onnx: one file explains as its bundle does, and as the definition says where the bundle cannot be asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import reference_sise
import torch
from exporting import STEM, WEIGHTS, exported, parsed, weights
from numpy.typing import NDArray
from tiny import tiny_model

import sise_ort.fitting
from sise_ort.bundle import bundle_digest, open_bundle
from sise_ort.errors import ExportError, OutputError, ParameterError
from sise_ort.exporter import compose as module
from sise_ort.exporter.compose import compose

Explain = Callable[..., dict[str, NDArray[Any]]]


def opened(path: Path) -> Explain:
    """The file as other programs run it: by onnxruntime alone."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def explain(image: NDArray[Any], target: int = -1, mu: float = 0.0, passes: int = -1) -> dict[str, Any]:
        given = {
            "image": image, "target": np.array(target), "mu": np.array(mu, np.float32), "passes": np.array(passes),
        }  # fmt: skip
        return dict(zip(names, session.run(names, given), strict=True))

    return explain


def largest_share(alphas: list[NDArray[Any]], maps: list[NDArray[Any]], passes: int) -> list[list[int]]:
    """Per block, the maps with the largest positive pooled gradients that are not flat, `passes` in all.

    Blocks share as a budget does before it knows anything: the next mask goes to the block that lies furthest behind its part
    of the importance, which doubles from block to block among those that have masks left.
    """
    left = []
    for a, m in zip(alphas, maps, strict=True):
        uneven = [np.ptp(one) > 1e-5 * np.abs(one).max() for one in m]
        left.append(
            sorted((k for k in range(len(a)) if a[k] > 0 and uneven[k]), key=lambda k, a=a: (-a[k], k))
        )
    found: list[list[int]] = [[] for _ in alphas]
    for done in range(passes):
        part = [2.0**b if queue else 0.0 for b, queue in enumerate(left)]
        behind = [
            p / sum(part) * (done + 1) - len(own) if queue else -np.inf
            for p, own, queue in zip(part, found, left, strict=True)
        ]
        block = int(np.argmax(behind))
        found[block].append(left[block].pop(0))
    return found


@pytest.fixture(scope="module")
def composed_tiny(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Explain:
    return opened(compose(tiny_bundle, tmp_path_factory.mktemp("composed") / "explain.onnx", batch_size=4))


@pytest.mark.parametrize("mu", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("target", [-1, 0, 3])
def test_all_masks_and_none_are_the_bundle_s_own(
    composed_tiny: Explain, tiny_bundle: Path, frame: NDArray[Any], mu: float, target: int
) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    exactly = float(np.float32(mu))  # the graph takes μ as float32
    for passes, limit in ((-1, {}), (0, {"passes": 0}), (1000, {})):
        own = explainer.explain(frame, target=None if target < 0 else target, mu=exactly, **limit)
        found = composed_tiny(frame, target, mu, passes)
        assert tuple(found["masks"]) == own.mask_counts and found["class"] == own.target
        np.testing.assert_allclose(found["heatmap"], own.heatmap, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["scores"], own.scores, rtol=1e-5, atol=1e-6)
        assert abs(found["confidence"][own.target] - own.confidence) < 1e-6
        assert found["heatmap"].dtype == np.float32 and found["heatmap"].shape == (32, 48)
        assert found["heatmap"].max() == 1


@pytest.mark.parametrize("passes", [1, 2, 5, 7, 12])
def test_n_masks_are_those_with_the_largest_gradients(
    composed_tiny: Explain, tiny_bundle: Path, frame: NDArray[Any], passes: int
) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu")
    model = explainer.model
    image = model.upload(frame)
    extracted = model.extract(image, [1], model.manifest.contrast)
    features = [maps.numpy()[0].astype(np.float64) for maps in extracted.features]
    wanted = largest_share([alpha[0] for alpha in extracted.pooled_gradients], features, passes)
    maps = [
        reference_sise.visualize(
            torch.tensor(model.network_input(image)),
            block,
            own,
            lambda x: float(model.predict(x.numpy().astype(np.float32))["confidence"][0, 1]),
        )
        for block, own in zip(features, wanted, strict=True)
    ]
    found = composed_tiny(frame, 1, 0.0, passes)
    assert found["masks"].tolist() == [len(own) for own in wanted]
    fused = reference_sise.fuse(maps)
    assert fused is not None
    fused /= fused.max()
    np.testing.assert_allclose(found["heatmap"], fused, rtol=0, atol=1e-5)


def test_blocks_share_as_a_budget_s_first_round_does(
    composed_tiny: Explain, tiny_bundle: Path, frame: NDArray[Any]
) -> None:
    explainer = sise_ort.load(tiny_bundle, provider="cpu", batch_size=64)
    for passes in (1, 3, 6, 9):
        assert (
            tuple(composed_tiny(frame, passes=passes)["masks"])
            == explainer.explain(frame, passes=passes).mask_counts
        )


@pytest.mark.parametrize(
    ("tail", "options"),
    [
        ("y = Sigmoid(scores)", {}),
        ("y = Softmax<axis=-1>(scores)", {"hidden": "black"}),
        ("y = Identity(scores)", {"head": "none"}),
        ("", {"frame_dtype": "float32", "color": "bgr"}),
    ],
)
def test_heads_and_preprocessing(
    tail: str, options: dict[str, Any], frame: NDArray[Any], tmp_path: Path
) -> None:
    explainer = exported(tiny_model(tail=tail), tmp_path, **options)
    explain = opened(compose(tmp_path / "m.sise", tmp_path / "explain.onnx"))
    picture = frame.astype(np.float32) if options.get("frame_dtype") else frame
    for target in (1, 2):
        own, found = explainer.explain(picture, target=target), explain(picture, target)
        assert tuple(found["masks"]) == own.mask_counts
        np.testing.assert_allclose(found["heatmap"], own.heatmap, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["confidence"][target], own.confidence, rtol=1e-5)


def test_a_network_that_takes_one_picture_at_a_time(frame: NDArray[Any], tmp_path: Path) -> None:
    body = (
        STEM
        + "g = GlobalAveragePool(s)\n f = Flatten(g)\n j = Concat<axis=1>(f, more)\n scores = Gemm(j, fc)"
    )
    params = WEIGHTS | {"more": weights(1, 2), "fc": 4 * weights(18, 4)}
    model = parsed(body, params, batch=1)
    explainer = exported(model, tmp_path)
    assert explainer.manifest.input.batch == 1
    explain = opened(compose(tmp_path / "m.sise", tmp_path / "explain.onnx", batch_size=8))
    own = explainer.explain(frame)
    np.testing.assert_allclose(explain(frame)["heatmap"], own.heatmap, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_frames_of_any_size(fit: str, rng: np.random.Generator, tmp_path: Path) -> None:
    explainer = exported(tiny_model(), tmp_path, fit=fit)
    explain = opened(compose(tmp_path / "m.sise", tmp_path / "explain.onnx", any_size=True))
    for size in ((32, 48), (101, 77), (20, 31), (60, 400)):
        picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        own, found = explainer.explain(picture, target=2, passes=0), explain(picture, 2, passes=0)
        # OpenCV rounds to whole levels in integers, which moves single pixels by one of 255 levels
        assert np.corrcoef(found["heatmap"].ravel(), own.heatmap.ravel())[0, 1] > 0.99, size
        assert found["frame_heatmap"].shape == size
        back = sise_ort.fitting.place_back(found["heatmap"], own.placement)
        np.testing.assert_allclose(found["frame_heatmap"], back, rtol=0, atol=1e-5)
        if size == (32, 48):
            np.testing.assert_allclose(found["heatmap"], own.heatmap, rtol=0, atol=1e-5)


def test_without_evidence_the_map_is_zero(tmp_path: Path, frame: NDArray[Any]) -> None:
    model = tiny_model()
    for tensor in model.graph.initializer:
        if tensor.name == "fc":  # the first score is a constant
            rows = onnx.numpy_helper.to_array(tensor).copy()
            rows[0] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(rows, "fc"))
    exported(model, tmp_path, head="none")
    explain = opened(compose(tmp_path / "m.sise", tmp_path / "explain.onnx"))
    for passes in (-1, 0, 3):
        found = explain(frame, 0, passes=passes)
        assert not found["masks"].any() and not found["heatmap"].any()


def test_the_file_says_what_it_is(tiny_bundle: Path, tmp_path: Path) -> None:
    path = compose(tiny_bundle, tmp_path / "explain.onnx", any_size=True)
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    manifest = open_bundle(tiny_bundle).manifest
    assert facts["bundle_sha256"] == bundle_digest(manifest) and facts["bundle"] == manifest.name
    assert json.loads(facts["labels"]) == facts["label_lines"].split("\n") == ["ant", "bee", "cat", "1"]
    assert json.loads(facts["files"]) == dict(manifest.files)
    assert json.loads(facts["preprocessing"])["mean"] == [127.5, 127.5, 127.5]
    assert json.loads(facts["readout"])["head"]["kind"] == "softmax"
    assert json.loads(facts["any_size"]) is True
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""} and model.opset_import[0].version == 20


def test_export_writes_it_into_the_bundle(tiny_onnx: Path, tmp_path: Path, frame: NDArray[Any]) -> None:
    sise_ort.export(tiny_onnx, tmp_path / "t.sise", normalize="tf", graphs=["explain"])
    explainer = sise_ort.load(tmp_path / "t.sise", provider="cpu")
    assert explainer.manifest.has("explain")
    explain = opened(tmp_path / "t.sise" / "explain.onnx")
    np.testing.assert_allclose(explain(frame)["heatmap"], explainer.explain(frame).heatmap, rtol=0, atol=1e-5)
    facts = {e.key: e.value for e in onnx.load(tmp_path / "t.sise" / "explain.onnx").metadata_props}
    assert json.loads(facts["files"]).keys() == explainer.manifest.files.keys() - {"explain.onnx"}


def test_what_is_refused(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compose(tiny_bundle, tmp_path / "explain.onnx")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        compose(tiny_bundle, path)
    assert compose(tiny_bundle, path, force=True).read_bytes() == before
    with pytest.raises(OutputError, match="is a folder"):
        compose(tiny_bundle, tmp_path)
    with pytest.raises(ParameterError, match="batch_size"):
        compose(tiny_bundle, tmp_path / "other.onnx", batch_size=0)
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(ExportError, match="ends at 2 GiB"):
        compose(tiny_bundle, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    onnx.save(model, tmp_path / "m.onnx")
    options: dict[str, Any] = {"normalize": "tf", "task": "embedding"}
    with pytest.raises(ExportError, match="explains class scores alone"):
        sise_ort.export(tmp_path / "m.onnx", tmp_path / "m.sise", graphs=["explain"], **options)
    assert not (tmp_path / "m.sise").exists()
    sise_ort.export(tmp_path / "m.onnx", tmp_path / "m.sise", **options)
    with pytest.raises(ExportError, match="explains class scores alone"):
        compose(tmp_path / "m.sise", tmp_path / "explain.onnx")


def test_a_file_that_explains_otherwise_is_not_written(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module.build_explain

    def wrong(*arguments: Any) -> Any:
        model = build(*arguments)
        for node in model.graph:
            if node.op_type == "MatMul":
                node.replace_input_with(0, node.inputs[0])
        weights = next(v for v in model.graph.initializers.values() if v.name == "w3")
        weights.const_value = module.ir.tensor(-weights.const_value.numpy(), name="w3")
        return model

    monkeypatch.setattr(module, "build_explain", wrong)
    with pytest.raises(ExportError, match="differently from its bundle"):
        compose(tiny_bundle, tmp_path / "explain.onnx")
    assert list(tmp_path.iterdir()) == []
