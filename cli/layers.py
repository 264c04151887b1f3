"""sise-ort layers MODEL"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sise_ort.cli.options import source_options

if TYPE_CHECKING:
    from sise_ort.bundle import Manifest
    from sise_ort.exporter.blocks import Candidate
    from sise_ort.exporter.inspection import Inspection
    from sise_ort.exporter.looks import Tensor

TASKS = {"classes": "class scores", "value": "values, each by itself"}
"""What a task's outputs are called, where the task's own name is not clear."""
MOST_PER_SIZE = 3
"""Feature maps of a size that are listed without --all, where they are no candidates."""


@click.command("layers")
@click.argument("source", metavar="MODEL")
@source_options
@click.option("--all", "everything", is_flag=True, help="List every feature map that is no candidate, too.")
def command(source: str, layers: list[str] | None, everything: bool, **options: Any) -> None:
    """Show a network's outputs, its blocks, and what stands in the way of an export.

    MODEL is what `sise-ort export` takes: an .onnx file, a torchvision name, a timm name, or package.module:factory. It may
    be a network that cannot be exported: the report says why, and which options help. A bundle's folder shows its facts.

    A candidate is a tensor of feature maps that every path from the picture to the output crosses (where outputs have
    places, every path through the deepest maps). The last candidate of each resolution is a block's output. To explain with
    other tensors, pass their names or their modules to --layers, here to look at them and then to `sise-ort export`.

    \b
    sise-ort layers model.onnx
    sise-ort layers detector.onnx --output scores --all
    sise-ort layers resnet50.sise
    """
    from sise_ort.bundle.format import MANIFEST

    folder = Path(source)
    if folder.is_dir() and (folder.suffix == ".sise" or (folder / MANIFEST).is_file()):
        from sise_ort.bundle.reading import read_manifest

        _show_bundle(read_manifest(folder))
        return
    from sise_ort.exporter import inspect

    _show(inspect(source, layers=layers, **options), everything)


def _show(found: Inspection, everything: bool) -> None:
    from sise_ort.cli.console import print_table
    from sise_ort.errors import on_command_line

    _line(found.source + "".join(f"; {name} {value}" for name, value in found.facts.items() if value))
    _tensors("input", found.inputs)
    _tensors("output", found.outputs)
    if found.task:
        _heading(
            f"An export{_with(found.shown_with)} takes the outputs for: {TASKS.get(found.task, found.task)}"
        )
        for note in found.notes:
            _line(f"- {on_command_line(note)}")
    if found.candidates or found.chosen or found.further:
        _heading(f"Feature maps{_with(found.shown_with)}")
        _candidates(found)
    if found.further:
        _heading("Further feature maps, whose names --layers takes")
        rows, left_out = _shortened(found.further, everything)
        print_table(["tensor", "module", "channels", "size"], rows, right=(2, 3))
        if left_out:
            _line(f"and {left_out} more (--all)")
    if found.without_rule:
        _heading("Operators without a gradient rule")
        print_table(["operator", "times"], [[n, t] for n, t in found.without_rule.items()], right=(1,))
    _heading("In the way of an export" if found.obstacles else "Nothing stands in the way of an export")
    for error in found.obstacles:
        _line(f"- {on_command_line(error)}")
    for further, error in () if found.ways else found.tried:
        _line(f"- with {_flags(further)}: {on_command_line(error)}")
    if found.ways:
        _heading("What helps")
        for further in found.ways:
            _line(f"- {_flags(further)}{_remark(further)}")
    if not found.inputs and not found.outputs:
        raise SystemExit(1)  # nothing could be read
    if found.needs_normalization and not (found.obstacles and not found.ways):
        _line(
            "The model does not say how its pixels are normalised: give export --normalize, or --mean and --std."
        )


def _show_bundle(manifest: Manifest) -> None:
    from sise_ort.cli.console import print_table

    size, facts, fit = manifest.input, manifest.preprocessing, manifest.fit
    origin = [str(manifest.origin[k]) for k in ("kind", "file", "name") if manifest.origin.get(k)]
    batch = "one at a time" if size.batch else "any number at a time"
    graphs = [name.removesuffix(".onnx") for name in manifest.files if name.endswith(".onnx")]
    border = f", border {_numbers(fit.border)}" if fit.border else ""
    rows = [
        ["bundle", f"{manifest.name}, format {manifest.version}"],
        ["made from", " ".join(origin) or "unknown"],
        ["frames", f"{size.height} × {size.width} × {size.channels}, {size.frame_dtype}; network inputs {batch}"],
        ["pixels", f"{facts.color}, mean {_numbers(facts.mean)}, std {_numbers(facts.std)}; masks hide with {facts.hidden}"],
        ["fit", f"{fit.mode} to {fit.resize[0]} × {fit.resize[1]}{border}"],
        ["task", _task(manifest)],
        ["head", f"{manifest.head.words}, {manifest.head.classes:,} classes, {len(manifest.labels):,} of them named"],
        ["precision", manifest.precision],
        ["graphs", ", ".join(graphs)],
    ]  # fmt: skip
    print_table(["fact", "value"], rows)
    _heading("Blocks")
    blocks = [
        [f"block {b}", x.tensor, x.module, x.channels, f"{x.height} × {x.width}"]
        for b, x in enumerate(manifest.layers, 1)
    ]
    print_table(["chosen", "tensor", "module", "channels", "size"], blocks, right=(3, 4))


def _task(manifest: Manifest) -> str:
    """A bundle's task with its numbers: "segmentation, height 32, width 48"."""
    fields = {name: getattr(manifest.task, name) for name in manifest.task.__struct_fields__}
    facts = [
        f"{name} {value}" for name, value in fields.items() if isinstance(value, (int, str)) and value != ""
    ]
    return ", ".join([TASKS.get(manifest.task.name, manifest.task.name), *facts])


