"""How long a picture will take, told from its steps: with clocks that tests set, and paces that they know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny import tiny_model

import sise_ort
from sise_ort.estimate import Estimate
from sise_ort.runtime.methods import METHODS, Budget, Call, Sise
from sise_ort.runtime.methods.call import Forecast
from sise_ort.runtime.pace import Pace


class Watch:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Hearing:
    """A progress that keeps what it hears."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.expected: list[Estimate] = []
        self.when: list[int] = []

    def __call__(self, done: int, steps: int) -> None:
        self.steps.append((done, steps))

    def expect(self, estimate: Estimate) -> None:
        self.expected.append(estimate)
        self.when.append(len(self.steps))


def run(
    pace: Pace, steps: int, batch: int, times: list[float], before: float = 0.5, passes: int = 64
) -> Hearing:
    """A picture in batches that take the given seconds, the last of them on and on."""
    watch, heard = Watch(), Hearing()
    call = Call(heard, watch, watch.now, Forecast(pace, "step", "masks", passes))
    watch.now += before
    call.begin(steps)
    for number, done in enumerate(range(batch, steps + batch, batch)):
        watch.now += times[min(number, len(times) - 1)]
        call.report(min(done, steps), steps)
    assert call.estimate == (heard.expected[0] if heard.expected else None)
    return heard


def test_the_second_batch_of_the_first_picture_tells_the_time() -> None:
    heard = run(Pace(), steps=1904, batch=8, times=[9.0, 0.4])  # the first one warms up
    (estimate,) = heard.expected
    assert heard.when == [1]  # before the second report is passed on, and never again
    assert (estimate.steps, estimate.unit, estimate.passes) == (1904, "masks", 64)
    assert estimate.after == pytest.approx(0.5 + 9.0 + 0.4)
    assert estimate.seconds == pytest.approx(0.5 + 9.0 + 0.4 + (1904 - 16) * 0.05)
    assert estimate.passes_seconds == pytest.approx(0.5 + 64 * 0.05)


def test_a_later_picture_is_told_before_its_first_step() -> None:
    pace = Pace()
    run(pace, 80, 8, [9.0, 0.4])
    heard = run(pace, 800, 8, [0.8])
    (estimate,) = heard.expected
    assert heard.when == [0] and estimate.after == 0.5
    assert estimate.seconds == pytest.approx(0.5 + 800 * 0.05)
    assert [done for done, _ in heard.steps] == list(range(8, 801, 8))


def test_one_slow_batch_does_not_change_what_later_pictures_are_told() -> None:
    pace = Pace()
    run(pace, 80, 8, [9.0, 0.4, 0.4, 30.0, 0.4, 0.4])
    (estimate,) = run(pace, 800, 8, [0.4]).expected
    assert estimate.seconds == pytest.approx(0.5 + 800 * 0.05)


def test_no_estimate_where_it_would_come_too_late() -> None:
    assert not run(Pace(), steps=16, batch=8, times=[1.0]).expected  # known when all is done
    assert not run(Pace(), steps=5, batch=8, times=[1.0]).expected


def test_a_budget_is_no_advice_where_there_are_no_more_masks_than_passes() -> None:
    for steps, passes in ((65, 64), (64, 0), (40, 0)):
        (estimate,) = run(Pace(), steps, batch=8, times=[1.0]).expected
        assert estimate.passes == passes
    (estimate,) = run(Pace(), 800, 8, [1.0], passes=0).expected
    assert estimate.passes == 0 and estimate.passes_seconds == estimate.seconds


def test_steps_that_are_reported_without_a_beginning_are_measured_from_the_first_report_on() -> None:
    watch, heard = Watch(), Hearing()
    call = Call(heard, watch, watch.now, Forecast(Pace(), "step", "steps", 0))
    for done in (10, 20, 30):
        watch.now += 2.0
        call.report(done, 100)
    (estimate,) = heard.expected  # the first pair warms up, the second one counts
    assert estimate.seconds == pytest.approx(6 + 70 * 0.2)


def test_a_plain_function_and_none_are_progresses_too() -> None:
    seen: list[tuple[int, int]] = []
    for progress in (lambda *steps: seen.append(steps), None):
        call = Call(progress, forecast=Forecast(Pace(), "step", "steps", 0))
        call.begin(3)
        for done in (1, 2, 3):
            call.report(done, 3)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_parts_of_a_call_are_reported_as_one() -> None:
    heard = Hearing()
    call = Call(heard)
    for part in range(3):
        for done in (5, 10):
            call.part(part, 3).report(done, 10)
    assert heard.steps == [(5, 30), (10, 30), (15, 30), (20, 30), (25, 30), (30, 30)]


