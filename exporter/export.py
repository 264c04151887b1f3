"""From a model to a bundle: load, clean, cut the head, find blocks, build the phases, write, compare, rename."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

import sise_ort
from sise_ort.bundle import (
    EXPLAIN,
    OPTIONAL_PHASES,
    READOUT,
    Fit,
    InputSpec,
    Layer,
    Manifest,
    Preprocessing,
)
from sise_ort.errors import GradientError, Message, ParameterError, SourceError, option
from sise_ort.exporter.blocks import (
    Candidate,
    candidates,
    choose_blocks,
    require_rules,
    require_rules_to_image,
)
from sise_ort.exporter.compose import FILE, composed, require_composable
from sise_ort.exporter.labels import read_labels, repeated
from sise_ort.exporter.options import Options, with_options
from sise_ort.exporter.phases.apply import build_apply
from sise_ort.exporter.phases.extract import build_extract
from sise_ort.exporter.phases.full_gradient import build_full_gradient
from sise_ort.exporter.phases.fuse import build_fuse
from sise_ort.exporter.phases.head import build_head
from sise_ort.exporter.phases.image_gradient import build_image_gradient
from sise_ort.exporter.phases.mask import build_mask
from sise_ort.exporter.phases.predict import build_predict, build_readout
from sise_ort.exporter.phases.sketch import build_sketch
from sise_ort.exporter.precision import lower
from sise_ort.exporter.randomisation import check_randomised
from sise_ort.exporter.sources.choose import load_source
from sise_ort.exporter.sources.cleaning import CleanNetwork, clean
from sise_ort.exporter.sources.source import Source
from sise_ort.exporter.sources.translation import translated
from sise_ort.exporter.tasks import FoundTask, cut_detector, cut_task, may_detect
from sise_ort.exporter.verify import compare, compare_uncut
from sise_ort.exporter.writing import (
    folder_in_the_making,
    move_into_place,
    refuse_existing,
    write_graphs,
    write_manifest,
)
from sise_ort.tasks import Embedding, Values

Report = Callable[[str], None]


@dataclass(frozen=True)
class Network:
    """A loaded source, cleaned, with the outputs of its task."""

    source: Source
    clean: CleanNetwork
    found: FoundTask
    uncut: ir.Model | None = None
    """Where the outputs were rewritten into others: the network with those of the file."""

    @property
    def graph(self) -> ir.Graph:
        return self.clean.model.graph

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided that a user should know, and how to overrule it."""
        return *self.source.notes, *self.clean.notes, *self.found.said

    def reference(self, inputs: NDArray[np.float32]) -> NDArray[Any]:
        """The source's own output [n, …] for network inputs [n, C, H, W]."""
        values = self.source.reference(inputs, self.clean.file_input)
        return values if self.found.scored is None else self.found.scored.mean(values)

    def reference_at(self, tensor: str, inputs: NDArray[np.float32]) -> NDArray[Any]:
        """A tensor [n, …] of the source's file for network inputs [n, C, H, W]."""
        assert self.source.reference_at is not None
        return self.source.reference_at(tensor)(inputs, self.clean.file_input)


@dataclass(frozen=True)
class Plan:
    """What an export will write.

    Attributes
    ----------
    network : Network
    spec : InputSpec
    facts : Preprocessing
    fit : Fit
    labels : tuple of str
    blocks : sequence of Candidate
    phases : frozenset of str
        The further graphs, by their names in a bundle.
    """

    network: Network
    spec: InputSpec
    facts: Preprocessing
    fit: Fit
    labels: tuple[str, ...]
    blocks: Sequence[Candidate]
    phases: frozenset[str]

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(Layer(c.tensor, c.module, c.channels, c.height, c.width) for c in self.blocks)


def load_network(source: Any, weights: str | Path | None = None, **options: Any) -> Network:
    """Load a network and clean it: all steps before the choice of blocks.

    Parameters
    ----------
    source, weights, options
        See `export_bundle`.

    Raises
    ------
    SourceError, ParameterError
    """
    return _load(source, weights, Options.of(options))


