"""SISE within a budget: its sketch against torch, its limits by counting."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_sise
import torch
import torch.nn.functional as F
from tiny import tiny_model

import sise_ort
from sise_ort.errors import ParameterError
from sise_ort.formulas.resampling import cell_means
from sise_ort.formulas.sketch import grid
from sise_ort.metrics import correlation
from sise_ort.readouts import Question
from sise_ort.runtime.methods import Attributions, Budget, Call, Sise
from sise_ort.runtime.methods.scoring import Masks

Array = Any


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> sise_ort.Explainer:
    """Three blocks with 32, 48 and 64 maps; about half of them speak for a class."""
    import onnx

    folder = tmp_path_factory.mktemp("budget")
    onnx.save(tiny_model(seed=3, width=4), folder / "tiny.onnx")
    sise_ort.export(folder / "tiny.onnx", folder / "tiny.sise", normalize="tf")
    return sise_ort.load(folder / "tiny.sise", provider="cpu", batch_size=4)


def test_cells() -> None:
    np.testing.assert_allclose(cell_means(2, 3), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    for cells, length in ((14, 224), (14, 225), (5, 5), (1, 9)):
        matrix = cell_means(cells, length)
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        np.testing.assert_allclose(matrix.sum(axis=0), cells / length)
    assert grid(224, 224) == (14, 14) and grid(256, 1600) == (6, 35) and grid(3, 3000) == (1, 443)


def test_sketch_against_torch(explainer: sise_ort.Explainer, frame: Any) -> None:
    model = explainer.model
    extracted = model.extract(model.upload(frame), [0, 2], 1.0)
    wanted = [np.array([1, 4, 7]), np.array([], np.int64), np.arange(64)]
    sketch = model.sketch(extracted.features, wanted, extracted.pooled_gradients[-1])
    rows, columns = grid(32, 48)
    spec = explainer.manifest.input
    found = 0
    for maps, index in zip(extracted.features, wanted, strict=True):
        for k in index:
            a = torch.tensor(maps.numpy()[0, k].astype(np.float64))
            extent = a.max() - a.min()
            mask = (a - a.min()) / torch.clamp(extent, min=1e-30)
            wide = F.interpolate(mask[None, None], size=(32, 48), mode="bilinear", align_corners=False)[0, 0]
            down, across = (torch.tensor(cell_means(c, n)) for c, n in ((rows, 32), (columns, 48)))
            np.testing.assert_allclose(sketch.cells[found], (down @ wide @ across.T), atol=1e-5)
            assert sketch.extent[found] == pytest.approx(float(extent), rel=1e-5)
            rough = mask.diff(dim=0).abs().mean() + mask.diff(dim=1).abs().mean()
            np.testing.assert_allclose(sketch.texture[found], [rough, (mask**2).mean()], atol=1e-5)
            found += 1
    assert found == len(sketch.cells) and sketch.pixels == spec.height * spec.width
    last = torch.tensor(extracted.features[-1].numpy()[0].astype(np.float64))
    for alpha, evidence in zip(extracted.pooled_gradients[-1], sketch.evidence, strict=True):
        cam = torch.relu(torch.einsum("n,nhw->hw", torch.tensor(alpha.astype(np.float64)), last))
        wide = F.interpolate(cam[None, None], size=(32, 48), mode="bilinear", align_corners=False)[0, 0]
        expected = (down @ wide @ across.T).numpy()
        np.testing.assert_allclose(evidence, expected, atol=1e-5 * max(1.0, expected.max()))


def test_masks_in_one_row() -> None:
    chosen = [
        np.array([[1, 0, 1], [0, 0, 1]], bool),
        np.array([[0, 0], [0, 0]], bool),
        np.array([[0, 1], [1, 0]], bool),
    ]
    masks = Masks.of(chosen)
    assert masks.block.tolist() == [0, 0, 2, 2] and masks.index.tolist() == [0, 2, 0, 1]
    assert [w.tolist() for w in masks.wanted] == [[0, 2], [], [0, 1]]
    assert masks.chosen.tolist() == [[True, True, False, True], [False, True, True, False]]
    assert masks.counts() == [(2, 0, 1), (1, 0, 1)] and masks.counts([1, 2]) == [(1, 0, 0), (1, 0, 1)]
    assert masks.gather([np.array([5, 6, 7]), np.array([8, 9]), np.array([3, 4])]).tolist() == [5, 7, 3, 4]
    weights = masks.weights(np.array([[2.0, 1.0, 0.0, 4.0]]), np.array([1.0, 2.0, 1.0, 8.0]))
    assert [w.tolist() for w in weights] == [[[1.0, 0.0, 0.25]], [[0.0, 0.0]], [[0.0, 1.0]]]


def test_enough_passes_change_nothing(explainer: sise_ort.Explainer, frame: Any) -> None:
    full = explainer.explain(frame)
    count = sum(full.mask_counts)
    assert count > 8
    for passes in (count, 1000):
        result = explainer.explain(frame, passes=passes)
        assert result.heatmap.tobytes() == full.heatmap.tobytes() and result.notes == full.notes
        assert result.facts == {} and result.forward_passes == full.forward_passes
    # with a deadline that never comes, all masks are scored too, in another order
    result = explainer.explain(frame, deadline=1e4)
    rounds = result.facts["rounds"]  # so that the same can be done again
    assert sum(rounds) == count and result.facts == {
        "masks": count, "scored": count, "agreement": 1.0, "stopped_by": "complete", "rounds": rounds,
    }  # fmt: skip
    np.testing.assert_allclose(result.heatmap, full.heatmap, atol=1e-4)
    assert result.notes == full.notes


@pytest.mark.parametrize("passes", [1, 3, 8, 11])
def test_passes_are_kept(explainer: sise_ort.Explainer, frame: Any, passes: int) -> None:
    result, again = (explainer.explain(frame, passes=passes) for _ in range(2))
    assert result.forward_passes == 1 + passes and sum(result.mask_counts) == passes
    assert result.facts["scored"] == passes and result.facts["stopped_by"] == "passes"
    assert 0 < result.facts["agreement"] < 0.9999  # a few answers are never enough to be sure
    assert any("the others predicted" in note for note in result.notes)
    assert result.heatmap.tobytes() == again.heatmap.tobytes()
    assert result.heatmap.max() == 1.0 and result.heatmap.min() >= 0.0 and result.heatmap.shape == (32, 48)
    other = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=1).explain(frame, passes=passes)
    assert (
        other.forward_passes == 1 + passes
    )  # the batch changes when the process learns, not what it may spend


def test_prediction_beats_leaving_out(explainer: sise_ort.Explainer) -> None:
    """On eight pictures, half of the masks and a prediction are nearer to the full map than the paper's threshold with
    as many masks, and the more are scored the nearer."""
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[0:32, 0:48]
    ours, theirs = [], []
    for _ in range(8):
        y, x, a, b = rng.uniform(3, 9, 4)
        waves = 128 + 90 * np.sin(rows / y + a)[..., None] * np.cos(columns[..., None] / np.array([x, b, 6]))
        picture = np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)
        full = explainer.explain(picture)
        count = sum(full.mask_counts)
        maps = [explainer.explain(picture, passes=n).heatmap for n in (count // 2, count - 1)]
        ours.append([correlation(m, full.heatmap) for m in maps])
        few = next(
            r for mu in np.linspace(0, 0.99, 100)
            if sum((r := explainer.explain(picture, mu=float(mu))).mask_counts) <= count // 2
        )  # fmt: skip
        theirs.append(correlation(few.heatmap, full.heatmap))
    half, nearly = np.mean(ours, axis=0)
    assert nearly > half > np.mean(theirs)
    assert nearly > 0.98


def test_no_pass_at_all(explainer: sise_ort.Explainer, frame: Any) -> None:
    """The pooled gradients are the weights then."""
    result = explainer.explain(frame, 2, passes=0)
    assert result.forward_passes == 1 and result.facts["scored"] == 0 and result.facts["agreement"] is None
    assert any("pooled gradients alone" in note for note in result.notes)
    model = explainer.model
    extracted = model.extract(model.upload(frame), [2], 1.0)
    maps = []
    for alpha, features, span in zip(
        extracted.pooled_gradients, extracted.features, extracted.spans, strict=True
    ):
        weight = np.where((alpha[0] > 0) & (span > 1e-5), alpha[0], 0.0).astype(np.float64)
        summed = np.tensordot(weight, features.numpy()[0], 1)
        maps.append(reference_sise.mask_of(summed, (32, 48)) if np.ptp(summed) > 0 else None)
    np.testing.assert_allclose(result.heatmap, reference_sise.fuse(maps), atol=1e-4)


class Watch:
    """A clock that only moves when work is done."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, model: Any, mask: float, finish: float, each: float = 0.0
    ) -> None:
        self.now, self.batches = 100.0, []
        self.mask, self.finish, self.each = mask, finish, each  # each : of a finish, per question
        score_maps, fuse = model.score_maps, model.fuse

        def slow_scores(picks: Any) -> Any:
            self.batches.append(sum(len(pick.index) for pick in picks))
            self.now += self.mask * self.batches[-1]
            return score_maps(picks)

        def slow_fuse(features: Any, weights: Any) -> Any:
            self.now += self.finish + self.each * len(weights[0])
            return fuse(features, weights)

        monkeypatch.setattr(model, "score_maps", slow_scores)
        monkeypatch.setattr(model, "fuse", slow_fuse)

    def __call__(self) -> float:
        return self.now


