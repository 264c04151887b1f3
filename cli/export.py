"""sise-ort export SOURCE -o BUNDLE"""

from __future__ import annotations

from typing import Any

import click

from sise_ort.cli.options import Names, Numbers, source_options


@click.command("export")
@click.argument("source")
@click.option("-o", "--bundle", metavar="BUNDLE", type=click.Path(), help="Folder to write [NAME.sise].")
@source_options
@click.option(
    "--normalize",
    type=click.Choice(["imagenet", "tf", "none"]),
    help="Well-known normalisation of pixels; give this, or --mean and --std.",
)
@click.option(
    "--mean",
    type=Numbers(),
    help="Mean per channel in pixel units of 0 to 255, in the network's channel order.",
)
@click.option("--std", type=Numbers(), help="Standard deviation per channel in pixel units of 0 to 255.")
@click.option(
    "--fit",
    type=click.Choice(["stretch", "crop", "letterbox"]),
    help="Resizing of a picture to the network's size [stretch; torchvision, timm: crop as in training].",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False),
    help="File with the class names, one a line, or a JSON list.",
)
@click.option(
    "--hidden",
    type=click.Choice(["mean", "black"]),
    default="mean",
    show_default=True,
    help="Colour of the pixels that a mask hides: the mean colour, or black.",
)
@click.option(
    "--frame-dtype",
    type=click.Choice(["uint8", "float32"]),
    default="uint8",
    show_default=True,
    help="Number type of the pixels that the bundle takes.",
)
@click.option(
    "--with",
    "graphs",
    type=Names(),
    default="",
    metavar="GRAPH,…",
    help="Further graphs: head, image-gradient, full-gradient for methods other than SISE; explain for other programs.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Number format of predict.onnx, the network that scores the masks.",
)
@click.option(
    "--calibration",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of typical pictures: int8 takes its ranges from them, and heat maps are compared with float32's.",
)
@click.option(
    "--least-correlation",
    type=click.FloatRange(-1, 1),
    default=0.97,
    show_default=True,
    help="Smallest mean correlation allowed with float32 heat maps.",
)
@click.option(
    "--check",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of typical pictures: their heat maps must lose their likeness when the weights are shuffled (docs/trust.md).",
)
@click.option(
    "--most-likeness",
    type=click.FloatRange(-1, 1),
    default=0.5,
    show_default=True,
    help="Largest mean correlation allowed between heat maps of the model and of its shuffled weights.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def command(source: str, bundle: str | None, **options: Any) -> None:
    """Turn a CNN into a bundle of ONNX graphs that predict and explain.

    SOURCE is an .onnx file, a torchvision name (resnet50), a timm name (timm:resnet50d), or package.module:factory.
    The bundle is a folder of ONNX graphs; its scores are compared with the source model's before the export ends.

    \b
    sise-ort export resnet50
    sise-ort export model.onnx -o model.sise --normalize imagenet --labels names.txt
    sise-ort export model.onnx --mean 103.9,116.8,123.7 --std 1,1,1 --color bgr
    sise-ort export resnet50 --precision int8 --calibration pictures
    sise-ort export resnet50 --check pictures
    sise-ort export mynet.models:build --weights best.pth --input-size 256x1600 --color gray --mean 128 --std 64
    """
    from sise_ort.bundle import Randomisation
    from sise_ort.cli.console import say
    from sise_ort.errors import Message, on_command_line
    from sise_ort.exporter import export_bundle

    def report(step: str) -> None:
        say(on_command_line(Message.of(step)) if step.startswith("note:") else f"{step} …")

    manifest = export_bundle(source, bundle, report=report, **options)
    target = bundle or f"{manifest.name}.sise"
    if manifest.head.assumed and manifest.task.name == "classes":
        say(
            f"warning: the file does not say what its outputs are: they are taken for class scores, {manifest.head.words}. "
            "For a multi-label network export again with --head sigmoid, for other values with --head none"
        )
    elif manifest.head.assumed:
        say(
            f"warning: the file does not say how scores become confidences: {manifest.head.words}. Pass --head softmax or "
            "--head sigmoid to say so"
        )
    if compared := manifest.origin.get("precision"):
        say(
            f"heat maps in {manifest.precision} correlate with float32's by {compared['mean']:.3f} (lowest "
            f"{compared['lowest']:.3f}) on {compared['pictures']} pictures ({compared['source']})"
        )
    if isinstance(checked := manifest.randomisation, Randomisation):
        steps = ", ".join(
            f"{value:.2f} ({name})" for name, value in zip(checked.groups, checked.correlations, strict=True)
        )
        say(
            f"with weights shuffled from the last layers to the first, heat maps of {checked.pictures} pictures "
            f"({checked.source}) correlate with the model's by {steps}"
        )
    for b, layer in enumerate(manifest.layers, 1):
        say(f"block {b}: {layer.channels} × {layer.height} × {layer.width}  {layer.module or layer.tensor}")
    click.echo(target)
