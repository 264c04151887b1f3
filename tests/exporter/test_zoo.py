"""Models of torchvision and timm: what docs/models.md says of them. The fast ones by default, all of them as slow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import zoo

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
FAST = ["alexnet", "shufflenet_v2_x0_5", "mnasnet0_5", "convnext_tiny", "timm:lcnet_050", "timm:mobileone_s0",
        "timm:ghostnet_100", "timm:resnest14d", "timm:convnextv2_atto", "timm:eca_nfnet_l0"]  # fmt: skip


def rows() -> dict[str, tuple[str, str]]:
    """Model -> blocks and verdict, as published."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 7 and cells[0] not in ("model", "---"):
            found[re.sub(r" \(\d+\)$", "", cells[0])] = (cells[2], cells[-1])
    return found


PUBLISHED = rows()


@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in PUBLISHED if n not in FAST)]
)
def test_model(name: str) -> None:
    """Blocks as published; every block's gradient and the scores as torch computes them; an explanation."""
    row = zoo.measure(name)
    assert row["verdict"] == "passes", row
    assert zoo.blocks_in_words(row) == PUBLISHED[name][0]


def test_no_model_of_torchvision_is_missing() -> None:
    """Every classifier stands in the table, or is a transformer."""
    page = PAGE.read_text(encoding="utf-8")
    refused = page.split("## What is refused")[1]
    for name in zoo.torchvision_names():
        if name.startswith(zoo.TRANSFORMERS):
            assert f"`{name}`" in refused
        else:
            assert PUBLISHED[name][1] == "passes"
    assert all(PUBLISHED[name][1] == "passes" for name in zoo.PLACES)
    failed = page.split("## What fails")[1].split("## What is refused")[0]
    missing = [f"timm:{name}" for name in zoo.TIMM if f"timm:{name}" not in PUBLISHED]
    assert all(f"`{name}`" in failed for name in missing)
    assert len(missing) <= 2


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_transformers_are_refused_with_a_reason(name: str) -> None:
    row = zoo.measure(name)
    assert row["verdict"] == "refused"
    assert (
        "the network is a transformer: it mixes all places of the picture by self-attention (12 times"
        in row["reason"]
    )


def test_adding_a_row_changes_nothing_else() -> None:
    """A row that is measured again takes the place at the end of its table; counts and the last date follow."""
    page = PAGE.read_text(encoding="utf-8")
    row = {"name": "timm:new_net", "size": 256, "date": "2031-01-02", "parameters": 2e6, "blocks": [[8, 16, 16]],
           "gradient_errors": [1e-9], "score_error": 1e-7, "export_seconds": 3.0, "export_gigabytes": 0.5,
           "verdict": "passes"}  # fmt: skip
    added = zoo.with_rows(page, [row])
    assert zoo.with_rows(added, [row]) == added and " to 2031-01-02." in added
    before, after = page.splitlines(), added.splitlines()
    new = [line for line in after if line not in before]
    assert len(after) == len(before) + 1 and len(new) == 3  # the row, its table's count, the first line
    timm = len([line for line in before if line.startswith("| timm:")])
    assert f"## timm: {timm + 1}" in after and any(
        "| timm:new_net (256) | 2.0 M | 8×16 | 1e-09 |" in line for line in new
    )
    assert zoo.with_rows(page, [{**row, "verdict": "fails"}]) == page
