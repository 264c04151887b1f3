"""Replaying: the same bits again on the same machine, and what differs is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import sise_ort
from sise_ort.cli.main import main
from sise_ort.errors import OutputError, ParameterError
from sise_ort.line.evidence import Evidence, Part, making
from sise_ort.line.evidence.finding import Kept, one
from sise_ort.line.replay import open_bundle, replay


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> Iterator[sise_ort.Explainer]:
    with sise_ort.load(tiny_bundle, provider="cpu") as opened:
        yield opened


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    with Evidence(tmp_path / "evidence") as opened:
        yield opened


def keep(
    evidence: Evidence, explainer: sise_ort.Explainer, frame: Any, targets: list[int], **parameters: Any
) -> Kept:
    """Explain a frame and keep its record, as a line does."""
    results = explainer.explain(frame, targets, **parameters)
    said, files = [], [making.frame_file(frame)]
    for number, result in enumerate(results, 1):
        explained, drawn = making.explained(result, number)
        said.append(explained)
        files += drawn
    part = Part(
        line="north",
        part_id="48213",
        decision="rejected",
        explanations=tuple(said),
        picture=making.picture(frame),
        model=explainer.model.record(),
        versions=making.versions(str(explainer.model.record()["onnxruntime"])),
        machine=making.machine(),
    )
    evidence.add(part, files)
    return one(evidence, "48213")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"mu": 0.3},
        {"passes": 6},
        {"passes": 0},
        {"tolerance": 0.05},
        {"deadline": 30.0},
        {"method": "gradcam"},
    ],
    ids=str,
)
def test_the_same_bits_again(
    evidence: Evidence, explainer: sise_ort.Explainer, frame: Any, parameters: dict[str, Any]
) -> None:
    kept = keep(evidence, explainer, frame, [1, 2], **parameters)
    found = replay(evidence, kept, explainer)
    assert found.verdict == "same" and found.expected and not found.differences
    assert [r.label for r in found.repeated] == ["bee", "cat"]
    for repeated in found.repeated:
        assert repeated.largest <= 2**-11 and repeated.correlation > 0.9999 and repeated.then == repeated.now


def test_what_a_deadline_left_time_for_is_scored_again(
    evidence: Evidence, explainer: sise_ort.Explainer, frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rounds of the record are repeated, not those that today's clock would allow."""
    from sise_ort.runtime.methods.budget.limits import Allowance

    sizes = iter([5, 3, 1])
    with monkeypatch.context() as patch:
        patch.setattr(
            Allowance, "next_round", lambda *_: ((size := next(sizes, 0)), "" if size else "deadline")
        )
        patch.setattr(Allowance, "fits", lambda *_: True)
        kept = keep(evidence, explainer, frame, [1], deadline=0.5)
    assert kept.part.explanations[0].facts["rounds"] == [5, 3, 1]
    assert kept.part.explanations[0].facts["stopped_by"] == "deadline"
    found = replay(evidence, kept, explainer)
    assert found.verdict == "same" and sum(found.explanations[0].mask_counts) == 9
    all_at_once = msgspec.structs.replace(
        kept.part.explanations[0], facts={**kept.part.explanations[0].facts, "rounds": [9]}
    )
    other = Kept(kept.number, kept.link, msgspec.structs.replace(kept.part, explanations=(all_at_once,)))
    assert replay(evidence, other, explainer).verdict != "same"  # the rounds matter


def test_files_of_any_size_are_replayed(
    evidence: Evidence, explainer: sise_ort.Explainer, rng: np.random.Generator, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), rng.integers(0, 256, (70, 90, 3), np.uint8))
    kept = keep(evidence, explainer, tmp_path / "a.jpg", [0])
    (tmp_path / "a.jpg").unlink()
    assert replay(evidence, kept, explainer).verdict == "same"


def test_another_map_is_noticed(
    evidence: Evidence, explainer: sise_ort.Explainer, frame: Any, rng: np.random.Generator
) -> None:
    """The record's map is that of another picture; on the same machine even a like map is not what is expected."""
    kept = keep(evidence, explainer, frame, [1])
    noise = np.clip(frame.astype(np.int16) + rng.integers(-1, 2, frame.shape), 0, 255).astype(np.uint8)
    for other, verdicts in ((noise, {"alike", "different"}), (frame[::-1].copy(), {"different"})):
        stored = making.frame_file(other)
        evidence.files.add(stored.stored().name, stored.content)
        files = tuple(stored.stored() if f.role == "frame" else f for f in kept.part.files)
        found = replay(
            evidence, Kept(1, kept.link, msgspec.structs.replace(kept.part, files=files)), explainer
        )
        assert found.verdict in verdicts and not found.expected


def test_what_differs_is_said(evidence: Evidence, explainer: sise_ort.Explainer, frame: Any) -> None:
    kept = keep(evidence, explainer, frame, [1])
    part = msgspec.structs.replace(
        kept.part,
        versions={**kept.part.versions, "onnxruntime": "1.0"},
        machine={**kept.part.machine, "processor": "another"},
        model={**kept.part.model, "provider": "cuda"},
    )
    found = replay(evidence, Kept(1, kept.link, part), explainer)
    assert [d.split(":")[0] for d in found.differences] == ["provider", "onnxruntime", "processor"]
    assert found.expected


def test_what_cannot_be_replayed_says_why(
    evidence: Evidence, explainer: sise_ort.Explainer, sigmoid_bundle: Path, frame: Any
) -> None:
    kept = keep(evidence, explainer, frame, [1])
    with sise_ort.load(sigmoid_bundle) as other, pytest.raises(ParameterError, match="this one has"):
        replay(evidence, kept, other)
    for facts, words in (
        ({"explanations": ()}, "has no map"),
        ({"files": kept.part.files[1:]}, "was not kept"),
        (
            {"explanations": (msgspec.structs.replace(kept.part.explanations[0], asked="a" * 64),)},
            "only explanations",
        ),
    ):
        changed = Kept(1, kept.link, msgspec.structs.replace(kept.part, **facts))
        with pytest.raises(ParameterError, match=words):
            replay(evidence, changed, explainer)
    name = kept.part.files[0].name
    path = Path(evidence.database.files_place) / name[:2] / name
    path.write_bytes(b"another")
    with pytest.raises(OutputError, match="was changed"):
        replay(evidence, kept, explainer)


def test_the_command(
    evidence: Evidence, explainer: sise_ort.Explainer, tiny_bundle: Path, frame: Any, tmp_path: Path
) -> None:
    kept = keep(evidence, explainer, frame, [1, 0])
    folder = tmp_path / "evidence"
    words = ["replay", str(folder), "48213", str(tiny_bundle), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].startswith("bee: the same, bit for bit; confidence")
    assert "record north:1: same" in result.stderr and len(list((tmp_path / "out").glob("*.npz"))) == 2
    with open_bundle(kept, tiny_bundle) as opened:
        assert opened.model.batch_size == kept.part.model["batch_size"] and opened.provider == "cpu"
    missing = CliRunner().invoke(main, ["replay", str(folder), "48214", str(tiny_bundle)])
    assert missing.exit_code == 2 and "no record is of a part '48214'" in missing.stderr
