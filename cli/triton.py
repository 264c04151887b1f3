"""sise-ort triton BUNDLE -o model_repository"""

from __future__ import annotations

import click


@click.command("triton")
@click.argument("bundle", type=click.Path())
@click.option(
    "-o",
    "--out",
    metavar="FOLDER",
    type=click.Path(),
    default="model_repository",
    show_default=True,
    help="Model repository to write to; other models in it stay.",
)
@click.option("--name", metavar="NAME", help="First part of the models' names [the bundle's name].")
@click.option(
    "--instances",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Number of copies of each model that run at the same time.",
)
@click.option(
    "--accelerator",
    type=click.Choice(["none", "tensorrt", "openvino"]),
    default="none",
    show_default=True,
    help="Accelerator of ONNX Runtime inside of Triton: TensorRT on a GPU, or OpenVINO on a CPU for NAME_predict.",
)
@click.option("--force", is_flag=True, help="Replace models of these names.")
def command(bundle: str, out: str, name: str | None, instances: int, accelerator: str, force: bool) -> None:
    """Write a model repository for Triton Inference Server: the whole method, and the prediction alone.

    NAME_explain takes a frame, a class, mu and a number of masks, and gives the heat map; NAME_predict takes frames and
    gives scores and confidences. Preprocessing is inside of both.

    \b
    sise-ort triton resnet50.sise -o model_repository
    tritonserver --model-repository model_repository
    """
    from sise_ort.exporter.triton import write_repository

    for folder in write_repository(
        bundle, out, name=name, instances=instances, accelerator=accelerator, force=force
    ):
        click.echo(folder)
