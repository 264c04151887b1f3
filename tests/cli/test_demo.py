"""The built-in demo: what it finds, and the page that it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import CliRunner

import sise_ort
from sise_ort.cli import demo
from sise_ort.cli.main import main


def test_demo(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    page = tmp_path / "out" / "index.html"
    assert done.stdout.splitlines()[-1] == str(page)
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', text)  # nothing from elsewhere

    drawn = json.loads((demo.STEEL / "strips.json").read_text())
    assert sum(len(kinds) for kinds in drawn.values()) >= 4 and [] in drawn.values()
    records = [json.loads(p.read_text()) for p in sorted((tmp_path / "out").glob("*.json"))]
    for strip, kinds in drawn.items():
        seen = [r for r in records if Path(r["source"]).stem == strip]
        assert {r["label"] for r in seen if r["confidence"] > 0.5} == set(kinds)
        for record in seen:
            assert record["frame_size"] == [256, 800]
            if record["label"] in kinds:
                mask = demo._mask(strip, record["label"])
                heat = sise_ort.read_heatmap(tmp_path / "out" / f"{strip}.{record['label']}.npz")
                assert (heat * mask).sum() / heat.sum() > 3 * mask.mean()


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
