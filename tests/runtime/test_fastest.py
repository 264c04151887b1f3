"""Comparing providers side by side, and what provider auto remembers of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import sise_ort
from sise_ort.bundle import read_bundle
from sise_ort.cli.main import main
from sise_ort.errors import ProviderError
from sise_ort.runtime import fastest as fastest_module
from sise_ort.runtime.batch_sizes import cache_file, measure, measured_batch_size, remember
from sise_ort.runtime.fastest import (
    Timing,
    compare,
    drawn_picture,
    fastest,
    remember_provider,
    remembered_provider,
)


class Clock:
    """Time of which a second passes whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_providers_are_timed_in_turn(tiny_bundle: Path, frame: Any) -> None:
    """Round by round, so that whatever disturbs the machine disturbs all of them; the round that warms up does not count."""
    clock, order = Clock(), []

    def load(name: str, precision: str) -> Any:
        if name == "absent":
            raise ProviderError("it is absent")
        explainer = sise_ort.load(tiny_bundle, "cpu", batch_size=4)
        inner = explainer.explain

        def explain(picture: Any, **parameters: Any) -> Any:
            order.append(name)
            clock.now += {"cpu": 0.0, "quick": -0.5}[name]
            return inner(picture, **parameters)

        explainer.explain = explain  # type: ignore[method-assign, assignment]
        return explainer

    found = compare(
        [("absent", "auto"), ("quick", "auto")], load, [frame, frame[::-1]], rounds=3, clock=clock
    )
    assert [(t.provider, t.precision, t.reason) for t in found] == [
        ("cpu", "fp32", ""), ("quick", "fp32", ""), ("absent", "auto", "it is absent"),
    ]  # fmt: skip
    assert order[: 2 * 4] == ["cpu", "quick"] * 4
    cpu, quick, _ = found
    assert cpu.explanations == (1.0,) * 3 and quick.explanations == (0.5,) * 3
    assert cpu.passes == quick.passes == (0.25,) * 3  # of four masks at once
    assert cpu.correlations == quick.correlations == pytest.approx((1.0, 1.0))
    assert cpu.seconds == 1 and cpu.speed == 0.25


def test_heat_maps_are_compared_with_the_cpu(tiny_bundle: Path, frame: Any) -> None:
    def load(name: str, precision: str) -> Any:
        explainer = sise_ort.load(tiny_bundle, "cpu")
        if name == "negative":
            inner = explainer.explain

            def explain(picture: Any, **parameters: Any) -> Any:
                found = inner(picture, **parameters)
                object.__setattr__(found, "heatmap", 1 - found.heatmap)
                return found

            explainer.explain = explain  # type: ignore[method-assign, assignment]
        return explainer

    found = compare([("negative", "auto")], load, [frame], rounds=1)
    assert found[1].correlations == (pytest.approx(-1, abs=1e-6),)


def timing(provider: str, precision: str, *seconds: float, reason: str = "") -> Timing:
    return Timing(provider, precision, seconds, seconds, (1.0,), reason)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], "cpu"),
        ([timing("openvino", "bf16", 0.1)], "cpu"),  # never a lower precision
        ([timing("openvino", "fp32", 0.5), timing("openvino", "bf16", 0.1)], "openvino"),
        ([timing("openvino", "fp32", 0.97)], "cpu"),  # hardly faster
        ([timing("openvino", "fp32", 0.8, 0.8, 0.8, 3.0, 3.0)], "cpu"),  # not in four rounds of five
        ([timing("cuda", "auto", 0.001, reason="not installed")], "cpu"),
    ],
)
def test_the_fastest_in_full_precision(others: list[Timing], expected: str) -> None:
    rounds = len(others[0].passes) if others and not others[0].reason else 1
    assert fastest([timing("cpu", "fp32", *[1.0] * rounds), *others], "fp32").provider == expected


def test_auto_remembers(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bundle, machine, cores and onnxruntime; what no longer works is said, and not taken."""
    manifest = read_bundle(tiny_bundle)
    assert remembered_provider(manifest, None) is None
    cpu = sise_ort.load(tiny_bundle, "cpu")
    remember(manifest, cpu.model.provider, measure(cpu.model, [2], rounds=1))
    file = remember_provider(manifest, None, timing("cpu", "fp32", 1.0), [timing("cpu", "fp32", 1.0)])
    assert file == cache_file() and measured_batch_size(manifest, cpu.model.provider) == 2
    assert remembered_provider(manifest, None) == "cpu" and remembered_provider(manifest, 1) in (None, "cpu")
    words = "provider auto took cpu, which `sise-ort bench --providers all` found fastest here"
    assert sise_ort.load(tiny_bundle).notes[-1] == words
    assert words not in sise_ort.load(tiny_bundle, "cpu").notes

    remember_provider(manifest, None, timing("plugin:gone", "fp32", 0.1), [])
    explainer = sise_ort.load(tiny_bundle)
    assert explainer.provider == "cpu"
    assert (
        "plugin:gone, once measured to be faster, does not work now: the plug-in 'gone' is not installed"
        in explainer.notes[-1]
    )
    for damaged in ("[", '{"x": 1}', json.dumps({fastest_module._key(manifest, None): {"provider": 3}})):
        file.write_text(damaged)
        assert remembered_provider(manifest, None) is None


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[Path]:
    import cv2

    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(3):
        noise = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.GaussianBlur(noise, (0, 0), 3))
    (folder / "notes.txt").write_text("no picture")
    yield folder


def test_the_command(tiny_bundle: Path, photos: Path) -> None:
    run = CliRunner().invoke
    common = ["bench", str(tiny_bundle), "--rounds", "1", "--providers"]
    result = run(main, [*common, "cpu,cuda", "--pictures", str(photos)])
    assert result.exit_code == 0, result.output
    head, row = result.stdout.splitlines()
    assert head.startswith("provider  precision  ms a pass") and row.split()[:2] == ["cpu", "fp32"]
    assert row.split()[-1] == "auto" and "1.0000" in row
    assert "provider auto takes cpu from now on" in result.stderr
    assert "not measured: cuda: " in result.stderr and "say little" not in result.stderr
    result = run(main, [*common, "all", "--json"])
    record = json.loads(result.stdout)
    assert record["auto"] in [m["provider"] for m in record["measured"]] and record["pictures"] == 0
    assert {"cuda", "tensorrt"} <= set(record["not_measured"]) and Path(record["file"]) == cache_file()
    assert "say little" in run(main, [*common, "cpu"]).stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--providers", "all", "--provider", "cpu"], "leave --provider and --precision out"),
        (["--pictures", "x"], "add --providers all"),
        (["--providers", "all", "--pictures", "nowhere"], "cannot read the folder 'nowhere'"),
        (["--precision", "bf17"], "bf17"),
    ],
)
def test_options_that_contradict_each_other(tiny_bundle: Path, options: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["bench", str(tiny_bundle), *options])
    assert result.exit_code != 0 and words in result.output


def test_a_folder_without_pictures(tiny_bundle: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["bench", str(tiny_bundle), "--providers", "cpu", "--pictures", str(tmp_path)]
    )
    assert result.exit_code != 0 and "holds no pictures" in result.output


def test_the_drawn_picture_is_a_frame(tiny_bundle: Path) -> None:
    manifest = read_bundle(tiny_bundle)
    picture = drawn_picture(manifest)
    assert picture.shape == (32, 48, 3) and picture.dtype == np.uint8 and picture.std() > 20
    assert sise_ort.load(tiny_bundle, "cpu").explain(picture).heatmap.max() > 0
