"""The code blocks of README and of the how-tos run, in a folder with the files that they name."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from code_blocks import code_blocks, run_blocks
from page_files import PREPARED, write_inputs

import sise_ort

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "budget", "bundle", "detectors", "everywhere", "evidence", "frames", "install", "layers", "line", "methods", "preprocessing",
            "providers", "readouts", "refused", "segmentation", "threads", "trust", "tutorial",
        )
    ),
]  # fmt: skip
MARKED = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"docs/serving.md"}
"""Pages whose blocks run in tests of their own."""
WRITTEN = {
    "README.md": (
        "model.sise/manifest.json",
        "out/strip*.npz",
        "explanations/strip*.png",
        "explain.onnx",
        "model_repository",
        "report/index.html",
    ),
}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shell blocks are bash's")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a page: a network, its labels, pictures."""
    work = tmp_path / "work"
    work.mkdir()
    write_inputs(work)
    monkeypatch.chdir(work)
    return work


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page: str, folder: Path, capsys: Any) -> None:
    names: dict[str, Any] = {}
    if page != "README.md":  # it makes the bundle itself; the others have one
        sise_ort.export("model.onnx", "model.sise", normalize="imagenet", labels="names.txt")
        names = {"np": np, "sise_ort": sise_ort, "explainer": sise_ort.load("model.sise")}
    PREPARED.get(page, Path.exists)(folder)
    assert run_blocks(ROOT / page, names)
    for written in WRITTEN.get(page, ()):
        assert list(folder.glob(written)), f"{written} is not among {sorted(folder.rglob('*'))[:200]}"


@pytest.mark.parametrize("page", MARKED)
def test_every_block_runs_or_says_why_not(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [b.line for b in code_blocks(text) if not b.runs and not b.reason] == []
    assert text.count("<!-- not run: ") == len([b for b in code_blocks(text) if b.reason]), (
        "a comment stands alone"
    )
    runs = [b.line for b in code_blocks(text) if b.runs]
    assert not runs or page in PAGES or page in ELSEWHERE, "nobody runs the blocks of this page"


def test_the_tutorial_prepares_pictures_as_the_demo_does() -> None:
    from sise_ort.cli import demo

    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    told = re.findall(r"--mean (\S+) --std (\S+)", text)
    assert told == [(",".join(f"{v:g}" for v in demo.MEAN), ",".join(f"{v:g}" for v in demo.STD))]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_blocks_are_found() -> None:
    text = "a\n```python run\nx = 1\n```\n\n<!-- not run: no network -->\n```sh\nls\n```\n```text\nno\n```\n```sh\nrm\n```\n"
    first, second, third = code_blocks(text)
    assert (first.language, first.code, first.line, first.runs) == ("python", "x = 1\n", 3, True)
    assert (second.code, second.reason, second.runs) == ("ls\n", "no network", False)
    assert (third.code, third.reason, third.runs) == ("rm\n", None, False)


def test_a_block_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh run\nfalse\ntouch after\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md, line 4"):
        run_blocks(page, {})
    assert not (tmp_path / "after").exists()
    page.write_text("# Page\n\n```python run\nx = 1\nraise LookupError(x)\n```\n")
    with pytest.raises(LookupError) as caught:
        run_blocks(page, {})
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno) == (page, 4)
