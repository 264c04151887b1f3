"""Methods as frozen dataclasses: their fields are the parameters, however they are written."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sise_ort
from sise_ort.errors import BundleError, ParameterError, TargetError
from sise_ort.heads import Head
from sise_ort.readouts import Question, class_answers
from sise_ort.runtime.methods import (
    DEFAULT,
    METHODS,
    Attribution,
    Attributions,
    Budget,
    Call,
    ExtremalPerturbation,
    GradCam,
    IntegratedGradients,
    Method,
    Rise,
    Sise,
    method_named,
    method_of,
)


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> sise_ort.Explainer:
    return sise_ort.load(tiny_bundle, provider="cpu", batch_size=5)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_frozen_value(name: str) -> None:
    method = METHODS[name]()
    assert method == METHODS[name].of(METHODS[name].defaults()) and hash(method) == hash(METHODS[name]())
    assert method.parameters == METHODS[name].defaults()
    assert pickle.loads(pickle.dumps(method)) == method
    assert method.name == name and method.title and method.source and method.price
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.name = "other"  # type: ignore[misc]


def test_one_method_is_meant_where_none_is_named() -> None:
    assert DEFAULT == "sise" and [m.name for m in METHODS.values() if m.default] == ["sise"]


@pytest.mark.parametrize(
    ("long", "method", "parameters"),
    [
        (Sise(), "sise", {}),
        (Sise(mu=0.3, budget=Budget(passes=6)), "sise", {"mu": 0.3, "passes": 6}),
        (Sise("adaptive"), "sise", {"mu": "adaptive"}),
        (Rise(masks=12, seed=4), "rise", {"masks": 12, "seed": 4}),
        (GradCam(block=2), "gradcam", {"block": 2}),
    ],
)
def test_objects_and_keywords_say_the_same(
    explainer: sise_ort.Explainer, frame: Any, long: Method, method: str, parameters: dict[str, Any]
) -> None:
    one, other = explainer.explain(frame, method=long), explainer.explain(frame, method=method, **parameters)
    assert one.heatmap.tobytes() == other.heatmap.tobytes()
    assert one.parameters == other.parameters == long.parameters
    (many,) = explainer.explain_many([frame], method=long)
    assert isinstance(many, sise_ort.Explanation) and many.parameters == long.parameters
    read = method_named(method).of(
        {k: method_named(method).parse(k, str(v)) for k, v in parameters.items()}
    )  # as --set does
    assert read == long


def test_values_are_made_plain() -> None:
    """Whatever a number was given as, a record says it in one way."""
    assert Rise(masks=np.int64(5)).parameters["masks"] == 5 and type(Rise(masks=np.int64(5)).masks) is int
    assert Sise("0.3") == Sise(0.3) and Sise(0).mu == 0.0
    assert ExtremalPerturbation(0.2) == ExtremalPerturbation([0.2])  # type: ignore[arg-type]
    assert Sise(budget=Budget(passes=np.int32(7))).parameters["passes"] == 7
    assert {"passes", "deadline", "tolerance", "mu"} == set(Sise().parameters)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Sise(mu=1.0), "mu= is 1.0"),
        (lambda: Sise(budget=Budget(passes=-1)), "passes= is -1"),
        (lambda: Rise(masks=0), "masks= is 0; it must be a whole number from 1 to 1000000"),
        (lambda: Rise(masks=True), "masks= is True"),
        (lambda: Rise(probability=1.0), "probability= is 1.0"),
        (lambda: Rise(seed=2**64), "seed= is 18446744073709551616"),
        (lambda: GradCam(block=-1), "block= is -1"),
        (lambda: IntegratedGradients(baseline="blue"), "it must be one of black, gray, white, mean"),
        (lambda: ExtremalPerturbation(areas=(0.1, 2.0)), "areas= is 2.0"),
        (lambda: method_of("ryse", {}), "did you mean rise"),
        (lambda: method_of("rise", {"mask": 3}), "no parameter 'mask'; it has masks, cells, probability, seed"),
        (lambda: method_of("fullgrad", {"mask": 3}), "it has none"),
        (lambda: method_of(Rise(), {"masks": 3}), r"masks: the parameters of Rise\(…\) stand inside"),
        (lambda: method_of(Rise, {}), "pass a name such as"),  # type: ignore[arg-type]
        (lambda: Rise.parse("masks", "many"), "method rise: masks= is 'many', not a whole number"),
        (lambda: Rise.parse("probability", "half"), "method rise: probability= is 'half', not a number"),
        (lambda: Rise.parse("masks", "0"), "masks= is 0"),
        (lambda: Sise.parse("mu", "most"), "mu= is 'most'"),
        (lambda: IntegratedGradients.parse("baseline", "blue"), "baseline= is 'blue'"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        build()


def test_reading_text() -> None:
    assert Sise.parse("passes", "64") == 64 and Sise.parse("passes", "none") is None
    assert Sise.parse("mu", "adaptive") == "adaptive" and Sise.parse("mu", "0.25") == 0.25
    assert ExtremalPerturbation.parse("areas", "0.1,0.2") == (0.1, 0.2)
    assert IntegratedGradients.parse("baseline", "white") == "white"
    assert Sise.parse("deadline", "0.5") == 0.5


def test_words_for_tables() -> None:
    assert Sise().label == "sise mu=0" and Sise().heading == "SISE, μ = 0"
    assert Sise("adaptive").label == "sise mu=adaptive" and Sise("adaptive").heading == "Ada-SISE"
    assert Sise("adaptive", Budget(passes=9)).heading == "SISE, μ = adaptive, passes = 9"
    assert Rise().label == "rise" and Rise(masks=10).label == "rise masks=10"
    assert Rise(masks=10).heading == "RISE, masks = 10"


def test_each_method_says_what_its_parameters_do() -> None:
    for method in METHODS.values():
        text = inspect.getdoc(method) or ""
        for f in dataclasses.fields(method):
            assert f"{f.name} : " in text, (method, f.name)


@dataclass(frozen=True)
class Brightness(Method):
    """A user's own method, which is in no register: the picture itself, by half of its values."""

    name = "brightness"
    title = "Brightness"
    source = "here"
    price = "nothing"
    signed = False

    power: float = 1.0

    def explain(self, model: Any, image: Any, questions: Sequence[Question], call: Call) -> Attributions:
        call.report(1, 1)
        known, whole = model.settle(questions, image)
        heat = (model.network_input(image)[0].mean(axis=0) / 2 + 0.5) ** self.power
        return Attributions([Attribution(q, heat) for q in known], whole, 1)


