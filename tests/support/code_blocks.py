"""The code blocks of a Markdown page: which are marked to run, which say why they are not, and running them.

A block whose first line is "```python run" or "```sh run" is run, in the page's order. Every other block of Python or shell has
a comment in the line above it, ``<!-- not run: the reason -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w+)(?P<mark> run)?\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LANGUAGES = {"python", "sh", "bash"}


@dataclass(frozen=True)
class CodeBlock:
    """One fenced block of a page.

    Attributes
    ----------
    language : str
        "python", "sh" or "bash".
    code : str
        What stands between the fences.
    line : int
        Line of the page in which the code begins.
    runs : bool
        Whether it is marked to run.
    reason : str or None
        Why it does not run.
    """

    language: str
    code: str
    line: int
    runs: bool
    reason: str | None


def code_blocks(text: str) -> list[CodeBlock]:
    """All blocks of Python and shell in a page's text."""
    found = []
    for match in FENCE.finditer(text):
        if match["language"] in LANGUAGES:
            line = text.count("\n", 0, match.start("code")) + 1
            found.append(
                CodeBlock(match["language"], match["code"], line, bool(match["mark"]), match["reason"])
            )
    return found


def run_blocks(page: Path, names: dict[str, Any]) -> int:
    """Run the marked blocks of a page in the working folder, and return how many there were.

    Python blocks share `names`; each error names the page and its line. In shell blocks `sise-ort` and `python` are this
    interpreter's, and the first command that fails ends the block.
    """
    count = 0
    for block in code_blocks(page.read_text(encoding="utf-8")):
        if not block.runs:
            continue
        count += 1
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            env=_environment(), capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{page.name}, line {block.line}:\n{block.code}\n{done.stderr}"
    return count


def _environment() -> dict[str, str]:
    """This interpreter's commands before all others, whether its environment is active or not."""
    tools = Path(".tools").absolute()
    if not tools.exists():
        tools.mkdir()
        starts = {"python": "", "sise-ort": "-c 'from sise_ort.cli.main import main; main()'"}
        for name, arguments in starts.items():
            (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            (tools / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
