"""Writes docs/commands.md: the help of every command, as `--help` prints it. Run from anywhere; needs no extra."""

from __future__ import annotations

from pathlib import Path

import click

from sise_ort.cli.main import COMMANDS, main

PAGE = Path(__file__).with_name("commands.md")
HEAD = "# Commands\n\nWhat `--help` prints, written by `python docs/write_commands.py`.\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD, _section("sise-ort", main, None)]
    with click.Context(main, info_name="sise-ort") as parent:
        for name in COMMANDS:
            command = main.get_command(parent, name)
            assert command is not None
            parts.append(_section(name, command, parent))
            if isinstance(command, click.Group):
                with click.Context(command, info_name=name, parent=parent) as group:
                    parts += [
                        _section(f"{name} {sub}", command.commands[sub], group) for sub in command.commands
                    ]
    return "\n".join(parts)


def _section(name: str, command: click.Command, parent: click.Context | None) -> str:
    settings = {"terminal_width": 100, "max_content_width": 100, "help_option_names": ["-h", "--help"]}
    context = click.Context(command, info_name=name.split()[-1], parent=parent, **settings)  # type: ignore[arg-type]
    return f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
