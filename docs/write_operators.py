"""Writes docs/operators.md from the table of gradient rules: python docs/write_operators.py"""

from __future__ import annotations

import inspect
from pathlib import Path

from sise_ort.exporter.gradients import RULES
from sise_ort.exporter.gradients import rules as rooms
from sise_ort.exporter.gradients.engine import WITHOUT_GRADIENT
from sise_ort.exporter.sources.fused import FUSED
from sise_ort.exporter.sources.quantized import REWRITES as QUANTIZED
from sise_ort.exporter.sources.retired import RETIRED
from sise_ort.exporter.sources.rewriting import REWRITES

FILE = Path(__file__).with_name("operators.md")
KINDS = {
    "arithmetic": "Arithmetic",
    "activations": "Activations",
    "linear": "Linear layers",
    "pooling": "Pooling over windows",
    "reductions": "Reductions and global pooling",
    "normalization": "Normalisations and softmax",
    "arrangement": "Shape and arrangement",
    "resampling": "Resolution",
    "quantization": "Quantised networks",
}


def paragraph(function: object) -> str:
    """The first paragraph of a docstring, in one line."""
    text = inspect.getdoc(function) or ""
    return " ".join(text.split("\n\n")[0].split())


def table() -> str:
    """The whole page."""
    lines = [
        "# Operators",
        "",
        "Written by `python docs/write_operators.py` from the table of gradient rules; do not edit.",
        "",
        "The exporter can pull gradients through these operators of opset 20. Files of opset 1 to 24 are brought to opset 20 "
        "first. *g* is the gradient of the output *y*, *x* the input (*a*, *b*, *A*, *B*, *C*: inputs in order). Axis 0 is the "
        "batch and stays in front. Operators between the image and the shallowest block need no rule.",
        "",
    ]
    for room, title in KINDS.items():
        module = getattr(rooms, room)
        by_function: dict[object, list[str]] = {}
        for (domain, op_type), rule in RULES.items():
            if domain == "" and rule.function.__module__ == module.__name__:
                by_function.setdefault(rule.function, []).append(op_type)
        lines += [f"## {title}", "", "| operator | gradient |", "|---|---|"]
        rows = [
            (", ".join(f"`{name}`" for name in sorted(names)), paragraph(function))
            for function, names in by_function.items()
        ]
        lines += [f"| {names} | {text.replace('|', chr(92) + '|')} |" for names, text in sorted(rows)]
        lines.append("")
    lines += [
        "## Rewritten before",
        "",
        "Operators that opset 20 lacks are written in operators of the tables above:",
        "",
        *(
            f"- `{name}`: {paragraph(function) or 'by its definition.'}"
            for name, function in sorted(REWRITES.items())
        ),
        "",
        "Operators of ONNX's first releases, which it has given up or changed:",
        "",
        *(f"- `{name}`: {paragraph(function)}" for name, (function, _) in sorted(RETIRED.items())),
        "",
        "Operators that onnxruntime fuses in the files that it optimises (domain com.microsoft):",
        "",
        *(f"- `{name}`: {paragraph(function)}" for name, function in sorted(FUSED.items())),
        "",
        "Operators on integers become operators on the real numbers that these stand for (ONNX's, and onnxruntime's in the domain "
        "com.microsoft). Activations that a file quantises while it runs stay real numbers:",
        "",
        *(f"- `{name}`: {paragraph(function)}" for name, function in sorted(QUANTIZED.items())),
        "",
        "## Without a gradient",
        "",
        "What these return does not change with small changes of their input, so nothing passes: "
        + ", ".join(f"`{name}`" for name in sorted(WITHOUT_GRADIENT))
        + "; and `Cast` to integers or from booleans.",
        "",
        "Any other operator is named in an error, together with the blocks that can be reached without it. A rule of your own "
        "takes a few lines, see [CONTRIBUTING.md](../CONTRIBUTING.md).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
