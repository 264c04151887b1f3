"""sise-ort compose BUNDLE -o explain.onnx"""

from __future__ import annotations

import click

from sise_ort.cli.options import MOST_INPUTS


@click.command("compose")
@click.argument("bundle", type=click.Path())
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=click.Path(),
    default="explain.onnx",
    show_default=True,
    help="File to write.",
)
@click.option(
    "--any-size",
    is_flag=True,
    help="Take pictures of any size and resize them inside, as the bundle's fit says.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, MOST_INPUTS),
    help="Number of masks to score at once; the last batch is padded [by the picture's size].",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(bundle: str, out: str, any_size: bool, batch_size: int | None, force: bool) -> None:
    """Write the whole method into one ONNX file, for any language that has ONNX Runtime.

    It takes a picture [H, W, C], a class (negative: the top class), mu, and how many masks to score (0: none, negative: all
    above mu), and gives the heat map, scores, confidences, the class, and the number of masks of each block. Before it is
    written, its heat maps are compared with the bundle's.

    \b
    sise-ort compose resnet50.sise -o explain.onnx
    sise-ort compose resnet50.sise -o explain.onnx --any-size
    """
    from sise_ort.cli.console import say
    from sise_ort.exporter.compose import compose

    path = compose(bundle, out, any_size=any_size, batch_size=batch_size, force=force)
    say(f"{path.stat().st_size / 2**20:.1f} MiB, compared with the bundle")
    click.echo(path)