def _candidates(found: Inspection) -> None:
    from sise_ort.cli.console import print_table

    number = {c.tensor: b for b, c in enumerate(found.chosen, 1)}
    known = {c.tensor for c in found.candidates}
    rows = [
        [f"block {number[c.tensor]}" if c.tensor in number else "", *_row(c), c.why_not]
        for c in [*found.candidates, *(c for c in found.chosen if c.tensor not in known)]
    ]
    if rows:
        print_table(["chosen", "tensor", "module", "channels", "size", "left out"], rows, right=(3, 4))
    else:
        _line("no candidates")


def _tensors(kind: str, tensors: Sequence[Tensor]) -> None:
    from sise_ort.cli.console import print_table

    if not tensors:
        return
    rows = [[t.name, t.dtype.lower(), _shape(t.shape), t.looks_like] for t in tensors]
    click.echo()
    print_table([kind, "type", "shape", "looks like"], rows)


def _row(c: Candidate) -> list[Any]:
    return [c.tensor, c.module, c.channels, f"{c.height} × {c.width}"]


def _shortened(maps: Sequence[Candidate], everything: bool) -> tuple[list[list[Any]], int]:
    """The rows of feature maps, and how many are left out: the last of each size stay."""
    kept = []
    for i, c in enumerate(maps):
        behind = sum((d.height, d.width) == (c.height, c.width) for d in maps[i + 1 :])
        if everything or behind < MOST_PER_SIZE:
            kept.append(_row(c))
    return kept, len(maps) - len(kept)


def _shape(shape: tuple[Any, ...] | None) -> str:
    return "unknown" if shape is None else f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _flags(options: Mapping[str, Any]) -> str:
    """Options as the command line spells them."""
    from sise_ort.errors import SiseError, on_command_line, option

    return on_command_line(SiseError(" ".join(option(name, value) for name, value in options.items())))


def _with(options: Mapping[str, Any]) -> str:
    return f" with {_flags(options)}" if options else ""


def _remark(options: Mapping[str, Any]) -> str:
    notes = []
    if "input_size" in options:
        notes.append("any size that fits; the one it was trained with is right")
    if "layers" in options:
        notes.append("named feature maps in place of the rule's")
    if options.get("head") == "none":
        notes.append("each number is explained as it is")
    return f" ({'; '.join(notes)})" if notes else ""


def _heading(words: str) -> None:
    click.echo()
    _line(words)


def _line(words: str) -> None:
    from sise_ort.errors import printable

    click.echo(printable(words))
