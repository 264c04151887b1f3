"""Whether heat maps follow the model: its weights are shuffled, layer group by layer group, and the maps must change.

The sanity check of Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (arXiv 1810.03292), cascading randomisation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from sise_ort.bundle import WEIGHTS, Bundle, Randomisation
from sise_ort.datasets import open_dataset
from sise_ort.errors import ExportError, FrameError, ParameterError, TargetError, option
from sise_ort.exporter.writing import write_manifest
from sise_ort.metrics import correlation
from sise_ort.readouts import Question
from sise_ort.runtime.answers import example
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.methods import Sise
from sise_ort.runtime.methods.budget.limits import Budget
from sise_ort.runtime.methods.call import Call

PICTURES = 8
"""Pictures that are explained with every state of the weights."""
METHOD = Sise(budget=Budget(passes=32))
MOST_LIKENESS = 0.5
HEAD = "head"
"""Name of the group behind the last block."""


@dataclass(frozen=True)
class Checked:
    """What is checked before an export ends.

    Attributes
    ----------
    check : path, optional
        Folder of typical pictures: the weights are shuffled from the last layers to the first, and the heat maps of some
        pictures must lose their likeness to the model's own (docs/trust.md). The figures stand in the manifest.
    most_likeness : float
        Largest mean correlation allowed between heat maps of the model and of its shuffled weights.
    """

    check: str | Path | None = None
    most_likeness: float = MOST_LIKENESS

    def __post_init__(self) -> None:
        most = self.most_likeness
        if self.check is not None and not isinstance(self.check, (str, Path)):
            raise ParameterError(f"{option('check')} is {self.check!r}; it must be a folder")
        if isinstance(most, bool) or not isinstance(most, (int, float)) or not -1 <= most <= 1:
            raise ParameterError(f"{option('most_likeness')} is {most!r}; it must be a number from -1 to 1")


def check_randomised(bundle: Bundle, options: Checked) -> Bundle:
    """Compare heat maps with those of shuffled weights, and put the figures into the manifest.

    Parameters
    ----------
    bundle : Bundle
        In float32, as it stands in its folder.
    options : Checked
        With a folder of pictures.

    Returns
    -------
    Bundle
        As it now stands in the folder, with the figures as ``manifest.randomisation``.

    Raises
    ------
    ExportError
        With all groups shuffled, the maps are still more like the model's own than is allowed; or all maps are empty.
    ParameterError
        There are no pictures.
    """
    assert options.check is not None
    rng = np.random.default_rng(0)
    with Explainer(bundle, "cpu") as explainer:
        frames, source = _frames(explainer, options.check)
        asked = [(frame, _question(explainer, frame)) for frame in frames]
        own = [_heatmap(explainer, *one) for one in asked]
    kept = [k for k, heatmap in enumerate(own) if heatmap.any()]
    if not kept:
        raise ExportError(
            f"{option('check')}: the heat maps of all {len(own)} pictures in '{source}' are empty: nothing can be compared. "
            "Take pictures that show what the network was trained on"
        )
    weights = bytearray(bundle.contents[WEIGHTS])
    found: dict[str, tuple[float, ...]] = {}
    for name, places in reversed(layer_groups(bundle)):
        shuffle(weights, places, rng)
        changed = {**bundle.contents, WEIGHTS: memoryview(bytes(weights))}
        with Explainer(dataclasses.replace(bundle, contents=changed), "cpu") as explainer:
            found[name] = tuple(correlation(_heatmap(explainer, *asked[k]), own[k]) for k in kept)
    if not found:
        raise ExportError(f"{option('check')}: the network has no weights that could be shuffled")
    means = tuple(round(float(np.mean(values)), 4) for values in found.values())
    if not means[-1] <= options.most_likeness:
        raise ExportError(
            f"with all weights shuffled, the heat maps still correlate with the model's own by {means[-1]:.3f} on {len(kept)} "
            f"pictures ({source}), more than {options.most_likeness:g}: they show the picture more than the model. Try other "
            f"{option('layers')}, or allow it with {option('most_likeness', float(np.ceil(100 * means[-1]) / 100))}"
        )
    figures = Randomisation(
        groups=tuple(found),
        correlations=means,
        pictures=len(kept),
        source=source,
        method=METHOD.label,
        most=float(options.most_likeness),
    )
    return write_manifest(
        bundle.folder, msgspec.structs.replace(bundle.manifest, randomisation=figures), bundle
    )


def layer_groups(bundle: Bundle) -> list[tuple[str, list[slice]]]:
    """Places in weights.bin of the weights of each block, and of what follows the last block.

    Parameters
    ----------
    bundle : Bundle

    Returns
    -------
    list of (str, list of slice)
        From the first block to the head: the module or tensor of the block, or "head", and where its weights lie. A weight
        belongs to the first block whose output depends on it. Groups without weights are left out.
    """
    graph = onnx.load_model_from_string(bytes(bundle.contents["extract.onnx"])).graph
    producers = {name: node for node in graph.node for name in node.output}
    places = {
        tensor.name: slice(tensor.offset, tensor.offset + tensor.length)
        for tensor in bundle.graphs["extract"].external
    }
    left = {tensor.offset: tensor for tensor in bundle.graphs["predict"].external if tensor.file == WEIGHTS}
    groups = []
    for b, layer in enumerate(bundle.manifest.layers, 1):
        mine = [places[name] for name in _ancestors(f"features_{b}", producers) if name in places]
        groups.append(
            (
                layer.module or layer.tensor,
                [place for place in mine if left.pop(place.start, None) is not None],
            )
        )
    groups.append((HEAD, [slice(one.offset, one.offset + one.length) for one in left.values()]))
    return [(name, sorted(found, key=lambda place: int(place.start))) for name, found in groups if found]


def _ancestors(output: str, producers: dict[str, Any]) -> set[str]:
    """Names of all tensors that an output depends on."""
    found: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += producers[name].input if name in producers else ()
    return found


def shuffle(weights: bytearray, places: Sequence[slice], rng: np.random.Generator) -> None:
    """Permute the numbers of each weight tensor, in place: their distribution stays, what they have learnt goes."""
    for place in places:
        numbers = np.frombuffer(weights, np.float32, (place.stop - place.start) // 4, place.start)
        numbers[:] = rng.permutation(numbers)


def _frames(explainer: Explainer, folder: str | Path) -> tuple[list[NDArray[Any]], str]:
    """Frames of network size, spread over the folder, and its name."""
    samples = open_dataset("folder", folder).samples
    frames: list[NDArray[Any]] = []
    order = np.random.default_rng(0).permutation(len(samples))
    for i in order:
        try:
            frames.append(explainer.prepare(samples[i].picture)[0])
        except FrameError:
            continue
        if len(frames) == PICTURES:
            break
    if not frames:
        raise ParameterError(f"{option('check')}: there is no picture that can be read in '{folder}'")
    return frames, Path(folder).name


def _question(explainer: Explainer, frame: NDArray[Any]) -> Question:
    """What the model sees, asked of the shuffled weights as well; where it sees nothing, a question that can be asked."""
    try:
        question, image = explainer.ask(frame)
        return explainer.model.settle([question], image)[0][0]
    except TargetError:
        return example(explainer.manifest)


def _heatmap(explainer: Explainer, frame: NDArray[Any], question: Question) -> NDArray[np.float32]:
    """SISE's map; one of zeros where the shuffled network's answers are not finite."""
    model = explainer.model
    try:
        return METHOD.explain(model, model.upload(frame), [question], Call()).answers[0].heatmap
    except FrameError:
        return np.zeros((explainer.manifest.input.height, explainer.manifest.input.width), np.float32)