def _load(source: Any, weights: str | Path | None, options: Options) -> Network:
    size, outputs = options.input.size, options.outputs
    loaded = load_source(
        source, weights=weights, classes=outputs.classes, input_size=size, output=outputs.output, color=options.input.color,
        inputs=options.input.inputs,
    )  # fmt: skip
    with translated(f"{loaded.words} cannot be read as a network", SourceError):
        detects = outputs.task == "detection"
        if detects or (outputs.task == "auto" and outputs.output is None and may_detect(loaded.model)):
            try:
                return _detector(loaded, size)
            except SourceError:
                if detects:
                    raise
        network = clean(loaded.model, input_size=size, output=outputs.output, default_size=loaded.size)
        chosen = network.chosen
        found = cut_task(network.model, outputs.task, outputs.head, chosen.siblings)
        tensor = chosen.tensor if found.scored is None else found.scored.tensor
        if tensor and loaded.reference_at is not None:
            loaded = replace(loaded, reference=loaded.reference_at(tensor))
        return Network(loaded, network, found)


def _detector(loaded: Source, size: tuple[int, int] | None) -> Network:
    """The network with the outputs of a detector; a copy, so that it can still be read in another way."""
    model = loaded.model.clone() if isinstance(loaded.model, ir.Model) else loaded.model
    network = clean(model, input_size=size, default_size=loaded.size, every_output=True)
    uncut = network.model.clone()
    return Network(loaded, network, cut_detector(network.model), uncut)


def list_layers(
    source: Any, weights: str | Path | None = None, **options: Any
) -> tuple[list[Candidate], list[Candidate], GradientError | None]:
    """List the tensors of a network that may serve as block outputs.

    Parameters
    ----------
    source, weights, options
        See `export_bundle`.

    Returns
    -------
    candidates : list of Candidate
    chosen : list of Candidate
        Those that an export would take.
    problem : GradientError or None
        Why an export could not take them.
    """
    asked = Options.of(options)
    network = _load(source, weights, asked)
    with translated(f"the layers of {network.source.words} cannot be listed"):
        chosen = choose_blocks(network.graph, asked.blocks.layers, network.found.places)
        try:
            require_rules(network.graph, chosen)
        except GradientError as error:
            return candidates(network.graph, network.found.places), chosen, error
        return candidates(network.graph, network.found.places), chosen, None


def export_bundle(
    source: Any,
    bundle: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    force: bool = False,
    report: Report = lambda step: None,
    **options: Any,
) -> Manifest:
    """Turn a CNN into a bundle.

    Parameters
    ----------
    source : str, Path or torch.nn.Module
        Path of an .onnx file, a torchvision name, "timm:NAME", "package.module:factory", or a module.
    bundle : str or Path, optional
        Folder to write; None takes NAME.sise in the working folder.
    weights : str or Path, optional
        For PyTorch: "DEFAULT", "NONE" or a file with a state dict.
    force : bool
        Replace an existing bundle.
    report : callable
        Called with a sentence at each step, and with what a user should know.
    **options
        The fields of `options.Input`, `options.Outputs`, `options.Blocks`, `options.Lowered` and
        `randomisation.Checked`, flat:
        ``normalize="imagenet", labels="names.txt"``.

    Returns
    -------
    Manifest
        Manifest of the bundle that was written.

    Raises
    ------
    ExportError
        The source cannot be exported; SourceError, NoBlocksError and GradientError are kinds of it. Nothing is left
        behind, and an existing bundle stays as it was.
    ParameterError, OutputError
    """
    asked = Options.of(options)
    if bundle is not None and not isinstance(bundle, (str, Path)):
        raise ParameterError(f"{option('bundle')} is {bundle!r}; it must be a path")
    if bundle is not None:
        refuse_existing(Path(bundle), force)
    report("loading the model")
    network = _load(source, weights, asked)
    target = Path(bundle) if bundle is not None else Path(f"{network.source.name}.sise")
    refuse_existing(target, force)
    for note in network.notes:
        report(Message(f"note: {note}"))
    with translated(f"{network.source.words} cannot be exported"):
        plan = _plan(network, asked)
        if EXPLAIN in plan.phases:
            require_composable(_describe(plan, target.stem))
        if said := repeated(plan.labels):
            report(said)
        report("differentiating and building the graphs")
        models = _build(plan)
    with folder_in_the_making(target) as folder:
        report("writing the bundle")
        write_graphs(models, folder)
        written = write_manifest(folder, _describe(plan, target.stem))
        report("comparing the bundle with the source model")
        quantised = any(node.op_type == "QuantizeLinear" for node in network.graph)
        with translated(f"the bundle of {network.source.words} cannot be compared with it"):
            compare(
                written, network.reference, network.found.restore, quantised, network.clean.rounds_otherwise
            )
            if network.uncut is not None and network.source.reference_at is not None:
                compare_uncut(network.uncut, network.reference_at, written.manifest)
        if asked.checked.check is not None:
            report("shuffling the weights from the last layers to the first, and comparing the heat maps")
            written = check_randomised(written, asked.checked)
        if written.manifest.precision != asked.lowered.precision:
            report(f"lowering predict to {asked.lowered.precision}, and comparing the heat maps")
            written = lower(written, asked.lowered)
        if EXPLAIN in asked.blocks.phases:
            report(f"writing {FILE}, and comparing it with the bundle")
            (folder / FILE).write_bytes(composed(written))
            written = write_manifest(folder, written.manifest)
        move_into_place(folder, target, force)
    return written.manifest


