"""Looks into any model, also one that cannot be exported: what is in it, what stands in the way, and what would help."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from sise_ort.errors import (
    Message,
    MissingDependencyError,
    ParameterError,
    SiseError,
    SourceError,
)
from sise_ort.exporter.attempts import STAND_IN_SIZE, Try, gives_places, likely_first, own_copy, tries_of
from sise_ort.exporter.blocks import (
    Candidate,
    candidates,
    choose_blocks,
    feature_maps,
)
from sise_ort.exporter.export import Network
from sise_ort.exporter.gradients import without_rule
from sise_ort.exporter.gradients.engine import passes_gradient, rule_of
from sise_ort.exporter.looks import (
    Tensor,
    dims_of,
    input_looks,
    output_looks,
    picture_size,
    rows_per_picture,
    tensor_of,
)
from sise_ort.exporter.options import Options
from sise_ort.exporter.sources.choose import load_source
from sise_ort.exporter.sources.cleaning import clean
from sise_ort.exporter.sources.lenient import is_file, read_leniently
from sise_ort.exporter.sources.source import Source
from sise_ort.exporter.sources.translation import translated

MOST_OUTPUTS = 12
"""Outputs whose shapes are worked out, where there are several."""


@dataclass(frozen=True)
class Inspection:
    """What is in a model.

    Attributes
    ----------
    source : str
        The model as errors name it.
    facts : mapping of str to str
        Opset, producer, number of nodes and of weights.
    inputs, outputs : tuple of Tensor
        As the file has them, each with what it looks like.
    candidates : tuple of Candidate
        Tensors that the rule of blocks may choose (docs/method.md, Blocks), and why others of them are left out.
    chosen : tuple of Candidate
        The blocks that the rule or ``layers=`` takes.
    further : tuple of Candidate
        Feature maps that are no candidates; ``layers=`` takes their names, too.
    without_rule : mapping of str to int
        Operators between input and output without a gradient rule, and how often they come.
    obstacles : tuple of SiseError
        What stands in the way of an export with these options; empty where nothing does.
    tried : tuple of (mapping, SiseError)
        Sets of further options that were tried in vain, each with what then stands in the way.
    ways : tuple of mapping
        Sets of further options that were tried and with which an export finds its blocks and gradients.
    shown_with : mapping
        The further options of which `candidates` and all after it are true.
    task : str
        What an export with these options takes the outputs for; "" where it does not come so far.
    notes : tuple of Message
        What such an export tells.
    needs_normalization : bool
        The model does not say how pixels are normalised, and an export must be told.
    """

    source: str
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    chosen: tuple[Candidate, ...] = ()
    further: tuple[Candidate, ...] = ()
    without_rule: Mapping[str, int] = dataclasses.field(default_factory=dict)
    obstacles: tuple[SiseError, ...] = ()
    tried: tuple[tuple[Mapping[str, Any], SiseError], ...] = ()
    ways: tuple[Mapping[str, Any], ...] = ()
    shown_with: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task: str = ""
    notes: tuple[Message, ...] = ()
    needs_normalization: bool = False


def inspect(source: Any, weights: str | Path | None = None, **options: Any) -> Inspection:
    """Look into a model, also into one that cannot be exported.

    Parameters
    ----------
    source, weights, options
        See `export_bundle`.

    Returns
    -------
    Inspection

    Raises
    ------
    ParameterError
        An option is out of its range, or does not go with this kind of source.
    SourceError
        There is no such file, or no such name.

    Notes
    -----
    What cannot be read of a file is an obstacle in the result, not an error.
    """
    asked = Options.of(options)
    loaded, unread = _load(source, weights, asked)
    if loaded is None:
        return Inspection(f"'{source}'", obstacles=(unread,) if unread is not None else ())
    try:
        with translated(f"{loaded.words} cannot be inspected", SourceError):
            return _inspected(loaded, unread, options, asked)
    except SourceError as error:
        return Inspection(loaded.words, obstacles=(error,) if unread is None else (unread, error))


def _inspected(
    loaded: Source, unread: SiseError | None, options: Mapping[str, Any], asked: Options
) -> Inspection:
    raw = ir.from_proto(loaded.model) if isinstance(loaded.model, onnx.ModelProto) else loaded.model
    inputs = [v for v in raw.graph.inputs if v.name not in raw.graph.initializers]
    looks = [input_looks(v) for v in inputs]
    best, tries = _best_of(tries_of(loaded, raw.graph, options, asked))
    known = best.network is not None and len(raw.graph.outputs) == 1 and _is_known(raw.graph.outputs[0])
    side = best.options.get("input_size", STAND_IN_SIZE)
    cleaned = {} if known else _cleaned(loaded, raw.graph, asked, side)
    graph: ir.Graph | None
    if best.network is not None:
        graph, shown_with = best.network.graph, best.options
    else:
        graph, shown_with = next(iter(cleaned.values())) if cleaned else (None, {})
    pictures = any("picture" in words and not words.startswith("no ") for words in looks)
    obstacles = [
        unread,
        None if pictures else _no_picture(),
        tries[0].problem if pictures or best.network or cleaned else None,
    ]
    return Inspection(
        loaded.words,
        _facts(loaded.model, raw.graph),
        tuple(tensor_of(v, words) for v, words in zip(inputs, looks, strict=True)),
        tuple(_output(v, cleaned, inputs) for v in raw.graph.outputs),
        *_maps(graph, best, asked),
        _operators(raw.graph)
        if graph is None
        else _counted(without_rule(graph.outputs[0], [graph.inputs[0]])),
        tuple(e for e in obstacles if e is not None),
        tuple((t.options, t.problem) for t in tries[1:] if t.problem is not None),
        tuple(t.options for t in tries if t.problem is None and t.options and unread is None),
        shown_with,
        *_task_and_notes(best.network),
        "mean" not in loaded.defaults,
    )


def _task_and_notes(network: Network | None) -> tuple[str, tuple[Message, ...]]:
    """The task of a network, and what an export of it tells."""
    if network is None:
        return "", ()
    notes = (*network.source.notes, *network.clean.notes, *network.found.said)
    return network.found.task.name, tuple(map(Message, notes))


def _best_of(tries: Iterable[Try]) -> tuple[Try, list[Try]]:
    """The first export that goes through, or comes farthest; and all of them, without their networks."""
    best, listed = None, []
    for found in tries:
        reached = (found.problem is None, found.network is not None)
        if best is None or reached > (best.problem is None, best.network is not None):
            best = found
        listed.append(dataclasses.replace(found, network=None))
    assert best is not None
    return best, listed


def _is_known(output: ir.Value) -> bool:
    """Whether the file says all of an output's axes but the first."""
    dims = dims_of(output)
    return dims is not None and all(isinstance(d, int) for d in dims[1:])


