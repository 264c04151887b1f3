"""Writes docs/methods.md from the methods themselves: python docs/write_methods.py"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

from sise_ort.runtime.methods import METHODS, Method

FILE = Path(__file__).with_name("methods.md")


def page() -> str:
    """The whole page."""
    lines = [
        "# Methods",
        "",
        "Written by `python docs/write_methods.py` from the methods' docstrings; do not edit.",
        "",
        "```sh run",
        "sise-ort export model.onnx -o all.sise --normalize imagenet --with head,image-gradient,full-gradient",
        "sise-ort explain all.sise strip.png --method integrated-gradients --set steps=100",
        "```",
        "",
        "```python run",
        'explainer = sise_ort.load("all.sise")',
        'explainer.explain("strip.png", method="rise", masks=4000, seed=1)',
        "",
        "from sise_ort.runtime.methods import Rise",
        "",
        'explainer.explain("strip.png", method=Rise(masks=4000, seed=1))  # the same',
        "explainer.methods  # those that this bundle has the graphs for",
        "```",
        "",
        "All run on ONNX Runtime and NumPy alone. Under *needs* stands the graph that `export --with` must add; – means that "
        "every bundle has the graphs. Gradients are those of the class score (logit) *z_c*; SISE on a softmax head takes the "
        "probability's. Ψ is the class's confidence, *I* the picture as the network sees it, *A_k* feature map *k*. Heat "
        "maps lie in [0, 1], 1 where the evidence is strongest; where there is none, the map is 0 and the notes say so. "
        "[results.md](results.md) compares quality and price; `sise-ort evaluate` does so on your own network and pictures.",
        "",
        "| method | `--method` | needs | price |",
        "|---|---|---|---|",
        *(f"| {m.title} | `{m.name}` | {_needs(m)} | {m.price} |" for m in METHODS.values()),
        "",
    ]
    for method in METHODS.values():
        lines += [
            f"## {method.title}",
            "",
            f"*{method.source}.* `--method {method.name}`, `{method.__name__}(…)`",
            "",
            *_escaped(inspect.getdoc(method) or ""),
            "",
        ]
        described = dict(_parameters(method))
        if described:
            lines += ["| parameter | default | |", "|---|---|---|"]
            for name, default in method.defaults().items():
                lines.append(f"| `{name}` | `{_words(default)}` | {described[name]} |")
            lines.append("")
        if not method.signed:
            lines += [
                "It takes absolute values: it does not tell what speaks for the class from what speaks against it.",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def _parameters(owner: type) -> Iterator[tuple[str, str]]:
    """Names and descriptions of a method's parameters, those of groups in the place of the group."""
    groups = {f.name: type(f.default) for f in fields(owner) if is_dataclass(f.default)}
    section = inspect.getdoc(owner) or ""
    section = section.partition("\nParameters\n----------\n")[2].split("\n\n", 1)[0]
    for name, words in re.findall(r"^(\w+) : [^\n]*\n((?:    [^\n]*\n?)+)", section, re.MULTILINE):
        if name in groups:
            yield from _parameters(groups[name])
        else:
            yield name, " ".join(line.strip() for line in words.splitlines())


def _needs(method: type[Method]) -> str:
    return f"`--with {method.graph.replace('_', '-')}`" if method.graph else "–"


def _words(value: object) -> str:
    return ",".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def _escaped(text: str) -> list[str]:
    """A docstring's prose as Markdown: nothing in it is markup."""
    prose = text.partition("\nParameters\n----------\n")[0].rstrip()
    return [line.replace("|", "\\|").replace("_", "\\_").replace("*", "\\*") for line in prose.splitlines()]


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