# Methods --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("call")
    onnx.save(tiny_model(seed=3, width=4), folder / "tiny.onnx")
    sise_ort.export(
        folder / "tiny.onnx", folder / "tiny.sise", normalize="tf", graphs=["head", "image-gradient"]
    )
    return folder / "tiny.sise"


@pytest.fixture
def explainer(bundle: Path) -> Any:
    with sise_ort.load(bundle, "cpu", batch_size=2) as found:
        yield found


def a_frame(rng: np.random.Generator) -> Any:
    return rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("method", "parameters", "unit"),
    [
        ("sise", {}, "masks"),
        ("rise", {"masks": 20}, "masks"),
        ("scorecam", {}, "masks"),
        ("integrated-gradients", {"steps": 9}, "steps"),
        ("extremal-perturbation", {"iterations": 5}, "iterations"),
    ],
)
def test_each_method_with_steps_tells_how_long_it_takes(
    explainer: Any, rng: np.random.Generator, method: str, parameters: dict[str, Any], unit: str
) -> None:
    heard = Hearing()
    results = explainer.explain(a_frame(rng), [0, 1], method=method, progress=heard, **parameters)
    (estimate,) = heard.expected
    done, steps = zip(*heard.steps, strict=True)
    assert len(set(steps)) == 1 and done[-1] == steps[0] and list(done) == sorted(set(done))
    assert (estimate.steps, estimate.unit) == (steps[0], unit)
    assert heard.when == [1]
    assert all(r.estimate == estimate for r in results)
    again = explainer.explain(a_frame(rng), method=method, progress=heard, **parameters)
    assert heard.when[1] == len(done) and again.estimate == heard.expected[1]  # before its first step


def test_ablation_cam_tells_it_from_its_second_picture_on(explainer: Any, rng: np.random.Generator) -> None:
    first, second = (explainer.explain(a_frame(rng), method="ablationcam") for _ in range(2))
    assert first.estimate is None  # two batches, and the first warms up
    assert second.estimate is not None and second.estimate.unit == "feature maps"


def test_methods_of_one_pass_and_budgets_with_a_clock_tell_nothing(
    explainer: Any, rng: np.random.Generator
) -> None:
    heard = Hearing()
    for _ in range(2):
        for parameters in ({"method": "gradcam"}, {"deadline": 1e3}, {"passes": 20, "tolerance": 1e-6}):
            assert explainer.explain(a_frame(rng), progress=heard, **parameters).estimate is None
    assert not heard.expected


def test_passes_are_advice_for_a_run_without_a_budget_alone() -> None:
    assert Sise().shorter == 64 and Sise(mu=0.3).shorter == 64
    for budget in (Budget(passes=500), Budget(deadline=1.0), Budget(tolerance=0.1), Budget(passes=0)):
        assert Sise(budget=budget).shorter == 0
    assert Sise(budget=Budget(passes=500)).foreseeable
    assert not Sise(budget=Budget(passes=500, deadline=1.0)).foreseeable
    assert [name for name, method in METHODS.items() if method().shorter] == ["sise"]


def test_pictures_that_share_batches_have_estimates_of_their_own(
    explainer: Any, rng: np.random.Generator
) -> None:
    heard = Hearing()
    frames = [a_frame(rng) for _ in range(4)]
    alone = [sum(explainer.explain(frame, mu=0.3).mask_counts) for frame in frames]
    results = list(explainer.explain_many(frames, progress=heard, mu=0.3))
    assert [r.estimate.steps for r in results] == alone
    assert [e.steps for e in heard.expected] == alone
    first, *others = (
        r.estimate for r in explainer.explain_many(frames, method="rise", masks=10, progress=heard)
    )
    assert [e.steps for e in (first, *others)] == [10] * 4 and first.after > 0


def test_the_record_has_the_time_and_what_was_estimated(explainer: Any, rng: np.random.Generator) -> None:
    frame = a_frame(rng)
    for _ in range(2):
        result = explainer.explain(frame)
    record = result.record()["duration"]
    assert record["seconds"] == round(result.timings["total"], 3)
    assert record["estimated_seconds"] == round(result.estimate.seconds, 3)
    assert record["estimate_known_after_seconds"] == round(result.estimate.after, 3)
    masks = sum(result.mask_counts)
    assert ("estimated_seconds_with_passes_64" in record) == (masks > 64)
    plain = explainer.explain(frame, method="gradcam").record()["duration"]
    assert set(plain) == {"seconds", "estimated_seconds"} and plain["estimated_seconds"] is None
    assert Estimate(900, "masks", 75.0, 1.0, 64, 4.0).record() == {
        "estimated_seconds": 75.0,
        "estimate_known_after_seconds": 1.0,
        "estimated_seconds_with_passes_64": 4.0,
    }
