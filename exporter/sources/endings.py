"""What stands behind the scores at a file's end: winners, thresholds, non-maximum suppression, dictionaries.

They have no gradient, or give no numbers. The tensor in front of them is what can be explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from sise_ort.errors import SourceError, option
from sise_ort.exporter.head import final_activation
from sise_ort.exporter.ops import attribute, constant_array

DECISIONS = frozenset(
    """And ArgMax ArgMin Binarizer Ceil Equal Floor Greater GreaterOrEqual Hardmax LabelEncoder Less LessOrEqual NonZero Not
    OneHot Optional Or Round SequenceConstruct SequenceInsert Sign TopK Unique Xor ZipMap""".split()
)
"""Operators that give a decision about their inputs, or only pack them; NonMaxSuppression and Cast are treated apart."""
SUPPRESSION = frozenset("NonMaxSuppression EfficientNMS_TRT BatchedNMS_TRT BatchedNMSDynamic_TRT".split())
"""Operators that drop overlapping boxes: input 0 holds the boxes, input 1 their scores."""
_FOLLOWING = frozenset(
    """Add ArrayFeatureExtractor Cast Clip Compress Concat ConcatFromSequence Div Expand Flatten Gather GatherElements GatherND
    Identity Max Min Mul Neg Pad Reshape Resize ScatterND SequenceAt Slice Split Squeeze Sub Tile Transpose Unsqueeze Upsample
    Where""".split()
)
"""Operators that may stand behind a decision; none of them ends the scores by itself."""
_PICKING = frozenset("ArrayFeatureExtractor Compress Gather GatherElements GatherND Slice".split())
"""Operators that pick parts of their first input."""
_SAME_VALUES = frozenset("Dropout Flatten Identity Reshape Squeeze Transpose Unsqueeze".split())
_ACTIVATIONS = frozenset("LogSoftmax Sigmoid Softmax".split())
_PACKING = frozenset("Optional SequenceConstruct SequenceInsert".split())
_REAL = frozenset(
    {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE, ir.DataType.UNDEFINED}
)
_DEEPEST = 64
"""Nodes from an output back to its scores at most: what is longer is a network, no ending."""


@dataclass(frozen=True)
class Ending:
    """What an output of a file comes from.

    Attributes
    ----------
    output : str
        Name of the output.
    before : tuple of ir.Value
        The tensors in front of the ending; the output itself where there is no ending.
    operators : tuple of str
        The operators of the ending, from the scores on; () where there is none.
    labels : tuple of str
        Class names that the ending holds.
    """

    output: str
    before: tuple[ir.Value, ...]
    operators: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The ending as a note names it: "'label' ends with ArgMax"."""
        named = ", ".join(dict.fromkeys(self.operators))
        return f"output '{self.output}' ends with {named}"


@dataclass(frozen=True)
class Chosen:
    """The output that is explained.

    Attributes
    ----------
    siblings : tuple of str
        The file's other outputs that end with a Softmax or Sigmoid.
    tensor : str
        Name of the tensor that stands in for the file's output; "" where it is the output itself.
    notes : tuple of str
        What a user should know about the choice.
    labels : tuple of str
        Class names that the file holds; () if none.
    """

    siblings: tuple[str, ...] = ()
    tensor: str = ""
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass
class _Found:
    """A tensor in front of an ending, while walking back."""

    values: tuple[ir.Value, ...]
    operators: tuple[str, ...]
    labels: list[str] = field(default_factory=list)


def choose_output(graph: ir.Graph, asked: str | None = None) -> Chosen:
    """Leave one output, in front of an ending that is no scores.

    Parameters
    ----------
    graph : ir.Graph
        Changed in place; constants are initializers.
    asked : str, optional
        Name of the output to take; needed where there are several that do not come from one tensor.

    Returns
    -------
    Chosen

    Raises
    ------
    SourceError
        There is no such output, or several are left.
    """
    if not graph.outputs:
        raise SourceError("the model has no output")
    declared = list(graph.outputs)
    names = [v.name or "" for v in declared]
    if asked is not None and asked not in names:
        raise SourceError(
            f"{option('output')}: there is no output '{asked}'; the model has {', '.join(names)}"
        )
    endings = find_endings(graph)
    wanted = [e for e in endings if asked is None or e.output == asked]
    keep = _one_tensor(wanted)
    if keep is None:
        raise SourceError(_several(wanted, asked))
    siblings = tuple(
        v.name or "" for v in declared if final_activation(v) is not None and root_of(v) is not root_of(keep)
    )
    notes = _notes(wanted, keep)
    labels = next((e.labels for e in wanted if e.labels), ())
    graph.outputs[:] = [keep]
    tensor = keep.name or ""
    return Chosen(siblings, "" if tensor == (asked or names[0]) else tensor, notes, labels)


