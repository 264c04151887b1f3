"""One sample of an evaluation: whatever goes wrong is a problem of that sample; what every sample would meet stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import sise_ort
from sise_ort.datasets import Sample
from sise_ort.datasets.dataset import Box
from sise_ort.errors import FrameError, MissingDependencyError, OutOfMemoryError, OutputError, ParameterError
from sise_ort.runtime.evaluation import Plan
from sise_ort.runtime.evaluation import work as module
from sise_ort.runtime.evaluation.plan import variants
from sise_ort.runtime.evaluation.work import Outcome, Task, work
from sise_ort.runtime.explainer import Explainer


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> Explainer:
    return sise_ort.load(tiny_bundle, provider="cpu", batch_size=4)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return path


def done(explainer: Explainer, sample: Sample, gallery: Path | None = None) -> Outcome:
    plan = Plan("b", variants(["gradcam", "scorecam"]), ("ebpg", "drop"))
    return work(explainer, plan, Task(sample, plan.variants, gallery), "here")


def words(outcome: Outcome) -> list[str]:
    return [str(problem) for problem in outcome.problems]


def test_a_sound_sample(explainer: Explainer, picture: Path, tmp_path: Path) -> None:
    outcome = done(explainer, Sample("a", picture, 1, (Box(5, 5, 30, 30, None, "a.xml", 1),)), tmp_path / "g")
    assert [row["variant"] for row in outcome.rows] == ["gradcam", "scorecam"] and not outcome.problems
    assert {row["conditions"] for row in outcome.rows} == {"here"}
    assert len(list((tmp_path / "g").iterdir())) == 3
    assert outcome.files[0][0] == picture.stat().st_size


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_pictures_that_cannot_be_read(explainer: Explainer, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    outcome = done(explainer, Sample("a", tmp_path / "a.png", 1))
    assert not outcome.rows and len(outcome.problems) == 1 and words(outcome)[0].startswith("a: ")


def test_a_truth_that_does_not_fit(explainer: Explainer, picture: Path) -> None:
    outcome = done(explainer, Sample("a", picture, 1, (Box(0, 0, 500, 500, None, "a.xml", 7),)))
    assert not outcome.rows and words(outcome)[0].startswith("a.xml:7: the box")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FrameError("not finite"), "a: gradcam: not finite"),
        (OutOfMemoryError("the device is full"), "a: gradcam: the device is full"),
        (MemoryError(), "a: gradcam: there is not enough memory"),
        (KeyError("x"), "a: gradcam: this is a bug in sise-ort, please report it: KeyError: 'x'"),
    ],
)
def test_one_method_that_fails_leaves_the_others(
    explainer: Explainer, picture: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    explain = explainer.explain

    def failing(frame: Any, target: Any, **more: Any) -> Any:
        if more["method"] == "gradcam":
            raise error
        return explain(frame, target, **more)

    monkeypatch.setattr(explainer, "explain", failing)
    outcome = done(explainer, Sample("a", picture, 1))
    assert words(outcome) == [expected] and [row["variant"] for row in outcome.rows] == ["scorecam"]


@pytest.mark.parametrize("error", [ParameterError("areas"), MissingDependencyError("pycocotools")])
def test_what_every_sample_would_meet_stops(
    explainer: Explainer, picture: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(explainer, "explain", failing)
    with pytest.raises(type(error)):
        done(explainer, Sample("a", picture, 1))


def test_a_gallery_that_cannot_be_written_leaves_the_rows(
    explainer: Explainer, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    outcome = done(explainer, Sample("a", picture, 1), tmp_path / "file")
    assert len(outcome.rows) == 2 and len(outcome.problems) == 3
    assert all("not in the gallery: cannot write" in text for text in words(outcome))

    def failing(*_: Any, **__: Any) -> Any:
        raise OutputError("cannot be drawn")

    monkeypatch.setattr(module, "write_file", failing)
    outcome = done(explainer, Sample("a", picture, 1), tmp_path / "gallery")
    assert len(outcome.rows) == 2 and words(outcome) == ["a: not in the gallery: cannot be drawn"] * 3
