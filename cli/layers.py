"""sise-ort layers MODEL"""

from __future__ import annotations

from typing import Any

import click

from sise_ort.cli.options import source_options


@click.command("layers")
@click.argument("source", metavar="MODEL")
@source_options
def command(source: str, layers: list[str] | None, **options: Any) -> None:
    """Show a network's candidate tensors and the chosen blocks.

    MODEL is what `sise-ort export` takes: an .onnx file, a torchvision name, a timm name, or package.module:factory.

    A candidate is a tensor of feature maps that every path from the picture to the class scores crosses. The last
    candidate of each resolution is a block's output. To explain with other tensors, pass their names or their modules to
    --layers, here to look at them and then to `sise-ort export`.
    """
    from sise_ort.cli.console import print_table
    from sise_ort.exporter import list_layers

    found, chosen, problem = list_layers(source, layers=layers, **options)
    number = {c.tensor: b for b, c in enumerate(chosen, 1)}
    listed = found + [c for c in chosen if c.tensor not in {f.tensor for f in found}]
    rows = [
        [
            f"block {number[c.tensor]}" if c.tensor in number else "",
            c.tensor,
            c.module,
            c.channels,
            f"{c.height} × {c.width}",
            c.why_not,
        ]
        for c in listed
    ]
    print_table(["chosen", "tensor", "module", "channels", "size", "left out"], rows, right=(3, 4))
    if problem is not None:
        raise problem
