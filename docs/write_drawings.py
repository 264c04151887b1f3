"""Draws rooms.svg and frame.svg, the two pictures of architecture.md: python docs/write_drawings.py

They are narrow and have large letters, so that they can be read on a phone, too.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
WIDTH = 480
STYLE = """
  text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; fill: #263238; }
  .name { font-size: 17px; font-weight: 650; }
  .words { font-size: 13.5px; }
  .file { font-size: 12.5px; fill: #546e7a; }
  .box { stroke: #455a64; stroke-width: 1.4; }
  .line { stroke: #455a64; stroke-width: 1.6; fill: none; }
"""
BLUE, GREEN, SAND, WHITE = "#e1eef6", "#e4f1e4", "#f8efdc", "#ffffff"


def box(x: int, y: int, width: int, height: int, color: str, *lines: tuple[str, str]) -> str:
    """A box with lines of text, each with its class."""
    parts = [f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{color}"/>']
    for i, (kind, text) in enumerate(lines):
        parts.append(f'<text class="{kind}" x="{x + 12}" y="{y + 23 + 19 * i}">{escape(text)}</text>')
    return "\n".join(parts)


def arrow(*points: tuple[int, int], dashed: bool = False) -> str:
    """A line through points that ends in an arrow's head."""
    path = "M" + " L".join(f"{x} {y}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path class="line" d="{path}" marker-end="url(#head)"{dashes}/>'


def words(x: int, y: int, text: str, end: bool = False) -> str:
    """A line of small text that begins at x, or ends there."""
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="file" x="{x}" y="{y}"{anchor}>{escape(text)}</text>'


def picture(height: int, title: str, *parts: str) -> str:
    """A whole SVG file, on white: it is read on dark pages, too."""
    head = (
        '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L10 5 L0 10 z" fill="#455a64"/></marker>'
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style><defs>{head}</defs>",
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="{WHITE}"/>',
            *parts,
            "</svg>\n",
        )
    )


def rooms() -> str:
    """Which room may import which, and where the bundle comes from and goes to."""
    return picture(
        486,
        "The rooms: cli imports exporter and line, these import runtime, and all import sise_ort. exporter writes bundles, "
        "runtime reads them.",
        box(16, 16, 448, 54, BLUE, ("name", "cli/"), ("words", "the commands: options, messages, exit codes")),
        arrow((120, 70), (120, 104)),
        arrow((360, 70), (360, 104)),
        box(
            16, 106, 216, 110, GREEN, ("name", "exporter/"), ("words", "from a network to a bundle:"),
            ("words", "sources, blocks, gradients"), ("file", "needs onnx, onnx-ir;"), ("file", "torch in one file"),
        ),
        box(
            248, 106, 216, 110, GREEN, ("name", "line/"), ("words", "from pictures to answers:"),
            ("words", "server, sources, evidence"), ("file", "needs the extras of"), ("file", "its commands"),
        ),
        arrow((56, 216), (56, 250), dashed=True),
        words(68, 238, "writes"),
        box(16, 252, 136, 36, SAND, ("words", "bundle (a folder)")),
        arrow((56, 288), (56, 322), dashed=True),
        words(68, 310, "is read by"),
        arrow((196, 216), (196, 322)),
        arrow((360, 216), (360, 322)),
        words(372, 274, "imports"),
        box(
            16, 324, 448, 72, GREEN, ("name", "runtime/"), ("words", "from a bundle to explanations:"),
            ("words", "providers, methods, budget, evaluation"),
        ),
        words(452, 347, "needs onnxruntime, numpy", end=True),
        arrow((240, 396), (240, 416)),
        box(
            16, 418, 448, 54, BLUE, ("name", "sise_ort/"),
            ("words", "what all rooms speak of: formulas, frames, bundles, pages"),
        ),
        words(452, 441, "needs numpy", end=True),
    )  # fmt: skip


def frame() -> str:
    """What happens to one frame between `explain` and its result."""
    return picture(
        754,
        "A frame's way: it is read and fitted, extract.onnx gives feature maps and gradients, some maps are selected, each "
        "becomes a mask, the network is run on each masked picture, and fuse.onnx adds the masks up to a heat map.",
        box(16, 16, 448, 36, SAND, ("words", "a frame (file, bytes, array), and a question: why “crack”?")),
        arrow((240, 52), (240, 74)),
        box(16, 76, 448, 54, GREEN, ("name", "Prepare"), ("words", "read, check, fit to the network's size")),
        words(452, 99, "sise_ort/frame.py, fitting.py", end=True),
        arrow((240, 130), (240, 152)),
        box(
            16, 154, 448, 72, BLUE, ("name", "extract.onnx"),
            ("words", "the network forward, then back from the question:"),
            ("words", "scores, feature maps, pooled gradients of each block"),
        ),
        words(452, 177, "runtime/model.py", end=True),
        arrow((240, 226), (240, 248)),
        box(
            16, 250, 448, 54, GREEN, ("name", "Select"),
            ("words", "keep the maps whose gradient speaks for the question"),
        ),
        words(452, 273, "runtime/methods/selection.py", end=True),
        arrow((240, 304), (240, 326)),
        '<rect class="line" x="16" y="328" width="448" height="236" rx="7" stroke-dasharray="6 4"/>',
        words(28, 350, "for each batch of masks"),
        words(452, 350, "runtime/methods/scoring.py", end=True),
        box(32, 360, 416, 54, BLUE, ("name", "mask.onnx"), ("words", "enlarge the maps, scale them to 0 … 1")),
        arrow((240, 414), (240, 430)),
        box(32, 432, 416, 54, BLUE, ("name", "apply.onnx"), ("words", "hide the frame where the mask is dark")),
        arrow((240, 486), (240, 502)),
        box(32, 504, 416, 54, BLUE, ("name", "predict.onnx"), ("words", "the network's answer is the mask's weight")),
        arrow((240, 564), (240, 586)),
        box(
            16, 588, 448, 54, BLUE, ("name", "fuse.onnx"),
            ("words", "add up the weighted maps of each block, join the blocks"),
        ),
        words(452, 611, "sise_ort/formulas/fusion.py", end=True),
        arrow((240, 642), (240, 664)),
        box(
            16, 666, 448, 72, SAND, ("name", "Explanation"),
            ("words", "the heat map on the frame, label and confidence, notes,"),
            ("words", "passes, and the record that can be saved"),
        ),
        words(452, 689, "sise_ort/explanation.py", end=True),
    )  # fmt: skip


PICTURES = {"rooms.svg": rooms, "frame.svg": frame}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")