def test_a_method_of_a_users_own(explainer: sise_ort.Explainer, frame: Any, sigmoid_bundle: Path) -> None:
    seen = []
    result = explainer.explain(frame, method=Brightness(2.0), progress=lambda *steps: seen.append(steps))
    expected = (frame.mean(axis=2) / 255) ** 2
    np.testing.assert_allclose(result.heatmap, expected, atol=1e-5)
    assert result.caption.startswith("Brightness: ") and seen == [(1, 1)]
    assert result.parameters == {"power": 2.0} and result.timings["explain"] > 0
    with pytest.raises(TargetError, match="brightness takes absolute values"):
        sise_ort.load(sigmoid_bundle, provider="cpu").explain(frame, "not:ant", method=Brightness())


def test_only_the_default_is_left_out_of_names(explainer: sise_ort.Explainer, frame: Any) -> None:
    ours, other = explainer.explain(frame), explainer.explain(frame, method=GradCam())
    assert ours.caption.startswith(ours.label) and ours.name_with_method("a") == "a"
    assert other.caption.startswith("Grad-CAM: ") and other.name_with_method("a") == "a-gradcam"


def test_a_graph_that_is_missing(explainer: sise_ort.Explainer, frame: Any) -> None:
    with pytest.raises(BundleError, match=r"method fullgrad needs full_gradient\.onnx"):
        explainer.explain(frame, method="fullgrad")


def test_questions() -> None:
    """Values and scores of two classes, one of them asked for its absence, against the definition."""
    z = np.array([[0.5, -2.0, 40.0], [3.0, 1.0, -40.0]], np.float32)
    confidence = 1 / (1 + np.exp(-z))
    present, absent = Question.of_class(1), Question.of_class(2, absent=True)
    rather = Question.of_class(1, other=0)
    found = class_answers(Head("sigmoid", 3), [present, absent, rather], z, confidence)
    np.testing.assert_array_equal(found.psi[0], confidence[:, 1])
    np.testing.assert_allclose(found.psi[1], [np.exp(-40.0) / (1 + np.exp(-40.0)), 1.0], rtol=1e-12)
    np.testing.assert_array_equal(found.score[:2], [z[:, 1], -z[:, 2]])
    np.testing.assert_allclose(found.psi[2], 1 / (1 + np.exp([2.5, 2.0])), rtol=1e-12)
    np.testing.assert_array_equal(found.score[2], [-2.5, -2.0])
    assert rather.words(["a", "b", "c"]) == "b rather than a"
    assert (present.words(["a", "b", "c"]), absent.words([])) == ("b", "not class 2")
    top = Question.of_class()
    assert top.index == -1 and top.known(z[0]) == Question.of_class(2) and present.known(z[0]) is not top
    assert absent.known(z[1]) == absent
