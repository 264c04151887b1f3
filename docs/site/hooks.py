"""What MkDocs does to the pages: files outside docs/ that pages link to become pages, and links follow them."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
CONTRIBUTING = "contributing.md"
WITH_SYMBOLS = ("method.md", "budget.md")
"""Pages whose text has symbols with an index, such as α_k."""


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


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Formulas in LaTeX become MathML, which browsers draw by themselves: no script, no fonts, nothing from elsewhere."""
    if page.file.src_uri in WITH_SYMBOLS:
        content = _lowered(content)
    return re.sub(
        r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', _formula, content, flags=re.DOTALL
    )


def _lowered(content: str) -> str:
    """The indices of symbols in running text, as in α_k, set lower; code and formulas stay as they are."""
    parts = re.split(
        r'(<(?:pre|code)\b.*?</(?:pre|code)>|<(?:span|div) class="arithmatex">.*?</(?:span|div)>|<[^>]+>)',
        content,
        flags=re.DOTALL,
    )
    return "".join(
        part
        if part.startswith("<")
        else re.sub(r"(?<![\w])([^\W\d_])_([a-z0-9])(?!\w)", r"\1<sub>\2</sub>", part)
        for part in parts
    )


def _formula(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    drawn = convert(unescape(found[2]).strip(), display=display)
    return f'<{found[1]} class="formula">{drawn}</{found[1]}>'


def _name(link: re.Match[str]) -> str:
    text, path = link.groups()
    if not (ROOT / path).exists():
        return link.group()  # MkDocs then warns of a lost file
    return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"
