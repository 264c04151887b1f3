"""Plans of an evaluation: names of variants, duplicates, contradictions, bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sise_ort.errors import ParameterError
from sise_ort.runtime.evaluation import METRICS, Plan, Variant
from sise_ort.runtime.evaluation.plan import bounded, file_key, variants

MU = st.floats(0, 1, exclude_max=True)


@given(MU, MU)
def test_different_thresholds_have_different_names(one: float, other: float) -> None:
    names = {variant.name for variant in variants(["sise"], [one, other])}
    assert len(names) == len({one + 0.0, other + 0.0})


@given(
    st.lists(st.floats(0.01, 0.9), min_size=1, max_size=4),
    st.lists(st.floats(0.01, 0.9), min_size=1, max_size=4),
)
def test_different_tuples_have_different_names(one: list[float], other: list[float]) -> None:
    a, b = (Variant("extremal-perturbation", {"areas": tuple(areas)}).name for areas in (one, other))
    assert (a == b) == (one == other)


@given(st.lists(st.sampled_from(["sise", "rise", "gradcam"]), min_size=1), st.lists(MU, max_size=4))
def test_every_variant_counts_once(methods: list[str], mus: list[float]) -> None:
    found = variants(methods, mus)
    assert len({v.name for v in found}) == len(found)
    sises = len({mu + 0.0 for mu in mus}) if mus else 1
    assert len(found) == len(set(methods)) - ("sise" in methods) + ("sise" in methods) * sises
    assert list(dict.fromkeys(v.method for v in found)) == list(dict.fromkeys(methods))
    assert Plan("b", found + found).variants == found


def test_words_that_mean_the_same_count_once() -> None:
    assert [v.name for v in variants(["sise", "sise"], [0.9, "0.90", 0.9], passes=[4, 4])] == [
        "sise mu=0.9",
        "sise mu=0.9 passes=4",
    ]
    assert Plan("b", variants(["sise"]), ("drop", "drop", "ebpg")).metrics == ("drop", "ebpg")


def test_without_a_threshold_sise_has_its_default() -> None:
    assert [v.name for v in variants(["sise"])] == ["sise mu=0"]
    assert [v.name for v in variants(["sise"], settings={"sise": {"mu": 0.5}})] == ["sise mu=0.5"]


@pytest.mark.parametrize("name", ["mu", "passes"])
def test_contradictions_are_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=f"{name}= and {name}= contradict each other"):
        variants(["sise"], [0.3], {"sise": {name: 0.5 if name == "mu" else 3}}, [8])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"metrics": ()}, "no metrics are given"),
        ({"metrics": ("iou",)}, "no metric 'iou'"),
        ({"steps": 0}, "steps= 0 is not a whole number from 1 to 10000"),
        ({"steps": 10**9}, "steps= 1000000000 is not a whole number from 1 to 10000"),
        ({"steps": 2.0}, "steps= 2.0 is not a whole number"),
        ({"gallery": -1}, "gallery= -1 is not a whole number from 0"),
        ({"explain": "all"}, 'explain= \'all\' must be "truth" or "top"'),
    ],
)
def test_plans_that_cannot_be(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        Plan("b", variants(["sise"]), **more)
    with pytest.raises(ParameterError, match="no methods are given"):
        Plan("b", ())


@pytest.mark.parametrize("value", [True, 1.0, "1", None, float("nan")])
def test_only_whole_numbers_are(value: Any) -> None:
    with pytest.raises(ParameterError, match="is not a whole number of at least 0"):
        bounded("limit", value, 0)


@given(st.text(st.characters(exclude_categories=())))
def test_keys_of_files_are_safe(words: str) -> None:
    assert file_key(words).isalnum() and len(file_key(words)) == 16


def test_settings_are_all_that_rows_depend_on() -> None:
    plan = Plan("b", variants(["sise"]), steps=8, class_map={"1": 2})
    settings = plan.settings("B", "D", "cpu", "fp32")
    assert settings["metrics"] == list(METRICS) and settings["the class map"] == {"1": 2}
    assert {"the bundle", "the data set", "steps", "the class to explain", "the provider"} <= set(settings)
