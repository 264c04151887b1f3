"""The built-in demo: what it finds, and the page that it writes."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import sise_ort
from sise_ort.cli import demo, demo_page
from sise_ort.cli.main import main
from sise_ort.errors import DatasetError


def test_demo(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    page = tmp_path / "out" / "index.html"
    assert done.stdout.splitlines()[-1] == str(page)
    text = html.unescape(page.read_text(encoding="utf-8"))
    assert not re.findall(r'(?:src|href)="(?!data:)', text)  # nothing from elsewhere

    drawn = demo.FACTS["strips"]
    assert sum(len(kinds) for kinds in drawn.values()) >= 4 and [] in drawn.values()
    records = [json.loads(p.read_text()) for p in sorted((tmp_path / "out").glob("*.json"))]
    for strip, kinds in drawn.items():
        seen = [r for r in records if Path(r["source"]).stem == strip]
        assert {r["label"] for r in seen if r["confidence"] > 0.5} == set(kinds)
        for record in seen:
            assert record["frame_size"] == [256, 800]
            if record["label"] in kinds:
                mask = next(s for s in demo.drawn_strips() if s.name == strip).masks[record["label"]](
                    256, 800
                )
                heat = sise_ort.read_heatmap(tmp_path / "out" / f"{strip}.{record['label']}.npz")
                assert (heat * mask).sum() / heat.sum() > 3 * mask.mean()

    assert text.count('<figure class="view"') == len(records)
    assert (
        text.count("a blind guess reaches") >= sum(map(len, drawn.values())) and "Masks</b>: to find" in text
    )
    for record in records:
        assert f"maximum stands for {100 * record['confidence']:.1f} %" in text
    pictures = re.findall(r"<img[^>]*>", text)
    assert len(pictures) == 3 * len(records) and all(re.search(r'alt="[^"]{20,}"', p) for p in pictures)


def strip_result(heat: Any, confidence: float) -> Any:
    """What the page needs of an explanation."""
    frame = np.full((*heat.shape, 1), 90, np.uint8)
    return SimpleNamespace(
        caption="scabs", confidence=confidence, label="scabs", frame=frame, frame_heatmap=heat, mask_counts=(3, 4),
        timings={"total": 1.0},
    )  # fmt: skip


def test_the_words_under_a_map() -> None:
    """An eighth of the heat lies in a mask that covers an eighth; the map is strongest in the last column."""
    heat = np.zeros((8, 16), np.float32)
    heat[0, 0], heat[:, 15] = 0.25, [1, 0, 0, 0, 0, 0, 0, 0.75]
    mask = np.zeros((8, 16), bool)
    mask[0, :] = True
    mask[0, 15] = False
    mask[1, 0] = True
    found = demo_page.view(demo.Verdict("a", ["scabs"], strip_result(heat, 0.5), mask))
    assert found.found == (
        "The map's maximum stands for 50.0 %; 12 % of the heat is on the defect, a blind guess reaches 12.5 %. 7 masks."
    )
    assert found.peak == "1.000" and "strongest at the right" in found.map_words
    cells = demo_page.row(demo.Verdict("a", ["scabs"], strip_result(heat, 0.06), mask))
    assert cells == ["a", "scabs", "sound (most: scabs)", "12.5 %", "12.5 %", "1 ×", "7", "1.0"]
    unknown = demo_page.row(demo.Verdict("a", None, strip_result(heat, 0.9), None))
    assert unknown[1:6] == ["not known", "scabs", "–", "–", "–"]


def test_one_scale_dims_the_map_of_an_unlikely_defect() -> None:
    """On the scale of all maps, a map of probability 0.06 is the overlay of a heat of 0.06."""
    heat = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(16, 0)
    found = demo_page.view(demo.Verdict("a", None, strip_result(heat, 0.06), None))

    def colour(address: str) -> float:
        data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(int)
        return float(np.ptp(pixels[:, -8:], axis=2).mean())

    assert colour(found.strip) < 3 < colour(found.common) < 0.4 * colour(found.own)


def test_strips_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no pictures"):
        demo.own_strips(tmp_path)
    for k in range(demo.MOST + 2):
        cv2.imwrite(str(tmp_path / f"s{k:02d}.png"), np.full((8, 16), 9 * k, np.uint8))
    strips = demo.own_strips(tmp_path)
    assert [s.name for s in strips] == [f"s{k:02d}" for k in range(demo.MOST)]
    assert all(s.masks is None for s in strips)


def test_strips_of_severstal(tmp_path: Path) -> None:
    """Two defects of one strip, a strip of another kind, a sound one: each once, with its masks by kind."""
    (tmp_path / "train_images").mkdir()
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / "train_images" / f"{name}.jpg"), np.full((4, 6), 90, np.uint8))
    (tmp_path / "train.csv").write_text(
        "ImageId,ClassId,EncodedPixels\na.jpg,1,1 4\na.jpg,3,9 2\nb.jpg,4,24 1\n"
    )
    found = {strip.name: strip for strip in demo.own_strips(tmp_path)}
    assert {name: set(s.masks or {}) for name, s in found.items()} == {
        "a": {"pitted", "scratches"}, "b": {"scabs"}, "c": set(),
    }  # fmt: skip
    first, third = (found["a"].masks[kind](4, 6) for kind in ("pitted", "scratches"))
    assert first.sum() == 4 and first[:, 0].all() and third.sum() == 2 and third[0:2, 2].all()


def test_a_bundle_of_the_users_own_stays(tmp_path: Path) -> None:
    sise_ort.export(demo.STEEL / "steel.onnx", tmp_path / "steel.sise", mean=3, std=9)
    before = (tmp_path / "steel.sise" / "manifest.json").read_bytes()
    done = CliRunner().invoke(main, ["demo", "-o", str(tmp_path)])
    assert done.exit_code == 1 and "name another folder with -o" in done.output.replace("\n", " ")
    assert (tmp_path / "steel.sise" / "manifest.json").read_bytes() == before


def test_a_bundle_of_the_demo_is_replaced(tmp_path: Path) -> None:
    sise_ort.export(demo.STEEL / "steel.onnx", tmp_path / "steel.sise", mean=demo.MEAN, std=demo.STD)
    demo._require_own(tmp_path / "steel.sise")


def test_the_model_is_small() -> None:
    assert (demo.STEEL / "steel.onnx").stat().st_size < 3e6
