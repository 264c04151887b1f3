"""sise-ort serve: what is refused before anything listens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sise_ort.cli.main import main


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["serve", *map(str, arguments)])


def test_without_the_extra_the_command_says_how_to_get_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("sise_ort.line")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = run(tiny_bundle)
    assert result.exit_code == 1 and "pip install 'sise-ort[serve]'" in result.output


def test_what_cannot_be_served_is_one_error(tiny_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("fastapi")
    monkeypatch.delenv("SISE_ORT_TOKEN", raising=False)
    short = tmp_path / "token"
    short.write_text("short")
    for arguments, code, says in (
        ((tmp_path / "missing.sise",), 1, "there is no bundle"),
        ((tiny_bundle, tiny_bundle), 2, "two bundles are named 'tiny'"),
        ((tiny_bundle, "--host", "0.0.0.0"), 2, "--token-file"),
        ((tiny_bundle, "--token-file", short), 2, "no token"),
        ((tiny_bundle, "--queue", "0"), 2, "--queue"),
        ((tiny_bundle, "--host", "192.0.2.1", "--token-file", tmp_path / "none"), 2, "cannot be read"),
        ((), 2, "BUNDLE"),
    ):
        result = run(*arguments)
        assert result.exit_code == code and says in result.output, (arguments, result.output)
        assert "Traceback" not in result.output
