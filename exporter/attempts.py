"""Tries an export up to its gradients, as it is asked for and with the options that errors name: what would help?"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from sise_ort.errors import NoBlocksError, SiseError, options_in
from sise_ort.exporter.attention import mixings
from sise_ort.exporter.blocks import Candidate, choose_blocks, feature_maps, require_rules
from sise_ort.exporter.export import Network, load_network
from sise_ort.exporter.head import final_activation
from sise_ort.exporter.looks import has_places
from sise_ort.exporter.options import GROUPS, Options
from sise_ort.exporter.sources.source import Source
from sise_ort.exporter.sources.translation import translated

MOST_TRIES = 16
"""Sets of options that are tried, where an export fails as it was asked for."""
KNOWN = frozenset(field.name for group in GROUPS.values() for field in dataclasses.fields(group))
"""The options of an export."""
STAND_IN_SIZE = 224
"""Pixels of a side, tried where a file leaves its picture's size open."""


@dataclass(frozen=True)
class Try:
    """An export up to its gradients: how far it came with some further options.

    Attributes
    ----------
    options : mapping
        The further options.
    network : Network or None
        The cleaned network, where it came so far.
    chosen : tuple of Candidate
        Its blocks, where they were found.
    problem : SiseError or None
        What stopped it.
    """

    options: Mapping[str, Any]
    network: Network | None = None
    chosen: tuple[Candidate, ...] = ()
    problem: SiseError | None = None


def own_copy(source: Source) -> Source:
    """The source with a model of its own: cleaning changes it."""
    if isinstance(source.model, ir.Model):
        return dataclasses.replace(source, model=source.model.clone())
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    return dataclasses.replace(source, model=model)


def tries_of(source: Source, raw: ir.Graph, options: Mapping[str, Any], asked: Options) -> Iterator[Try]:
    """Exports up to their gradients: as asked, then with the options that errors name, until one goes through."""
    waiting: list[Mapping[str, Any]] = [{}]
    given = {name for name, value in options.items() if value not in (None, "auto")}
    through: list[Mapping[str, Any]] = []
    seen = 0
    while waiting and seen < MOST_TRIES:
        further = waiting.pop(0)
        if any(way.items() <= further.items() for way in through):
            continue
        found = _attempt(source, {**options, **further}, further)
        seen += 1
        yield found
        if found.problem is None:
            if not further:
                return
            through.append(further)
            continue
        for name, value in _named_by(found, raw, asked):
            if name not in further and name not in given and {**further, name: value} not in waiting:
                waiting.append({**further, name: value})


def _attempt(source: Source, options: Mapping[str, Any], further: Mapping[str, Any]) -> Try:
    network: Network | None = None
    chosen: tuple[Candidate, ...] = ()
    try:
        network = load_network(own_copy(source), **options)
        with translated("its blocks cannot be found"):
            chosen = tuple(choose_blocks(network.graph, options.get("layers"), network.found.places))
            require_rules(network.graph, chosen)
    except SiseError as error:
        return Try(further, network, chosen, error)
    return Try(further, network, chosen)


def _named_by(found: Try, raw: ir.Graph, asked: Options) -> list[tuple[str, Any]]:
    """Options that an error names, with values that may help."""
    assert found.problem is not None
    options = options_in(found.problem)
    named: list[tuple[str, Any]] = []
    if "output" in options and asked.outputs.output is None and len(raw.outputs) > 1:
        named += [("output", v.name) for v in likely_first(raw.outputs)]
    if "input_size" in options:
        fitting = re.search(r"squares of \d+ to (\d+) pixels", str(found.problem))
        named.append(("input_size", int(fitting[1]) if fitting else STAND_IN_SIZE))
    if "head" in options:
        named.append(("head", "none"))
    if "task" in KNOWN and found.network is None and "output" in str(found.problem):
        named += [("task", task) for task in ("detection", "value")]
    if options.get("layers") is not None:
        named.append(("layers", options["layers"]))
    elif isinstance(found.problem, NoBlocksError) and found.network is not None:
        named += _nameable(found.network.graph)
    return named


def likely_first(outputs: Sequence[ir.Value]) -> list[ir.Value]:
    """Outputs that end with a Softmax or Sigmoid before the others."""
    return sorted(outputs, key=lambda v: final_activation(v) is None)


def _nameable(graph: ir.Graph) -> list[tuple[str, Any]]:
    """Feature maps where the rule finds no blocks: the last in front of what mixes all places, or the last of each size."""
    maps = feature_maps(graph)
    if found := mixings(graph):
        front: set[str | None] = set()
        for node in graph:
            if node is found[0].node:
                break
            front.update(v.name for v in node.outputs)
        maps = [c for c in maps if c.tensor in front][-1:]
    last = {(c.height, c.width): c.tensor for c in maps}
    return [("layers", list(last.values()))] if last else []


def gives_places(graph: ir.Graph) -> bool:
    """Whether an output of a network has values for several places or candidates of a picture."""
    return any(has_places(v, graph.inputs[0]) for v in graph.outputs)
