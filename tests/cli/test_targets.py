"""The options that say what to explain: what they mean together, and what they explain with bundles of every task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
import readout_networks as nets
from click.testing import CliRunner, Result

import sise_ort
from sise_ort.cli.main import main
from sise_ort.cli.targets import index_of, target_of
from sise_ort.targets import Detection, LikenessTo, RatherThan, Region, Value

NOTHING = {
    "labels": (), "indices": (), "rather_than": None, "region": None, "region_mask": None, "detections": (), "like": None,
    "values": (),
}  # fmt: skip
LABELS = ["ant", "bee", "cat", "dog"]
SMALL, WIDE = (32, 48), nets.detector_heads.SIZE
NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, int], list[str] | None]] = {
    "classes": (lambda: nets.Softmax(4, 1), SMALL, LABELS),
    "segmentation": (lambda: nets.UNet("softmax", 3), SMALL, LABELS),
    "detection": (nets.Yolo, WIDE, LABELS[:3]),
    "embedding": (lambda: nets.Unit(10, 6), SMALL, None),
    "value": (lambda: nets.Table(6, 8), SMALL, None),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("targets")

    def get(task: str) -> Path:
        path = folder / f"{task}.sise"
        if not path.exists():
            build, size, labels = NETWORKS[task]
            sise_ort.export(build().eval(), path, normalize="tf", input_size=size, task=task, labels=labels)
        return path

    return get


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    def get(name: str = "a.png", size: tuple[int, int] = SMALL, seed: int = 1) -> Path:
        data = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / name), cv2.GaussianBlur(data, (0, 0), 2))
        return tmp_path / name

    return get


def explain(bundle: Path, picture: Path, *words: object, out: str = "out") -> Result:
    call = [
        "explain",
        bundle,
        picture,
        *words,
        "--provider",
        "cpu",
        "--method",
        "refine",
        "--json",
        "-o",
        picture.parent / out,
    ]
    return CliRunner().invoke(main, [str(word) for word in call])


def records(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# What the options mean ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, None),
        ({"labels": ("bee",)}, ["bee"]),
        ({"labels": ("bee",), "indices": (2,)}, ["bee", 2]),
        ({"labels": ("positive",)}, "positive"),
        ({"labels": ("bee",), "rather_than": "ant"}, [RatherThan("bee", "ant")]),
        ({"indices": (1, 3), "rather_than": "0"}, [RatherThan(1, 0), RatherThan(3, 0)]),
        ({"rather_than": "runner-up"}, [RatherThan(None, None)]),
        ({"detections": ("0", "2")}, [Detection(0), Detection(2)]),
        ({"detections": ("bee",), "region": (1.0, 2.0, 30.0, 20.0)}, [Detection("bee", (1.0, 2.0, 30.0, 20.0))]),
        ({"detections": ("3", "ant"), "region": (1.0, 2.0, 3.0, 4.0)}, [Detection(3, (1.0, 2.0, 3.0, 4.0)), Detection("ant", (1.0, 2.0, 3.0, 4.0))]),
        ({"values": ("3", "0,2:5", ":")}, [Value((3,)), Value((0, slice(2, 5))), Value((slice(None, None),))]),
        ({"like": "b.png"}, LikenessTo("b.png")),
    ],
)  # fmt: skip
def test_what_is_meant(given: dict[str, Any], meant: Any) -> None:
    found = target_of({**NOTHING, **given})
    if isinstance(meant, LikenessTo):
        assert isinstance(found, LikenessTo) and found.frame == meant.frame
    else:
        assert found == meant


def test_regions() -> None:
    for classes in ((), ("bee", "ant")):
        found = target_of({**NOTHING, "labels": classes, "region": (1.0, 2.0, 30.0, 20.0)})
        assert [(type(r), r.target, r.box) for r in found] == [
            (Region, c, (1.0, 2.0, 30.0, 20.0)) for c in classes or (None,)
        ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"labels": ("positive", "bee")}, "--target positive stands alone"),
        ({"detections": ("0",), "like": "b.png"}, "--detection and --like do not go together"),
        ({"region": (0, 0, 1, 1), "values": ("3",)}, "--region or --region-mask and --value do not go together"),
        ({"region": (0, 0, 1, 1), "region_mask": "m.png"}, "--region and --region-mask do not go together"),
        ({"detections": ("0",), "labels": ("bee",)}, "--detection and --target do not go together"),
        ({"detections": ("bee",)}, "--detection 'bee' is no number of a detection .* a class needs its box, --region"),
        ({"detections": ("-1",)}, "--detection '-1' is no number of a detection"),
        ({"detections": ("bee",), "region_mask": "m.png"}, "--detection and --region-mask do not go together; --region gives a box"),
        ({"detections": ("bee",), "region": (0, 0, 1, 1), "values": ("3",)}, "--detection and --value do not go together"),
        ({"like": "b.png", "indices": (0,)}, "--like and --target do not go together"),
        ({"values": ("x",)}, "--value 'x' is no index such as 3, or 0,2:5"),
    ],
)  # fmt: skip
def test_contradictions(given: dict[str, Any], words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        target_of({**NOTHING, **given})


def test_places_as_numpy_writes_them() -> None:
    array = np.arange(60).reshape(3, 4, 5)
    for text, theirs in (
        ("1", array[1]),
        ("-1,2", array[-1, 2]),
        ("0,1:3", array[0, 1:3]),
        (":,:,::2", array[:, :, ::2]),
    ):
        assert array[index_of(text)].tolist() == theirs.tolist()
    for text in ("", ",", "1,", "a", "1:2:3:4", "1.5"):
        with pytest.raises(click.UsageError):
            index_of(text)


# What they explain ----------------------------------------------------------------------------------


def agrees(bundle: Path, picture: Path, words: list[Any], target: Any) -> list[dict[str, Any]]:
    """The command explains what Python explains: in words, with the same confidence and the same heat map."""
    found = records(explain(bundle, picture, *words))
    with sise_ort.load(bundle, provider="cpu") as explainer:
        theirs = explainer.explain(str(picture), target, method="refine")
    theirs = theirs if isinstance(theirs, list) else [theirs]
    assert len(found) == len(theirs)
    for record, expected in zip(found, theirs, strict=True):
        assert record["label"] == expected.label
        (saved,) = [file for file in record["files"] if file.endswith(".npz")]
        np.testing.assert_allclose(sise_ort.read_heatmap(saved), expected.frame_heatmap, atol=1e-3)
        assert record["confidence"] == pytest.approx(expected.confidence, rel=1e-6)
    return found


def test_rather_than(bundle: Any, picture: Any) -> None:
    (found,) = agrees(
        bundle("classes"), picture(), ["--target", "bee", "--rather-than", "ant"], [RatherThan("bee", "ant")]
    )
    assert found["label"] == "bee rather than ant"
    agrees(bundle("classes"), picture(), ["--rather-than", "runner-up"], [RatherThan()])


def test_a_region_and_a_mask(bundle: Any, picture: Any, tmp_path: Path) -> None:
    segmenter, frame = bundle("segmentation"), picture()
    (found,) = agrees(
        segmenter, frame, ["--target", "cat", "--region", "8,4,30,22"], [Region("cat", box=(8, 4, 30, 22))]
    )
    assert found["label"] == "cat in the box 8, 4, 30, 22"
    mask = np.zeros((*SMALL, 3), np.uint8)
    mask[4:22, 8:30, 1] = 9
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    (masked,) = agrees(
        segmenter,
        frame,
        ["--target-index", 2, "--region-mask", tmp_path / "mask.png"],
        [Region(2, mask=mask[:, :, 1])],
    )
    assert masked["label"] == "cat in a mask"
    assert masked["confidence"] == pytest.approx(found["confidence"], rel=1e-6)
    cv2.imwrite(str(tmp_path / "small.png"), mask[:8, :8])
    wrong = explain(segmenter, frame, "--region-mask", tmp_path / "small.png")
    assert wrong.exit_code == 1 and "the mask of the region is 8 × 8, the frame 32 × 48" in wrong.stderr


def test_a_region_that_is_not_seen_fails_alone(bundle: Any, picture: Any) -> None:
    frame = picture()
    wrong = explain(bundle("segmentation"), frame, "--region", "900,900,950,950")
    assert wrong.exit_code == 1 and f"{frame}: failed: the region is empty" in wrong.stderr
    assert "Traceback" not in wrong.output


def test_detections_and_their_list(bundle: Any, picture: Any) -> None:
    detector, frame = bundle("detection"), picture(size=WIDE)
    with sise_ort.load(detector, provider="cpu") as explainer:
        there = explainer.detections(str(frame))
    assert there
    words = ["explain", detector, frame, "--list", "--provider", "cpu"]
    listed = CliRunner().invoke(main, [str(word) for word in words])
    assert listed.exit_code == 0, listed.output
    lines = listed.stdout.splitlines()
    assert len(lines) == len(there)
    for line, one in zip(lines, there, strict=True):
        assert line.startswith(f"{frame}: {one.index}  {one.label}  {100 * one.confidence:.1f} %")
    as_json = CliRunner().invoke(main, [*(str(word) for word in words), "--json"])
    assert [json.loads(line)["index"] for line in as_json.stdout.splitlines()] == list(range(len(there)))
    (found,) = agrees(detector, frame, ["--detection", 0], [Detection(0)])
    assert found["label"].startswith(f"detection 0, {there[0].label} in the box")
    at = ",".join(f"{edge:.1f}" for edge in there[0].box)
    box = tuple(float(edge) for edge in at.split(","))
    words = ["--detection", there[0].label, "--region", at]
    (placed,) = agrees(detector, frame, words, [Detection(there[0].label, box)])
    assert placed["confidence"] == pytest.approx(there[0].confidence, rel=1e-5)
    gone = explain(detector, frame, "--detection", 9999)
    assert gone.exit_code == 1 and "there is no detection 9999" in gone.stderr


def test_likeness_and_values(bundle: Any, picture: Any) -> None:
    frame, other = picture(), picture("b.png", seed=2)
    (found,) = agrees(bundle("embedding"), frame, ["--like", other], LikenessTo(str(other)))
    assert found["label"].startswith("likeness to ")
    first, mean = agrees(
        bundle("value"), frame, ["--value", "1,2", "--value", "0"], [Value((1, 2)), Value((0,))]
    )
    assert first["label"].endswith("[1, 2]") and mean["label"].startswith("mean of ")
    wrong = explain(bundle("value"), frame, "--value", "7")
    assert wrong.exit_code == 1 and "is no place in it" in wrong.stderr


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        ("classes", ["--detection", "0"], "Detection does not go with a bundle of the task classes"),
        ("classes", ["--list"], "the bundle's task is classes: it has no detections"),
        ("segmentation", ["--value", "0"], "Value does not go with a bundle of the task segmentation"),
        ("value", ["--region", "0,0,4,4"], "Region does not go with a bundle of the task value"),
        ("value", ["--rather-than", "1"], "RatherThan does not go with a bundle of the task value"),
        ("embedding", [], "LikenessTo(picture)"),
        ("segmentation", ["--region", "0,0,4"], "a box is x0, y0, x1, y1"),
        ("segmentation", ["--region", "4,0,2,9"], "x0 < x1 and y0 < y1"),
    ],
)  # fmt: skip
def test_wrong_for_the_task(bundle: Any, picture: Any, task: str, words: list[str], message: str) -> None:
    result = explain(bundle(task), picture(), *words)
    assert result.exit_code in (1, 2), result.output
    assert message in result.stderr and "Traceback" not in result.stderr
