"""Writes docs/methods.md from the methods themselves: python docs/write_methods.py"""

from __future__ import annotations

import inspect
from pathlib import Path

from sise_ort.runtime.method import Method
from sise_ort.runtime.methods import METHODS

FILE = Path(__file__).with_name("methods.md")
PRICES = {
    "sise": "one forward and one backward pass, and a forward pass per mask (hundreds; fewer with a higher mu)",
    "gradcam": "one forward and one backward pass",
    "gradcam++": "one forward and one backward pass",
    "scorecam": "one forward and one backward pass, and a forward pass per feature map of the block (hundreds to thousands)",
    "ablationcam": "one forward pass, and one of the head alone per feature map",
    "rise": "a forward pass per mask",
    "gradient": "one forward and one backward pass, down to the picture",
    "integrated-gradients": "a forward and a backward pass per step",
    "fullgrad": "one forward and one backward pass, down to the picture",
    "extremal-perturbation": "a forward and a backward pass per step and area",
}


def page() -> str:
    """The whole page."""
    lines = [
        "# Methods",
        "",
        "Written by `python docs/write_methods.py` from the methods' docstrings; do not edit.",
        "",
        "```sh",
        "sise-ort export model.onnx --normalize imagenet --with head,image-gradient,full-gradient",
        "sise-ort explain model.sise picture.jpg --method integrated-gradients --set steps=100",
        "```",
        "",
        "```python",
        'explainer.explain("picture.jpg", method="rise", masks=4000, seed=1)',
        "explainer.methods  # those that this bundle has the graphs for",
        "```",
        "",
        "All run on ONNX Runtime and NumPy alone. The base bundle has the graphs for some; the others name the graph that "
        "`export --with` must add. Gradients are those of the class score (logit) *z_c*; SISE on a softmax head takes the "
        "probability's. Ψ is the class's confidence, *I* the picture as the network sees it, *A_k* feature map *k*. Heat "
        "maps lie in [0, 1], 1 where the evidence is strongest; where there is none, the map is 0 and the notes say so. Which "
        "to trust at which price, measured: [results.md](results.md); on your own network and pictures: `sise-ort evaluate`.",
        "",
        "| method | `--method` | needs | price |",
        "|---|---|---|---|",
        *(f"| {m.title} | `{m.name}` | {_needs(m)} | {PRICES[m.name]} |" for m in METHODS.values()),
        "",
    ]
    for method in METHODS.values():
        text = inspect.getdoc(method.run) or ""
        lines += [
            f"## {method.title}",
            "",
            f"*{method.source}.* `--method {method.name}`",
            "",
            *_escaped(text),
            "",
        ]
        if method.defaults:
            defaults = ", ".join(f"`{name}={_words(value)}`" for name, value in method.defaults.items())
            lines += [f"Parameters and their defaults: {defaults}.", ""]
        if not method.signed:
            lines += [
                "It takes absolute values: it does not tell what speaks for the class from what speaks against it.",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def _needs(method: Method) -> str:
    return f"`--with {method.graph.replace('_', '-')}`" if method.graph else "–"


def _words(value: object) -> str:
    return ",".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def _escaped(text: str) -> list[str]:
    """A docstring as Markdown: nothing in it is markup."""
    return [line.replace("|", "\\|").replace("_", "\\_").replace("*", "\\*") for line in text.splitlines()]


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
