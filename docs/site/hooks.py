"""What MkDocs does to the pages: files outside docs/ that pages link to become pages, and links follow them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
CONTRIBUTING = "contributing.md"


def on_files(files: Files, config: Any) -> Files:
    """CONTRIBUTING.md as a page of the site; its links to docs/ become links beside it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files.append(File.generated(config, CONTRIBUTING, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Adapt a page's links and code blocks.

    Links to CONTRIBUTING.md lead to its page, links to other files outside docs/ become the file's name. The mark of blocks
    that tests run is for tests, not for readers.
    """
    markdown = re.sub(
        r"^```(\w+) run$", r"```\1", markdown, flags=re.MULTILINE
    )  # a mark for tests, not for readers
    markdown = markdown.replace("](../CONTRIBUTING.md", f"]({CONTRIBUTING}")
    return re.sub(r"\[([^\]]*)\]\(\.\./([^)#]+)\)", _name, markdown)


def _name(link: re.Match[str]) -> str:
    text, path = link.groups()
    if not (ROOT / path).exists():
        return link.group()  # MkDocs then warns of a lost file
    return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"
