"""From a model to a bundle: load, clean, cut the head, find blocks, build the phases, write, compare, rename."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

import sise_ort
from sise_ort.bundle import MANIFEST, OPTIONAL_PHASES, InputSpec, Layer, Manifest, file_sha256
from sise_ort.errors import GradientError
from sise_ort.exporter import options as opts
from sise_ort.exporter.blocks import (
    Candidate,
    candidates,
    choose_blocks,
    require_rules,
    require_rules_to_image,
)
from sise_ort.exporter.head import FoundHead, cut_head
from sise_ort.exporter.phases.apply import build_apply
from sise_ort.exporter.phases.extract import build_extract
from sise_ort.exporter.phases.full_gradient import build_full_gradient
from sise_ort.exporter.phases.fuse import build_fuse
from sise_ort.exporter.phases.head import build_head
from sise_ort.exporter.phases.image_gradient import build_image_gradient
from sise_ort.exporter.phases.mask import build_mask
from sise_ort.exporter.phases.predict import build_predict
from sise_ort.exporter.phases.sketch import build_sketch
from sise_ort.exporter.precision import LEAST_CORRELATION, lower
from sise_ort.exporter.precision import check as check_precision
from sise_ort.exporter.sources.choose import load_source
from sise_ort.exporter.sources.cleaning import CleanNetwork, clean
from sise_ort.exporter.sources.source import Source
from sise_ort.exporter.verify import compare
from sise_ort.exporter.writing import folder_in_the_making, move_into_place, refuse_existing, write_graphs


@dataclass(frozen=True)
class Network:
    """A loaded source, cleaned, with its class scores as the only output."""

    source: Source
    clean: CleanNetwork
    head: FoundHead


def load_network(
    source: Any,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    input_size: str | int | Sequence[int] | None = None,
    output: str | None = None,
    color: str | None = None,
    head: str = "auto",
) -> Network:
    """Everything up to the choice of blocks; see `export_bundle` for the parameters."""
    opts.check_choice("head", head)
    size = opts.parse_size(input_size)
    loaded = load_source(
        source, weights=weights, classes=classes, input_size=size, output=output, color=color
    )
    network = clean(loaded.model, input_size=size, output=output, default_size=loaded.size)
    return Network(loaded, network, cut_head(network.model, head, network.siblings))


def list_layers(
    source: Any, *, layers: Sequence[str] | None = None, **options: Any
) -> tuple[list[Candidate], list[Candidate], str]:
    """All candidates of a network, the blocks that an export would choose, and why it could not ("" if it can)."""
    graph = load_network(source, **options).clean.model.graph
    chosen = choose_blocks(graph, layers)
    try:
        require_rules(graph, chosen)
    except GradientError as error:
        return candidates(graph), chosen, str(error)
    return candidates(graph), chosen, ""


def export_bundle(
    source: Any,
    bundle: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    normalize: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    color: str | None = None,
    input_size: str | int | Sequence[int] | None = None,
    fit: str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    hidden: str = "mean",
    head: str = "auto",
    layers: Sequence[str] | None = None,
    output: str | None = None,
    frame_dtype: str = "uint8",
    graphs: Sequence[str] = (),
    precision: str = "fp32",
    calibration: str | Path | None = None,
    least_correlation: float = LEAST_CORRELATION,
    force: bool = False,
    report: Callable[[str], None] = lambda step: None,
) -> Manifest:
    """Turn a CNN into a bundle.

    Parameters
    ----------
    source : path of an .onnx file, a torchvision name, "timm:NAME", "package.module:factory", or a torch.nn.Module.
    bundle : folder to write; None takes NAME.sise in the working folder.
    weights : for PyTorch: "DEFAULT", "NONE" or a file with a state dict.
    classes : for torchvision and timm names: number of classes.
    normalize : "imagenet", "tf" or "none"; or mean and std, in pixel units 0 to 255, in the network's channel
        order. Torchvision names bring their own; everything else must say.
    color : what the network wants, "rgb", "bgr" or "gray"; None takes gray for one input channel, else rgb.
    input_size : N, "HxW" or (H, W), where the file leaves it open.
    fit : "stretch" (default), "crop" or "letterbox"; torchvision names use their own resize and centre crop.
    labels : names, or a file with one a line (or a JSON list).
    hidden : what masks hide becomes "mean" (0 of the network's input) or "black".
    head : "auto", "softmax", "sigmoid" or "none".
    layers : tensor names or module paths that replace the found blocks.
    output : which output holds the class scores, where there are several.
    frame_dtype : pixel type of the frames, "uint8" or "float32".
    graphs : further graphs for methods other than SISE: "head", "image-gradient", "full-gradient" (see
        `sise_ort.runtime.methods`).
    precision : of predict.onnx, which scores the masks: "fp32", "fp16" (for GPUs) or "int8" (for CPUs); the gradients
        stay in float32.
    calibration : folder of typical pictures, for "int8" and "fp16": the heat maps of some are compared with float32's.
    least_correlation : what they must keep on average, else the export is refused.
    force : overwrite an existing bundle.
    report : called with a sentence at each step.

    Returns
    -------
    The manifest that was written.

    Raises
    ------
    ExportError (SourceError, NoBlocksError, GradientError), ParameterError, OutputError
        Nothing is left behind then, and an existing bundle stays as it was.
    """
    opts.check_choice("frame_dtype", frame_dtype)
    wanted = opts.optional_phases(graphs)
    check_precision(precision, calibration, least_correlation)
    if bundle is not None:
        refuse_existing(Path(bundle), force)
    report("loading the model")
    network = load_network(
        source, weights=weights, classes=classes, input_size=input_size, output=output, color=color, head=head
    )
    found, cleaned, known = network.head, network.clean, network.source
    target = Path(bundle) if bundle is not None else Path(f"{known.name}.sise")
    refuse_existing(target, force)
    facts = opts.preprocessing(
        cleaned.channels,
        normalize=normalize,
        mean=mean,
        std=std,
        color=color,
        hidden=hidden,
        defaults=known.defaults,
    )
    spec = InputSpec(
        cleaned.height, cleaned.width, cleaned.channels, frame_dtype, 1 if cleaned.one_at_a_time else None
    )
    names = opts.read_labels(labels, found.head.classes, known.labels)
    chosen = choose_blocks(cleaned.model.graph, layers)
    require_rules(cleaned.model.graph, chosen)
    if not wanted.isdisjoint({"image_gradient", "full_gradient"}):
        require_rules_to_image(cleaned.model.graph)
    blocks = tuple(Layer(c.tensor, c.module, c.channels, c.height, c.width) for c in chosen)
    placed = opts.fit(fit, spec, facts, known.defaults)

    report("differentiating and building the graphs")
    scores = found.head.classes
    models = {
        "extract": build_extract(cleaned.model, chosen, spec, facts, scores),
        "mask": build_mask(spec),
        "apply": build_apply(spec, facts),
        "predict": build_predict(cleaned.model, spec, found.head),
        "fuse": build_fuse(blocks, spec),
        "sketch": build_sketch(blocks, spec),
    }
    optional: Mapping[str, Callable[[], ir.Model]] = {
        "head": lambda: build_head(cleaned.model, chosen[-1], spec, found.head),
        "image_gradient": lambda: build_image_gradient(cleaned.model, spec, scores),
        "full_gradient": lambda: build_full_gradient(cleaned.model, spec, facts, scores),
    }
    models |= {phase: optional[phase]() for phase in OPTIONAL_PHASES if phase in wanted}
    with folder_in_the_making(target) as folder:
        report("writing the bundle")
        write_graphs(models, folder)
        manifest = Manifest(
            name=target.stem,
            input=spec,
            preprocessing=facts,
            fit=placed,
            head=found.head,
            layers=blocks,
            labels=names,
            precision="fp32",
            origin={
                **known.origin,
                "sise_ort": sise_ort.__version__,
                "onnx": onnx.__version__,
                "onnx_ir": ir.__version__,
            },
            files={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
        )
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        report("comparing the bundle with the source model")
        quantised = any(node.op_type == "QuantizeLinear" for node in cleaned.model.graph)
        compare(folder, manifest, known.reference, found.activation, quantised)
        if precision != "fp32":
            report(f"lowering predict to {precision}, and comparing the heat maps")
            manifest = lower(folder, manifest, precision, calibration, least_correlation)
        move_into_place(folder, target, force)
    return manifest