def find_endings(graph: ir.Graph) -> list[Ending]:
    """Walk back from every output of a graph to the tensors in front of its ending.

    Parameters
    ----------
    graph : ir.Graph
        Constants are initializers.

    Returns
    -------
    list of Ending
        One per output, in the file's order.
    """
    walk = _Walk(graph)
    endings = []
    for value in graph.outputs:
        found = walk.back(value)
        name = value.name or ""
        if found is None:
            endings.append(Ending(name, (value,)))
        else:
            endings.append(Ending(name, found.values, found.operators, tuple(found.labels)))
    return endings


def root_of(value: ir.Value, *, through_activations: bool = True) -> ir.Value:
    """The tensor whose values another one holds, in another shape or order, or after the final activation."""
    passing = _SAME_VALUES | (_ACTIVATIONS if through_activations else frozenset())
    node = value.producer()
    while node is not None and node.op_type in passing and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


class _Walk:
    """Walks back from outputs; remembers what it found."""

    def __init__(self, graph: ir.Graph) -> None:
        self._from_picture: set[ir.Value] = {v for v in graph.inputs if v.const_value is None}
        for node in graph:
            if any(v in self._from_picture for v in node.inputs if v is not None):
                self._from_picture.update(node.outputs)
        self._known: dict[ir.Value, _Found | None] = {}

    def back(self, value: ir.Value, depth: int = 0) -> _Found | None:
        """The tensors in front of the ending that `value` belongs to; None where it belongs to none."""
        if value not in self._known:
            self._known[value] = None  # also the answer where the graph is too deep
            node = value.producer()
            if node is not None and value in self._from_picture and depth < _DEEPEST:
                self._known[value] = self._through(node, depth)
        return self._known[value]

    def _through(self, node: ir.Node, depth: int) -> _Found | None:
        data = [v for v in node.inputs if v is not None and v in self._from_picture]
        if node.op_type in SUPPRESSION:
            return self._decision(node, [v for v in node.inputs[1:2] if v in data], depth)
        if node.op_type in DECISIONS or _casts_to_whole(node):
            return self._decision(node, data, depth)
        if node.op_type in _FOLLOWING:
            return self._following(node, data, depth)
        return None

    def _decision(self, node: ir.Node, data: Sequence[ir.Value | None], depth: int) -> _Found | None:
        found = self._union([v for v in data if v is not None], depth)
        if not found.values or (len(found.values) > 1 and node.op_type not in _PACKING):
            return None
        return _Found(found.values, (*found.operators, node.op_type), found.labels + _labels(node))

    def _following(self, node: ir.Node, data: Sequence[ir.Value], depth: int) -> _Found | None:
        """Behind a decision about one tensor everything is; behind a mixture of it and others, nothing."""
        parts = [self.back(v, depth + 1) for v in data]
        if all(p is None for p in parts):
            return None
        found = self._union(data, depth)
        found.labels += _labels(node)
        if node.op_type in _PICKING and data[0] is node.inputs[0] and parts[0] is None:
            found.values = (data[0],)  # which parts are picked is decided by the others
        if len(found.values) > 1 and not all(p is not None and _packed(p) for p in parts):
            return None
        return found

    def _union(self, data: Iterable[ir.Value], depth: int) -> _Found:
        values: dict[ir.Value, ir.Value] = {}
        operators: list[str] = []
        labels: list[str] = []
        for value in data:
            found = self.back(value, depth + 1)
            for inner in (value,) if found is None else found.values:
                values.setdefault(root_of(inner, through_activations=False), inner)
            if found is not None:
                operators += found.operators
                labels += found.labels
        return _Found(tuple(values.values()), tuple(dict.fromkeys(operators)), labels)


