"""The bundle's format: what stands in manifest.json, as typed structs, and its JSON Schema (docs/bundle.schema.json)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sise_ort.heads import Head
from sise_ort.tasks import Classes, Embedding, Task, Values

FORMAT = "sise-ort bundle"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
PHASES = ("extract", "mask", "apply", "predict", "fuse", "sketch")
"""Graphs that every bundle has."""
READOUT = "readout"
"""The graph that a bundle has where its answers are read on the device (`Task.on_device`)."""
OPTIONAL_PHASES = ("head", "image_gradient", "full_gradient")
"""Graphs that further methods need; `export --with` writes them (with a dash in their names)."""
EXPLAIN = "explain"
"""The whole method in one graph, for other programs (docs/everywhere.md): a bundle may hold it, the runtime never opens it."""
WEIGHTS = "weights.bin"

LARGEST_PICTURE = 1 << 26
"""Pixels of the largest network input (8192 × 8192), so that a manifest cannot ask for any amount of memory."""

LONGEST_SIDE = 1 << 14
"""Rows or columns of a picture; resampling matrices grow with the square of a side."""

Length = Annotated[int, Meta(ge=1, le=LONGEST_SIDE)]
Count = Annotated[int, Meta(ge=1, le=1 << 24)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
if TYPE_CHECKING:  # whoever builds a struct has plain strings; what is read from a file is checked
    Channels = int
    Dtype = str
    Color = str
    Hidden = str
    Mode = str
    Precision = str
else:
    Channels = Literal[1, 3]
    Dtype = Literal["uint8", "float32"]
    Color = Literal["rgb", "bgr", "gray"]
    Hidden = Literal["mean", "black"]
    Mode = Literal["stretch", "crop", "letterbox"]
    Precision = Literal["fp32", "fp16", "int8"]


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The frame that the graphs take, [1, height, width, channels].

    Attributes
    ----------
    height, width : int
        Size of the network's input in pixels.
    channels : int
        3 (colour) or 1 (gray).
    frame_dtype : str
        Type of a pixel, "uint8" or "float32".
    batch : int or None
        1 where predict takes one network input at a time, None where it takes any number.
    """

    height: Length
    width: Length
    channels: Channels
    frame_dtype: Dtype = "uint8"
    batch: Literal[1] | None = None

    def __post_init__(self) -> None:
        if self.height * self.width > LARGEST_PICTURE:
            raise ValueError(f"input is {self.height} × {self.width}, over {LARGEST_PICTURE} pixels")


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From pixel to network input: (pixel - mean) / std, inside the graphs.

    Attributes
    ----------
    color : str
        Channel order that the network wants: "rgb", "bgr" or "gray".
    mean, std : tuple of float
        One value per channel, in that order, in pixel units (0 to 255).
    hidden : str
        Value of a pixel that a mask hides: "mean" (0 of the network's input) or "black" (pixel value 0).
    """

    color: Color
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hidden: Hidden = "mean"

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(value > 0 for value in self.std):
            raise ValueError("mean and std must be finite, std positive")


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a frame of any size becomes one of network size; shrinking averages areas, enlarging is linear.

    Attributes
    ----------
    mode : str
        "stretch"; "crop" (shorter side to `resize`, then the centre); or "letterbox" (whole frame, borders filled).
    resize : (height, width)
        For "crop" the size that the frame must cover before the centre is cut out; else the network's size.
    border : tuple of int
        Fill value of a letterbox per channel of the frame (RGB or gray).
    """

    mode: Mode
    resize: tuple[Length, Length]
    border: tuple[Annotated[int, Meta(ge=0, le=255)], ...] = ()

    def __post_init__(self) -> None:
        if self.resize[0] * self.resize[1] > LARGEST_PICTURE:
            raise ValueError(
                f"fit.resize is {self.resize[0]} × {self.resize[1]}, over {LARGEST_PICTURE} pixels"
            )


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The output of one block.

    Attributes
    ----------
    tensor : str
        Name of the tensor in the source's graph.
    module : str
        Path of the module that computes it, "" if unknown.
    channels, height, width : int
        Number and size of its feature maps.
    """

    tensor: str
    module: str
    channels: Count
    height: Length
    width: Length


class Randomisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How heat maps lose their likeness as weights are shuffled, from the last layers to the first (`export --check`).

    Attributes
    ----------
    groups : tuple of str
        Groups of layers in the order in which they were shuffled; each stays so while the next ones are.
    correlations : tuple of float
        Mean correlation of the maps with the model's own, after each group.
    pictures : int
        Number of pictures that were explained.
    source : str
        Name of their folder.
    method : str
        The method of explanation.
    most : float
        Largest last correlation that was allowed.
    """

    groups: Annotated[tuple[str, ...], Meta(min_length=1)]
    correlations: Annotated[tuple[Annotated[float, Meta(ge=-1, le=1)], ...], Meta(min_length=1)]
    pictures: Annotated[int, Meta(ge=1)]
    source: str
    method: str
    most: float

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.correlations):
            raise ValueError(f"{len(self.correlations)} correlations for {len(self.groups)} groups of layers")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The contract of a bundle: everything that the runtime must know about its graphs.

    Attributes
    ----------
    format, version : str, int
        Always "sise-ort bundle" and 2.
    name : str
        Name of the bundle.
    input : InputSpec
        The frame that the graphs take.
    preprocessing : Preprocessing
        From pixel to network input.
    fit : Fit
        From a frame of any size to one of network size.
    head : Head
        From scores to confidences; its `classes` count the numbers of an embedding or of values.
    task : Task
        What the outputs are: class scores, a segmentation, detections, an embedding, or values.
    layers : tuple of Layer
        The blocks whose feature maps become masks, shallow to deep.
    labels : tuple of str
        Names of the classes; empty if there are none.
    precision : str
        Number format of predict.onnx: "fp32", "fp16" or "int8".
    origin : mapping
        Where the model came from and what exported it; free in form.
    files : mapping of str to str
        SHA-256 of every file of the bundle but the manifest, by name.
    randomisation : Randomisation or unset
        What `export --check` found; absent where it was not asked.
    """

    format: Literal["sise-ort bundle"] = "sise-ort bundle"
    version: Literal[2] = 2
    name: str
    input: InputSpec
    preprocessing: Preprocessing
    fit: Fit
    head: Head
    task: Task = Classes()
    layers: Annotated[tuple[Layer, ...], Meta(min_length=1, max_length=1000)]
    labels: tuple[str, ...]
    precision: Precision
    origin: Mapping[str, Any]
    files: Mapping[str, Digest]
    randomisation: Randomisation | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        channels = self.input.channels
        if not len(self.preprocessing.mean) == len(self.preprocessing.std) == channels:
            raise ValueError(f"mean and std must have {channels} values, as the input has channels")
        if (self.preprocessing.color == "gray") != (channels == 1):
            raise ValueError(
                f"the colour is {self.preprocessing.color}, but the input has {channels} channels"
            )
        if len(self.fit.border) != (channels if self.fit.mode == "letterbox" else 0):
            raise ValueError(f"fit.border has {len(self.fit.border)} values")
        if isinstance(self.task, Values) and self.head.classes != self.task.size:
            raise ValueError(
                f"head.classes is {self.head.classes}, but the output has {self.task.size} values"
            )
        if self.labels and isinstance(self.task, (Embedding, Values)):
            raise ValueError(f"labels name classes, which the task {self.task.name} does not have")
        if self.labels and len(self.labels) != self.head.classes:
            raise ValueError(f"{len(self.labels)} labels for {self.head.classes} classes")
        for name in self.files:
            if not is_plain_name(name) or name == MANIFEST:
                raise ValueError(f"the listed file {name!r} lies outside the bundle")

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the graphs that this bundle must have."""
        return (*PHASES, READOUT) if self.task.on_device else PHASES

    @property
    def bounded(self) -> bool:
        """Whether Ψ, the number that is explained, lies in [0, 1]."""
        return self.task.bounded(self.head)

    @property
    def contrast(self) -> float:
        """The contrast of the seed where Ψ itself is differentiated (docs/method.md, Selection)."""
        return self.task.contrast(self.head)

    def has(self, phase: str) -> bool:
        """Whether the bundle holds the graph of a phase.

        Parameters
        ----------
        phase : str
            Name of the graph's file without its ending, such as "sketch" or "image_gradient".

        Returns
        -------
        bool
        """
        return f"{phase}.onnx" in self.files

    def to_json(self) -> str:
        """The text of manifest.json."""
        return msgspec.json.format(msgspec.json.encode(self, enc_hook=_plain), indent=2).decode() + "\n"


def _plain(value: Any) -> Any:
    """A fact of the origin as JSON has it: versions are often strings with methods of their own."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    raise TypeError(f"the manifest cannot hold {value!r}")


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a file in this folder and nothing else, on every system."""
    return (
        0 < len(name) <= 255
        and name.isprintable()
        and not name.startswith(".")
        and not any(sign in name for sign in '/\\:*?"<>|')
    )


def bundle_digest(manifest: Manifest) -> str:
    """The SHA-256 of a whole bundle: of everything in its manifest, and so of the digests of all its files."""
    facts = json.dumps(msgspec.to_builtins(manifest, enc_hook=_plain), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(facts.encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of manifest.json."""
    schema = msgspec.json.schema(Manifest)
    for definition in schema["$defs"].values():
        definition["description"] = definition["description"].split("\n\n")[0]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"manifest.json of a {FORMAT}, version {FORMAT_VERSION}",
        **schema,
    }