def run_with(
    explainer: sise_ort.Explainer, frame: Any, budget: Budget, watch: Watch, elapsed: float = 0.02
) -> Attributions:
    """SISE within a budget, `elapsed` seconds after the explanation began."""
    model = explainer.model
    call = Call(clock=watch, started=watch() - elapsed)
    return Sise(budget=budget).explain(model, model.upload(frame), [Question.of_class(2)], call)


def masks_of(run: Attributions) -> int:
    """Masks scored for the first question."""
    return sum(run.answers[0].mask_counts)


@pytest.mark.parametrize(("deadline", "least"), [(0.10, 3), (0.14, 6), (0.16, 8)])
def test_deadline(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch, deadline: float, least: int
) -> None:
    fresh = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=4)
    watch = Watch(monkeypatch, fresh.model, mask=0.01, finish=0.02)
    for _ in range(3):  # the first time, the pace is not known
        began = watch.now
        run = run_with(fresh, frame, Budget(deadline=deadline), watch)
        assert run.answers[0].facts["stopped_by"] == "deadline"
        assert watch.now - began + 0.02 <= deadline + 1e-9
        assert masks_of(run) == sum(watch.batches)
        assert (
            watch.now - began + 0.02 > deadline - 0.01 - 0.02
        )  # and no more than a mask and a finish is left over
        watch.batches.clear()
    assert masks_of(run) >= least


