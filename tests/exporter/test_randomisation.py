"""Heat maps of shuffled weights: which weights are shuffled, and what the manifest and the command say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from tiny import tiny_model

import sise_ort
from sise_ort.bundle import Randomisation, bundle_digest, open_bundle, parse_manifest
from sise_ort.cli.main import main
from sise_ort.errors import ExportError, ParameterError
from sise_ort.exporter.randomisation import MOST_LIKENESS, layer_groups, shuffle

PREPARED = {"normalize": "tf", "labels": ["ant", "bee", "cat", "1"]}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, wide enough that all its layers have weights in weights.bin."""
    path = tmp_path_factory.mktemp("wide") / "wide.onnx"
    onnx.save(tiny_model(width=8), path)
    return path


def test_groups_are_the_layers_weights(wide: Path, tmp_path: Path) -> None:
    sise_ort.export(wide, tmp_path / "wide.sise", **PREPARED)
    bundle = open_bundle(tmp_path / "wide.sise")
    source = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(wide).graph.initializer}
    content = bytes(bundle.contents["weights.bin"])
    groups = layer_groups(bundle)
    assert [name for name, _ in groups][-1] == "head" and len(groups) == 4
    for (_, places), names in zip(groups, (("w1",), ("w2",), ("w3",), ("fc",)), strict=True):
        held = [np.frombuffer(content[place], np.float32) for place in places]
        assert [one.size for one in held if one.ndim and one.size > 256] == [source[n].size for n in names]
        for name in names:
            assert any(np.array_equal(np.sort(source[name], axis=None), np.sort(one)) for one in held)


def test_shuffled_numbers_are_the_same_numbers_elsewhere(rng: np.random.Generator) -> None:
    numbers = np.arange(64, dtype=np.float32)
    weights = bytearray(numbers.tobytes())
    shuffle(weights, [slice(64, 128)], rng)
    after = np.frombuffer(bytes(weights), np.float32)
    assert np.array_equal(np.sort(after[16:32]), numbers[16:32])
    assert not np.array_equal(after[16:32], numbers[16:32])
    assert np.array_equal(np.delete(after, np.s_[16:32]), np.delete(numbers, np.s_[16:32]))


def test_figures_stand_in_the_manifest(wide: Path, pictures: Path, tmp_path: Path) -> None:
    plain = sise_ort.export(wide, tmp_path / "plain.sise", **PREPARED)
    checked = sise_ort.export(
        wide, tmp_path / "checked.sise", check=pictures / "ant", most_likeness=1, **PREPARED
    )
    assert plain.randomisation is msgspec.UNSET and "randomisation" not in plain.to_json()
    found = checked.randomisation
    assert isinstance(found, Randomisation)
    assert found.groups[0] == "head" and len(found.groups) == len(found.correlations) == 4
    assert found.pictures == 4 and found.source == "ant"  # four of the five can be read
    assert found.correlations[-1] < 0.999  # the maps have changed
    assert open_bundle(tmp_path / "checked.sise").manifest == checked
    assert checked.files == plain.files  # the bundle's own weights stay as they were


def test_a_map_that_stays_refuses_the_bundle(wide: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="all weights shuffled") as refused:
        sise_ort.export(wide, tmp_path / "bad.sise", check=pictures / "ant", most_likeness=-1, **PREPARED)
    assert "most_likeness=" in str(refused.value) and not (tmp_path / "bad.sise").exists()


def test_weights_that_do_nothing_leave_the_maps_as_they_are(
    wide: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sise_ort.exporter.randomisation.shuffle", lambda *_: None)
    with pytest.raises(ExportError, match=r"correlate with the model's own by 1\.000"):
        sise_ort.export(wide, tmp_path / "same.sise", check=pictures / "ant", **PREPARED)


def test_manifests_without_the_field_load_with_the_same_digest(tiny_bundle: Path) -> None:
    text = (tiny_bundle / "manifest.json").read_text(encoding="utf-8")
    assert "randomisation" not in text
    manifest = parse_manifest(text.encode(), tiny_bundle)
    assert manifest.randomisation is msgspec.UNSET
    assert manifest.to_json() == text
    figures = Randomisation(("head",), (0.2,), 3, "pictures", "sise", MOST_LIKENESS)
    changed = msgspec.structs.replace(manifest, randomisation=figures)
    assert bundle_digest(changed) != bundle_digest(manifest)
    assert parse_manifest(changed.to_json().encode(), tiny_bundle) == changed
    with pytest.raises(ValueError, match="correlations for"):
        Randomisation(("head", "a"), (0.2,), 3, "pictures", "sise", 0.5)


@pytest.mark.parametrize("given", [{"most_likeness": 2}, {"most_likeness": True}, {"check": 3}])
def test_values_out_of_range_are_refused(wide: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(given))):
        sise_ort.export(wide, tmp_path / "no.sise", **given, **PREPARED)


def test_a_folder_without_pictures_is_refused(wide: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises((ParameterError, sise_ort.DatasetError)):
        sise_ort.export(wide, tmp_path / "no.sise", check=tmp_path / "none", **PREPARED)


def test_the_command_says_the_figures(wide: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = [
        "export", wide, "-o", tmp_path / "c.sise", "--normalize", "tf", "--check", pictures / "bee", "--most-likeness", 1,
    ]  # fmt: skip
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    assert "correlate with the model's by" in done.stderr and "(head)" in done.stderr
