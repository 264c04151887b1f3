"""Pages: what strangers wrote into labels and names stays text; the colours are those of the overlays."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sise_ort.pages import Figure, Section, data_uri, render
from sise_ort.pages.colors import HEAT
from sise_ort.pages.rendering import TEMPLATES


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and the text outside of <style>."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self._style = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._style = tag == "style"
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words += data


def evaluation_page(label: str) -> Reader:
    content = render(
        "evaluation.html",
        title=label,
        table=(["method", label], [[label, "1"]]),
        legend="values",
        recommendation=label,
        differences=(["method"], [[label]]),
        statements=[label],
        plots=[Figure("plot.png", label)],
        sections=[Section(label, (Figure("a.jpg", label, label, wide=True),))],
        problems=[label],
    )
    reader = Reader()
    reader.feed(content.decode())
    reader.close()
    return reader


PLAIN = evaluation_page("plain")


@given(st.text(st.characters(exclude_categories=()), min_size=1).filter(str.strip))
def test_any_label_stays_text(label: str) -> None:
    """Whatever a label holds, the page has the tags and the attributes' names of a plain one."""
    reader = evaluation_page(label)
    assert reader.tags == PLAIN.tags
    assert [name for name, _ in reader.attributes] == [name for name, _ in PLAIN.attributes]


@pytest.mark.parametrize(
    "label",
    ["<script>alert(1)</script>", "a\" onload='x'", "</title><b>", "&amp;", "{{ 7 * 7 }}", "{% raw %}"],
)
def test_markup_is_shown_as_written(label: str) -> None:
    reader = evaluation_page(label)
    assert "script" not in reader.tags and reader.words.count(label) == PLAIN.words.count("plain")


def test_what_cannot_be_seen_is_written_out() -> None:
    reader = evaluation_page("a\x1b[31mb\ud800\u202ec\x00")
    assert reader.words.count("a\\x1b[31mb\\ud800\\u202ec\\x00") == PLAIN.words.count("plain")
    for label in ("crane · 👩‍🔧 Kratzer äöü 傷", "عيب"):
        assert evaluation_page(label).words.count(label) == PLAIN.words.count("plain")


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(Exception, match="'narrowest' is undefined"):
        render("demo.html", title="t", sections=[])


def test_nothing_comes_from_elsewhere() -> None:
    for path in TEMPLATES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "http:" not in text and "https:" not in text and "|safe" not in text
        assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=[\"']?(?!data:)[^{\"'#]", text)


def test_only_pages_that_compute_or_ask_have_scripts() -> None:
    """The demo's page has a slider, the explainer's computes, the server's asks; these two forbid every other address."""
    scripted = {
        path.name for path in TEMPLATES.glob("*.html") if "<script" in path.read_text(encoding="utf-8")
    }
    assert scripted == {"demo.html", "explainer.html", "serve.html"}
    policy = re.search(
        r'http-equiv="Content-Security-Policy" content="([^"]*)"', (TEMPLATES / "explainer.html").read_text()
    )
    assert policy is not None and policy[1].startswith("default-src 'none';") and "//" not in policy[1]


def test_the_scale_has_the_colours_of_overlays() -> None:
    """The overlay paints heat x with turbo's level 60 + 195 x."""
    levels = np.rint(60 + 195 * np.linspace(0, 1, len(HEAT))).astype(np.uint8)
    colors = cv2.applyColorMap(levels[None], cv2.COLORMAP_TURBO)[0][:, ::-1]
    assert tuple("#" + bytes(color).hex() for color in colors) == HEAT


def test_data_uris_hold_the_file() -> None:
    assert data_uri(b"\xff\xd8") == "data:image/jpeg;base64,/9g="


def test_templates_are_package_data() -> None:
    """Every template's ending is covered by the pattern in pyproject.toml."""
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"sise_ort.pages" = ["templates/*"]' in text
    assert all(path.is_file() for path in TEMPLATES.iterdir())