def test_deadline_shorter_than_a_mask(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = sise_ort.load(explainer.model.folder, provider="cpu")
    watch = Watch(monkeypatch, fresh.model, mask=1.0, finish=0.02)
    fresh.model.pace.note("mask", 9.0)  # the first warms up
    fresh.model.pace.note("mask", 1.0)
    run = run_with(fresh, frame, Budget(deadline=0.5), watch)
    assert masks_of(run) == 0 and not watch.batches and run.answers[0].facts["stopped_by"] == "deadline"
    assert run.answers[0].heatmap.max() == 1.0


def test_an_accident_is_forgotten(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round that took far too long must not keep all later ones from being tried."""
    fresh = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=4)
    watch = Watch(monkeypatch, fresh.model, mask=0.01, finish=0.02)
    for seconds in (0.01, 0.01, 60.0):
        fresh.model.pace.note("mask", seconds)
    masks = [masks_of(run_with(fresh, frame, Budget(deadline=0.2), watch)) for _ in range(2)]
    assert masks[0] == 0 and masks[1] > 8


def test_accidents_in_a_row_are_forgotten(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out for lack of time is not measured again, so that its times must not be believed for ever."""
    fresh = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=4)
    watch = Watch(monkeypatch, fresh.model, mask=0.01, finish=0.02)
    for seconds in (0.0, *[60.0] * 8):
        fresh.model.pace.note("mask", seconds)
    budget = Budget(deadline=0.2, tolerance=1e-9)
    masks = [masks_of(run_with(fresh, frame, budget, watch)) for _ in range(12)]
    assert masks[0] == 0 and masks[-1] > 8


def test_warm_up(explainer: sise_ort.Explainer) -> None:
    fresh = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=4)
    assert fresh.model.pace.cautious("mask", -1.0) == fresh.model.pace.cautious("finish", -1.0) == -1.0
    fresh.warm_up()
    assert fresh.model.pace.cautious("mask", -1.0) > 0 and fresh.model.pace.cautious("finish", -1.0) > 0


