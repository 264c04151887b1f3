"""The options of sise-ort explain for Ray: what is refused before Ray is asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sise_ort.cli.main import main


def explain(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["explain", *map(str, arguments)])


def test_options_that_need_ray_say_so(tiny_bundle: Path) -> None:
    for words, says in (
        (("--workers", "2"), "--workers needs --ray"),
        (("--cores", "2"), "--cores needs --ray"),
        (("--gpus", "0.5"), "--gpus needs --ray"),
        (("--ray", "local", "--list"), "do not go together"),
    ):
        result = explain(tiny_bundle, "a.png", *words)
        assert result.exit_code == 2 and says in result.output, result.output


def test_without_the_extra_the_command_says_how_to_get_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = explain(tiny_bundle, "a.png", "--ray", "local")
    assert result.exit_code == 1 and "pip install 'sise-ort[ray]'" in result.output