def _no_picture() -> SourceError:
    return SourceError("no input looks like a picture, and only what is done to pictures can be explained")


def _load(source: Any, weights: str | Path | None, asked: Options) -> tuple[Source | None, SiseError | None]:
    """The source; where it cannot be loaded whole, what can be read of its file, and what cannot."""
    try:
        return load_source(
            source, weights=weights, classes=asked.outputs.classes, input_size=asked.input.size,
            output=asked.outputs.output, color=asked.input.color, inputs=asked.input.inputs,
        ), None  # fmt: skip
    except (ParameterError, MissingDependencyError):
        raise
    except SiseError as error:
        if not isinstance(source, (str, Path)) or not is_file(source):
            raise
        proto = read_leniently(source)
        if proto is None:
            return None, error
        return Source(Path(source).stem, proto, _no_reference, {}, words=f"'{source}'"), error


def _no_reference(*inputs: Any) -> Any:
    raise SourceError("the model cannot be run")


def _cleaned(
    source: Source, raw: ir.Graph, asked: Options, side: int
) -> dict[str, tuple[ir.Graph, Mapping[str, Any]]]:
    """The cleaned network up to each output, as far as it can be cleaned, and the further options that this took."""
    found: dict[str, tuple[ir.Graph, Mapping[str, Any]]] = {}
    several = len(raw.outputs) > 1
    names = [v.name or "" for v in likely_first(raw.outputs)][:MOST_OUTPUTS]
    if asked.outputs.output is not None:
        names = [asked.outputs.output]
    for name in names:
        for further in ({}, {"input_size": side}) if asked.input.size is None else ({},):
            size = (side, side) if further else asked.input.size
            try:
                with translated("it cannot be cleaned"):
                    model = own_copy(source).model
                    network = clean(model, input_size=size, output=name, default_size=source.size)
            except SiseError:
                continue
            found[name] = network.model.graph, {"output": name, **further} if several else further
            break
    return found


def _maps(
    graph: ir.Graph | None, best: Try, asked: Options
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Candidates, chosen ones, and feature maps that are neither."""
    if graph is None:
        return (), (), ()
    chosen = best.chosen
    places = best.network.found.places if best.network is not None else gives_places(graph)
    if not chosen:
        with contextlib.suppress(SiseError):
            chosen = tuple(choose_blocks(graph, asked.blocks.layers, places))
    found = candidates(graph, places)
    known = {c.tensor for c in (*found, *chosen)}
    return tuple(found), chosen, tuple(c for c in feature_maps(graph) if c.tensor not in known)


def _operators(graph: ir.Graph) -> dict[str, int]:
    """Operators without a gradient rule among those that depend on an input, as the file has them."""
    moving = {v for v in graph.inputs if v.name not in graph.initializers}
    found = []
    for node in graph:
        if moving.isdisjoint(node.inputs) or not passes_gradient(node):
            continue
        moving.update(node.outputs)
        if rule_of(node) is None:
            found.append(node)
    return _counted(found)


def _counted(nodes: Sequence[ir.Node]) -> dict[str, int]:
    names = [f"{n.domain}.{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type for n in nodes]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def _output(
    value: ir.Value, cleaned: Mapping[str, tuple[ir.Graph, Mapping[str, Any]]], inputs: Sequence[ir.Value]
) -> Tensor:
    """An output as the file has it, with the axes that the cleaned network knows."""
    graph = cleaned[value.name][0] if value.name and value.name in cleaned else None
    shape = dims_of(graph.outputs[0]) if graph is not None else None
    picture, rows = next((size for v in inputs if (size := picture_size(v))), None), 1
    if graph is not None and (image := dims_of(graph.inputs[0])) is not None:
        picture, rows = (image[2], image[3]), rows_per_picture(shape or (), image)  # type: ignore[assignment]
    return tensor_of(value, output_looks(value, shape, picture, rows), shape)


def _facts(model: onnx.ModelProto | ir.Model, graph: ir.Graph) -> dict[str, str]:
    if isinstance(model, onnx.ModelProto):
        opsets = {o.domain: o.version for o in model.opset_import}
        producer = f"{model.producer_name} {model.producer_version}".strip()
    else:
        opsets, producer = dict(model.opset_imports), model.producer_name or ""
    count = sum(v.const_value.size for v in graph.initializers.values() if v.const_value is not None)
    return {
        "opset": ", ".join(f"{domain} {number}".strip() for domain, number in opsets.items()),
        "producer": producer,
        "nodes": f"{len(graph):,}",
        "weights": f"{count:,}",
    }
