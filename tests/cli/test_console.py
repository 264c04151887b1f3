"""What reaches a terminal: every character of a name, but no code and no markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sise_ort.cli import console

HARMFUL = "[red]ant[/red] \x1b[31m\x07\ud800 [/]"
SHOWN = r"[red]ant[/red] \x1b[31m\x07\ud800 [/]"


def test_messages_and_tables_carry_no_codes(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"  note: {HARMFUL}")
    console.print_table([HARMFUL, "n"], [[HARMFUL, 3], ["b", 10]], right=(1,))
    out, err = capsys.readouterr()
    assert err == f"  note: {SHOWN}\n"
    width = len(SHOWN)
    assert out.splitlines() == [f"{SHOWN}   n", f"{SHOWN}   3", f"{'b':{width}}  10"]


def test_a_table_on_a_terminal_shows_markup_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(
        console, "Console", lambda: Console(file=file, force_terminal=True, width=200, color_system=None)
    )
    console.print_table([HARMFUL], [[HARMFUL]])
    assert [line.rstrip() for line in file.getvalue().splitlines()] == [SHOWN, SHOWN]


def test_a_bar_shows_a_name_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(console, "errors", terminal)
    with console.progress_bar(HARMFUL) as update:
        assert update is not None
        update(1, 2)
    assert SHOWN in file.getvalue() and "\x1b[31m" not in file.getvalue() and "\x07" not in file.getvalue()