def _packed(found: _Found) -> bool:
    return any(name in _PACKING for name in found.operators)


def _casts_to_whole(node: ir.Node) -> bool:
    return node.op_type == "Cast" and ir.DataType(attribute(node, "to")) not in _REAL


def _labels(node: ir.Node) -> list[str]:
    """Class names that an operator of the ending turns indices into."""
    if node.op_type == "ZipMap":
        return [_text(s) for s in attribute(node, "classlabels_strings", ())]
    if node.op_type in ("ArrayFeatureExtractor", "Gather"):
        table = node.inputs[0]
        if (
            table is not None
            and table.const_value is not None
            and table.const_value.dtype == ir.DataType.STRING
        ):
            array = constant_array(table)
            return [] if array is None else [_text(s) for s in array.reshape(-1)]
    return []


def _text(label: str | bytes) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def _one_tensor(endings: Sequence[Ending]) -> ir.Value | None:
    """The tensor that all outputs come from; None where there are several.

    Confidences that are the largest score come from the scores, too. Of several forms of one tensor an output of the
    file that ends with an activation is taken, else an output of the file, else the first.
    """
    ways = [e for e in endings if not _is_boxes(e, endings)]
    values = [v for e in ways for v in e.before]
    roots = {root_of(v) for e in ways if e.operators for v in e.before} or {root_of(v) for v in values}
    forms = [v for v in values if root_of(v) in roots]
    others = [v for v in values if root_of(v) not in roots]
    if len(roots) != 1 or any(_largest_of(v) not in roots for v in others):
        return None
    whole = {v for e in endings if not e.operators for v in e.before}
    return max(forms, key=lambda v: (final_activation(v) is not None, v in whole))


def _largest_of(value: ir.Value) -> ir.Value | None:
    """Of what a tensor is the maximum, if it is one."""
    node = root_of(value, through_activations=False).producer()
    if node is None or node.op_type != "ReduceMax" or node.inputs[0] is None:
        return None
    return root_of(node.inputs[0])


def _is_boxes(ending: Ending, endings: Sequence[Ending]) -> bool:
    """Whether an output holds the boxes whose scores another output holds, by the file's non-maximum suppression."""
    for other in endings:
        for value in other.before:
            for node, place in value.uses():
                if node.op_type in SUPPRESSION and place == 1 and node.inputs[0] is not None:
                    boxes = root_of(node.inputs[0])
                    if all(root_of(v) is boxes for v in ending.before):
                        return True
    return False


def _notes(endings: Sequence[Ending], keep: ir.Value) -> tuple[str, ...]:
    ended = [e for e in endings if e.operators]
    if not ended:
        if len(endings) < 2:
            return ()
        listed = ", ".join(e.output for e in endings)
        return (f"the outputs {listed} come from one tensor: '{keep.name}' is explained",)
    operators = ", ".join(dict.fromkeys(o for e in ended for o in e.operators))
    listed = ", ".join(f"'{e.output}'" for e in ended)
    return (
        f"output{'s' if len(ended) > 1 else ''} {listed} end{'' if len(ended) > 1 else 's'} with {operators}, which has no "
        f"gradient: the tensor before it, '{keep.name}', is explained",
    )


def _several(endings: Sequence[Ending], asked: str | None) -> str:
    """The error where one output has to be named."""
    if asked is not None or len(endings) == 1:
        tensors = ", ".join(f"'{v.name}'" for e in endings for v in e.before)
        return f"{endings[0].words}, and before it stand the tensors {tensors}: name one of them with {option('output')}"
    listed = ", ".join(e.output for e in endings)
    before = [
        f"'{v.name}' (before {e.operators[-1]} of {e.output})"
        for e in endings
        if e.operators
        for v in e.before
    ]
    active = [
        (e.output, node.op_type)
        for e in endings
        for v in e.before
        if (node := final_activation(v)) is not None
    ]
    scores = f" ('{active[0][0]}' ends with {active[0][1]})" if len(active) == 1 else ""
    hint = f"; or a tensor before an ending without gradient: {', '.join(before[:3])}" if before else ""
    return f"the model has the outputs {listed}: name the class scores with {option('output')}{scores}{hint}"
