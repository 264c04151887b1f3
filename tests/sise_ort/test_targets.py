"""Whatever is passed as a target, a parameter or a progress: an answer, or one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sise_ort
from sise_ort.errors import ParameterError, TargetError, shown
from sise_ort.targets import MOST_QUESTIONS, class_question, listed

HUGE = 10**5000
"""More digits than Python writes."""


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> sise_ort.Explainer:
    return sise_ort.load(tiny_bundle, provider="cpu")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (HUGE, "a whole number of 16610 bits is out of range"),
        ([HUGE], "a whole number of 16610 bits is out of range"),
        ((HUGE,) * 2, "16610 bits"),
        (b"ant", "target is b'ant'"),
        ({"ant": 1}, "target is {'ant': 1}"),
        (iter([0]), "target is <list_iterator"),
        ([[0]], r"target is \[0\]"),
        (np.zeros((2, 2), int), "or a sequence of these is needed"),
        (float("nan"), "target is nan"),
        (Unprintable(), "target is a Unprintable"),
        ("x" * 100_000, "there is no label 'xxx"),
        ("\ud800", "there is no label '"),
        ([0] * (MOST_QUESTIONS + 1), "asks for 1001 classes at once"),
        (range(10**9), "asks for 1000000000 classes at once"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) and value.isascii() else "",
)
def test_targets_that_cannot_be(explainer: sise_ort.Explainer, frame: Any, target: Any, words: str) -> None:
    with pytest.raises(TargetError, match=words) as caught:
        explainer.explain(frame, target)
    assert len(str(caught.value)) <= 500
    with pytest.raises(TargetError, match=words):
        next(explainer.explain_many([frame], target))


def test_targets_that_can_be(explainer: sise_ort.Explainer) -> None:
    manifest = explainer.manifest
    for one in (2, np.int8(2), np.array(2), "cat"):
        found, several = listed(one)  # type: ignore[arg-type]
        assert [class_question(manifest, t).index for t in found] == [2] and not several
    for many in ([2, "ant"], (2, 0), np.array([2, 0]), range(2, -1, -2)):
        found, several = listed(many)  # type: ignore[arg-type]
        assert [class_question(manifest, t).index for t in found] == [2, 0] and several


def test_numbers_that_only_look_like_digits(tiny_onnx: Path, tmp_path: Path, frame: Any) -> None:
    sise_ort.export(tiny_onnx, tmp_path / "s.sise", normalize="tf", head="sigmoid")
    plain = sise_ort.load(tmp_path / "s.sise", provider="cpu")
    assert plain.explain(frame, "not:2").target == 2
    for label in ("not:²", "not:" + "9" * 5000, "not:4"):
        with pytest.raises(
            TargetError, match=r"is unknown: the bundle has no labels; pass an index .* labels= the file"
        ):
            plain.explain(frame, label)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mu": HUGE}, "mu= is a whole number of 16610 bits"),
        ({"mu": 10**400}, "mu= is a whole number of 1329 bits"),
        ({"mu": [HUGE]}, "mu= is a list"),
        ({"mu": np.array([0.1, 0.2])}, "mu= is array"),
        ({"passes": HUGE}, "passes= is a whole number"),
        ({"tolerance": "x" * 10_000}, "tolerance= is 'xxx"),
        ({"method": "rise", "masks": np.array([3, 4])}, "masks= is array"),
        ({"method": "rise", "probability": Unprintable()}, "probability= is a Unprintable"),
        ({"method": None}, "method is None"),
        ({"method": "x" * 10_000}, "there is no method 'xxx"),
        ({"progress": 3}, "progress is 3; a function of"),
        ({"x" * 10_000: 1}, "method sise has no parameter 'xxx"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_parameters_that_cannot_be(
    explainer: sise_ort.Explainer, frame: Any, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        explainer.explain(frame, **given)
    assert len(str(caught.value)) <= 500
    with pytest.raises(ParameterError, match=words):
        list(explainer.explain_many([frame], **given))


def test_shown() -> None:
    assert shown(3) == "3" and shown("a") == "'a'" and shown(0.5) == "0.5"
    assert shown(HUGE) == "a whole number of 16610 bits" and shown([HUGE]) == "a list"
    assert len(shown("x" * 10_000)) <= 100 and shown("x" * 10_000).endswith(" …")