export_bundle.__signature__ = with_options(inspect.signature(export_bundle))  # type: ignore[attr-defined]


def _plan(network: Network, options: Options) -> Plan:
    """Check the options against the network, and choose the blocks."""
    cleaned, known = network.clean, network.source
    facts = options.input.preprocessing(cleaned.channels, {**cleaned.file_input.defaults, **known.defaults})
    spec = InputSpec(
        cleaned.height,
        cleaned.width,
        cleaned.channels,
        options.input.frame_dtype,
        1 if cleaned.one_at_a_time else None,
    )
    labels = _labels(network, options)
    chosen = choose_blocks(network.graph, options.blocks.layers, network.found.places)
    require_rules(network.graph, chosen)
    if not options.blocks.phases.isdisjoint({"image_gradient", "full_gradient"}):
        require_rules_to_image(network.graph)
    fit = options.input.placement(spec, facts, known.defaults)
    return Plan(network, spec, facts, fit, labels, chosen, options.blocks.phases)


def _labels(network: Network, options: Options) -> tuple[str, ...]:
    found, asked = network.found, options.outputs.labels
    if isinstance(found.task, (Embedding, Values)):
        if asked is not None:
            raise ParameterError(
                f"{option('labels')} name classes, which the task {found.task.name} does not have"
            )
        return ()
    known = network.source.labels or network.clean.chosen.labels
    return read_labels(asked, found.head.classes, known)


def _build(plan: Plan) -> dict[str, ir.Model]:
    """The graphs of a bundle, by phase."""
    model, head, task = plan.network.clean.model, plan.network.found.head, plan.network.found.task
    models = {
        "extract": build_extract(model, plan.blocks, plan.spec, plan.facts, task, head),
        "mask": build_mask(plan.spec),
        "apply": build_apply(plan.spec, plan.facts),
        "predict": build_predict(model, plan.spec, task, head),
        "fuse": build_fuse(plan.layers, plan.spec),
        "sketch": build_sketch(plan.layers, plan.spec),
    }
    if task.on_device:
        models[READOUT] = build_readout(plan.spec, task, head)
    optional: Mapping[str, Callable[[], ir.Model]] = {
        "head": lambda: build_head(model, plan.blocks[-1], plan.spec, task, head),
        "image_gradient": lambda: build_image_gradient(model, plan.spec, task, head),
        "full_gradient": lambda: build_full_gradient(model, plan.spec, plan.facts, task, head),
    }
    return models | {phase: optional[phase]() for phase in OPTIONAL_PHASES if phase in plan.phases}


def _describe(plan: Plan, name: str) -> Manifest:
    """The manifest, but for the hashes of the files."""
    notes = {"notes": [str(Message(note)) for note in said]} if (said := plan.network.notes) else {}
    versions = {"sise_ort": sise_ort.__version__, "onnx": onnx.__version__, "onnx_ir": ir.__version__}
    return Manifest(
        name=name,
        input=plan.spec,
        preprocessing=plan.facts,
        fit=plan.fit,
        head=plan.network.found.head,
        task=plan.network.found.task,
        layers=plan.layers,
        labels=plan.labels,
        precision="fp32",
        origin={**plan.network.source.origin, **notes, **versions},
        files={},
    )
