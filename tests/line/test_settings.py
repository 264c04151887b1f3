from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from sise_ort.errors import ParameterError, on_command_line
from sise_ort.line.server.models import named
from sise_ort.line.server.settings import Settings, is_loopback, read_token, require_token


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    require_token(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.example.org"])
def test_other_addresses_need_one(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ParameterError) as refused:
        require_token(host, None)
    assert "--token-file" in on_command_line(refused.value) and "SISE_ORT_TOKEN" in str(refused.value)
    require_token(host, "x" * 16)


def test_a_token_is_the_files_first_line(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("abcdefghijklmnop \nsecond line\n")
    assert read_token(file, None) == "abcdefghijklmnop"
    assert read_token(file, "x" * 20) == "abcdefghijklmnop"
    assert read_token(None, " " + "x" * 20) == "x" * 20
    assert read_token(None, None) is None
    for text in ("", "short", "with spaces in it all", "ümläuts-are-no-ascii"):
        file.write_text(text)
        for words in ((file, None), (None, text)):
            with pytest.raises(ParameterError, match="no token") as refused:
                read_token(*words)
            assert not text or text not in str(refused.value)
    with pytest.raises(ParameterError, match="cannot be read"):
        read_token(tmp_path / "missing", None)


def test_bundles_are_named(tiny_bundle: Path) -> None:
    assert named([str(tiny_bundle)]) == {"tiny": str(tiny_bundle)}
    assert named([f"a.b-1={tiny_bundle}", str(tiny_bundle)]) == {
        "a.b-1": str(tiny_bundle),
        "tiny": str(tiny_bundle),
    }
    for words, says in (
        ([str(tiny_bundle)] * 2, "two bundles"),
        ([f"a/b={tiny_bundle}"], "cannot stand in an address"),
        ([f"={tiny_bundle}"], "cannot stand in an address"),
        ([str(tiny_bundle), f"tiny-explain={tiny_bundle}"], "name the bundle otherwise"),
    ):
        with pytest.raises(ParameterError, match=says):
            named(words)


@pytest.mark.parametrize("field", ["queue", "max_upload", "request_seconds"])
def test_limits_are_positive(field: str) -> None:
    for value in (0, -1, float("nan"), float("inf"), "1"):
        with pytest.raises(ParameterError, match=field):
            Settings(**{field: value})