@pytest.mark.parametrize("accident", ["finish", "mask"])
def test_one_hiccup_empties_no_budget(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch, accident: str
) -> None:
    """A finish or a batch that once takes 100 times as long: the budgets after it are as full as those before."""
    fresh = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=4)
    watch = Watch(monkeypatch, fresh.model, mask=0.01, finish=0.02)
    counts = []
    for turn in range(12):
        watch.finish, watch.mask = 0.02, 0.01
        if turn == 6:
            setattr(watch, accident, 100 * getattr(watch, accident))
        began = watch.now
        counts.append(masks_of(run_with(fresh, frame, Budget(deadline=0.2), watch)))
        assert turn == 6 or watch.now - began + 0.02 <= 0.2 + 1e-9
    assert min(counts[7:]) >= min(counts[2:6]) > 8


def test_a_step_is_noticed(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that takes three times as long from some moment on: two explanations are late at most, then none."""
    fresh = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=4)
    watch = Watch(monkeypatch, fresh.model, mask=0.01, finish=0.02)
    late = []
    for turn in range(14):
        if turn == 6:
            watch.mask, watch.finish = 0.03, 0.06
        began = watch.now
        assert masks_of(run_with(fresh, frame, Budget(deadline=0.3), watch)) > 2
        late.append(watch.now - began + 0.02 > 0.3 + 1e-9)
    assert not any(late[:6]) and sum(late[6:8]) <= 2 and not any(late[8:])


def test_a_drift_is_followed(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that takes 5 % longer each time: no deadline is missed by more than the drift of two explanations."""
    fresh = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=4)
    watch = Watch(monkeypatch, fresh.model, mask=0.01, finish=0.02)
    for _ in range(25):
        began = watch.now
        run_with(fresh, frame, Budget(deadline=0.3), watch)
        assert watch.now - began + 0.02 <= 0.3 + 0.11 * watch.finish
        watch.mask, watch.finish = 1.05 * watch.mask, 1.05 * watch.finish


