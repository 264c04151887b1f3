"""sise-ort page BUNDLE -o page.html"""

from __future__ import annotations

import click


@click.command("page")
@click.argument("bundle", type=click.Path())
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=click.Path(),
    default="page.html",
    show_default=True,
    help="File to write.",
)
@click.option(
    "--sample",
    "samples",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="PICTURE",
    help="Picture that the page offers; repeatable.",
)
@click.option(
    "--onnxruntime-web",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    help="Folder of the npm package onnxruntime-web [fetched from npm's registry the first time].",
)
@click.option(
    "--webgpu",
    is_flag=True,
    help="Run on WebGPU where the browser has it; the page becomes about 4 MB larger.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(
    bundle: str, out: str, samples: tuple[str, ...], onnxruntime_web: str | None, webgpu: bool, force: bool
) -> None:
    """Write a page that explains pictures in a browser: one HTML file with the network and ONNX Runtime inside.

    It works from a file share or a disk, without a server and without a network, and sends nothing anywhere.

    \b
    sise-ort page model.sise -o page.html --sample strip.png
    """
    from sise_ort.cli.console import say
    from sise_ort.exporter.page import write_page

    path = write_page(
        bundle, out, samples=samples, onnxruntime_web=onnxruntime_web, webgpu=webgpu, force=force
    )
    say(f"{path.stat().st_size / 2**20:.1f} MiB")
    click.echo(path)
