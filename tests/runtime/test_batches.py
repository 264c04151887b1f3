"""Files that fix their batch, and files that mix pictures and places in one axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exporting import HEAD, OPTIONS, STEM, WEIGHTS, agrees, exported, parsed, weights

import sise_ort
from sise_ort.errors import GradientError, SourceError


def test_batch_of_one(tmp_path: Path, frame: Any) -> None:
    """A batch fixed to 1 becomes dynamic, wherever Reshape and Expand name it."""
    body = (
        STEM
        + "two = Reshape(s, flat)\n maps = Reshape(two, back)\n wide = Expand(maps, like)\n"
        + HEAD.format("wide")
    )
    shapes = {"flat": np.array([1, -1]), "back": np.array([1, 16, 8, 12]), "like": np.array([1, 16, 8, 12])}
    model = parsed(body, WEIGHTS | shapes, batch=1)
    explainer = exported(model, tmp_path)
    assert explainer.manifest.input.batch is None and explainer.model.batch_size > 1
    agrees(explainer, model, frame)


def test_batch_of_one_that_must_stay(tmp_path: Path, frame: Any) -> None:
    """A constant of one picture joined to the features: masks are scored one at a time, and the result says so."""
    body = (
        STEM
        + "g = GlobalAveragePool(s)\n f = Flatten(g)\n j = Concat<axis=1>(f, more)\n scores = Gemm(j, fc)"
    )
    params = WEIGHTS | {"more": weights(1, 2), "fc": 4 * weights(18, 4)}
    model = parsed(body, params, batch=1)
    explainer = exported(model, tmp_path)
    assert explainer.manifest.input.batch == explainer.model.batch_size == 1
    agrees(explainer, model, frame)
    result = explainer.explain(frame)
    assert any("one at a time" in note for note in result.notes)
    assert sise_ort.load(tmp_path / "m.sise", provider="cpu", batch_size=8).model.batch_size == 1

    plain = {
        "fc": params["fc"][:16].copy(),
        "bias": params["more"] @ params["fc"][16:],
    }  # the same network, any batch
    free = parsed(STEM + HEAD.format("s").replace("fc)", "fc, bias)"), WEIGHTS | plain)
    sise_ort.export(_saved(free, tmp_path / "free.onnx"), tmp_path / "free.sise", **OPTIONS)
    other = sise_ort.load(tmp_path / "free.sise", provider="cpu").explain(frame)
    assert other.target == result.target
    np.testing.assert_allclose(other.heatmap, result.heatmap, atol=1e-4)


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def test_larger_fixed_batches_are_refused_where_they_cannot_be_freed(tmp_path: Path) -> None:
    body = (
        STEM
        + "g = GlobalAveragePool(s)\n f = Flatten(g)\n j = Concat<axis=1>(f, more)\n scores = Gemm(j, fc)"
    )
    model = parsed(body, WEIGHTS | {"more": weights(4, 2), "fc": weights(18, 4)}, batch=4)
    with pytest.raises(SourceError, match="fixes its batch to 4"):
        exported(model, tmp_path)
    model = parsed(STEM + "g = GlobalAveragePool(s)\n f = Reshape(g, flat)\n scores = Gemm(f, fc)",
                   WEIGHTS | {"flat": np.array([4, 16])}, batch=4)  # fmt: skip
    assert exported(model, tmp_path).manifest.input.batch is None


def test_pictures_and_places_in_one_axis(tmp_path: Path) -> None:
    body = STEM + "m = Reshape(s, merged)\n a = Relu(m)\n b = Reshape(a, back)\n" + HEAD.format("b")
    model = parsed(body, WEIGHTS | {"merged": np.array([-1, 12]), "back": np.array([-1, 16, 8, 12])})
    with pytest.raises(GradientError, match=r"Relu .* whose first axis is not the pictures' alone"):
        exported(model, tmp_path)