def test_a_deadline_counts_the_questions(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finishing four questions takes four times as long as one: known from one, kept with four, and the other way round."""
    fresh = sise_ort.load(explainer.model.folder, provider="cpu", batch_size=4)
    watch = Watch(monkeypatch, fresh.model, mask=0.005, finish=0.0, each=0.03)
    for turn, questions in enumerate(
        (1, 1, 4, 4, 1, 4)
    ):  # the first warms up, the second is the first measured
        began = watch.now
        model = fresh.model
        call = Call(clock=watch, started=watch() - 0.02)
        asked = [Question.of_class(k) for k in range(questions)]
        run = Sise(budget=Budget(deadline=0.25)).explain(model, model.upload(frame), asked, call)
        assert turn < 2 or watch.now - began + 0.02 <= 0.25 + 1e-9
        assert watch.now - began + 0.02 > 0.25 - 0.05 or run.answers[0].facts["stopped_by"] == "complete"
        assert sum(watch.batches) >= 8
        watch.batches.clear()


def test_deadline_and_passes_together(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = sise_ort.load(explainer.model.folder, provider="cpu")
    watch = Watch(monkeypatch, fresh.model, mask=0.001, finish=0.0)
    run = run_with(fresh, frame, Budget(passes=5, deadline=10.0), watch, elapsed=0.001)
    assert masks_of(run) == 5 and run.answers[0].facts["stopped_by"] == "passes"


def test_tolerance_stops_early(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sise_ort.runtime.methods.budget.limits.FIRST_ROUND", 4)
    monkeypatch.setattr("sise_ort.runtime.methods.budget.limits.ROUND", 2)
    """The map that is given lies as near to the full one as was asked, though the search cannot see the full one; a
    tolerance that nothing but the full map can keep scores all masks."""
    full = explainer.explain(frame)
    results = [explainer.explain(frame, tolerance=tolerance) for tolerance in (0.2, 0.05, 0.01)]
    for tolerance, result in zip((0.2, 0.05, 0.01), results, strict=True):
        assert result.facts["stopped_by"] == "tolerance"
        assert 1 - tolerance <= result.facts["agreement"] < 1
        assert correlation(result.heatmap, full.heatmap) > 1 - 1.5 * tolerance
    scored = [sum(result.mask_counts) for result in results]
    assert scored[0] < scored[1] < scored[2] < sum(full.mask_counts)
    strict = explainer.explain(frame, tolerance=1e-9)
    assert strict.facts["stopped_by"] == "complete" and strict.mask_counts == full.mask_counts
    np.testing.assert_allclose(strict.heatmap, full.heatmap, atol=1e-4)


def test_several_classes_share_a_budget(explainer: sise_ort.Explainer, frame: Any) -> None:
    together = explainer.explain(frame, [0, 1, 2], passes=12)
    assert {r.forward_passes for r in together} == {13}
    full = explainer.explain(frame, [0, 1, 2])
    for few, all_of_them in zip(together, full, strict=True):
        assert few.facts["masks"] == sum(all_of_them.mask_counts)
        assert few.facts["scored"] == sum(few.mask_counts) <= 12
        assert correlation(few.heatmap, all_of_them.heatmap) > 0.5


@pytest.mark.parametrize("head", ["sigmoid", "none"])
def test_other_heads(tmp_path: Path, frame: Any, head: str) -> None:
    import onnx

    onnx.save(tiny_model(seed=4, width=4), tmp_path / "tiny.onnx")
    sise_ort.export(tmp_path / "tiny.onnx", tmp_path / "tiny.sise", normalize="tf", head=head)
    explainer = sise_ort.load(tmp_path / "tiny.sise", provider="cpu")
    full = explainer.explain(frame, 1)
    result = explainer.explain(frame, 1, passes=sum(full.mask_counts) - 2)
    assert correlation(result.heatmap, full.heatmap) > 0.9


def test_nothing_speaks_for_the_class(
    explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No candidate: the same zero map and notes as without a budget."""
    model = explainer.model
    image = model.upload(frame)
    extracted = model.extract(image, [0], 1.0)
    silent = dataclasses.replace(
        extracted, pooled_gradients=[-np.abs(alpha) for alpha in extracted.pooled_gradients]
    )
    monkeypatch.setattr(model, "extract", lambda *_: silent)
    run = Sise(budget=Budget(passes=4)).explain(model, image, [Question.of_class(0)], Call())
    assert not run.answers[0].heatmap.any() and run.forward_passes == 1
    assert any("no evidence" in note for note in run.answers[0].notes)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"passes": -1}, "passes= is -1"),
        ({"passes": 2.5}, "passes= is 2.5"),
        ({"deadline": 0.0}, "deadline= in seconds is 0.0"),
        ({"deadline": "soon"}, "deadline= in seconds is 'soon'"),
        (
            {"deadline": float("inf")},
            "deadline= in seconds is inf; it must be a number over 0, at most 86400",
        ),
        ({"deadline": float("nan")}, "deadline= in seconds is nan"),
        ({"deadline": 1e300}, "deadline= in seconds is 1e[+]300"),
        ({"deadline": 10**400}, "deadline= in seconds is a whole number of 1329 bits"),
        ({"passes": 10**11}, "passes= is 100000000000; it must be a whole number from 0 to 1000000"),
        ({"passes": 10**9999}, "passes= is a whole number of 33216 bits"),
        ({"tolerance": 1.0}, "tolerance= is 1.0"),
    ],
)
def test_what_a_budget_cannot_be(
    explainer: sise_ort.Explainer, frame: Any, parameters: Any, words: str
) -> None:
    with pytest.raises(ParameterError, match=words):
        explainer.explain(frame, **parameters)
