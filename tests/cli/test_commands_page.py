"""docs/commands.md holds the help of every command as it is now."""

from __future__ import annotations

import write_commands

from sise_ort.cli.main import COMMANDS


def test_the_page_is_what_help_prints() -> None:
    # else: python docs/write_commands.py
    assert write_commands.PAGE.read_text(encoding="utf-8") == write_commands.page()


def test_every_command_has_its_section_and_options() -> None:
    page = write_commands.page()
    for name in COMMANDS:
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f"Usage: sise-ort {name} " in section and "--help" in section
