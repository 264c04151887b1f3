"""The bundle: a folder of ONNX graphs and the manifest that says what they are.

A bundle is refused by name when it is missing, damaged, foreign, half-copied or newer than this package.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sise_ort.errors import BundleError

FORMAT = "sise-ort bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PHASES = ("extract", "mask", "apply", "predict", "fuse")
"""Graphs that every bundle has; `sketch`, which only a budget needs, is missing in the earliest ones."""
OPTIONAL_PHASES = ("head", "image_gradient", "full_gradient")
"""Graphs that further methods need; `export --with` writes them (with a dash in their names)."""
WEIGHTS = "weights.bin"


@dataclass(frozen=True)
class InputSpec:
    """The frame that the graphs take: [1, height, width, channels], frame_dtype "uint8" or "float32".

    batch : 1 where predict takes one network input at a time, None where it takes any number.
    """

    height: int
    width: int
    channels: int
    frame_dtype: str = "uint8"
    batch: int | None = None


@dataclass(frozen=True)
class Preprocessing:
    """From pixel to network input: (pixel - mean) / std, inside the graphs.

    color : what the network wants, "rgb", "bgr" or "gray"; mean and std are in that order, 0 to 255.
    hidden : what a mask hides becomes "mean" (0 of the network's input) or "black" (pixel value 0).
    """

    color: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hidden: str = "mean"


@dataclass(frozen=True)
class Fit:
    """How a frame of any size becomes one of network size.

    mode : "stretch"; "crop" (shorter side to `resize`, then the centre); "letterbox" (whole frame, borders
        filled with `border`). Shrinking interpolates by area, enlarging linearly.
    resize : for "crop", the (height, width) that the frame must cover before the centre is cut out;
        for the other modes the network's size.
    border : fill value of a letterbox per channel of the frame (RGB or gray).
    """

    mode: str
    resize: tuple[int, int]
    border: tuple[int, ...] = ()
    shrink: str = "INTER_AREA"
    enlarge: str = "INTER_LINEAR"


@dataclass(frozen=True)
class Head:
    """kind : "softmax", "sigmoid" or "none" (raw scores); assumed : the graph did not say so itself."""

    kind: str
    classes: int
    assumed: bool = False

    @property
    def words(self) -> str:
        return f"{self.kind} (assumed)" if self.assumed else self.kind


@dataclass(frozen=True)
class Layer:
    """One block's output: tensor name, module path ("" if unknown), channels and size."""

    tensor: str
    module: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Manifest:
    """All facts of a bundle; `origin` tells where the model came from, `files` maps names to SHA-256."""

    name: str
    input: InputSpec
    preprocessing: Preprocessing
    fit: Fit
    head: Head
    layers: tuple[Layer, ...]
    labels: tuple[str, ...]
    precision: str
    origin: Mapping[str, Any]
    files: Mapping[str, str]

    def has(self, phase: str) -> bool:
        """Whether the bundle holds a graph."""
        return f"{phase}.onnx" in self.files

    def to_json(self) -> str:
        facts = dataclasses.asdict(self)
        return (
            json.dumps({"format": FORMAT, "version": FORMAT_VERSION, **facts}, indent=2, ensure_ascii=False)
            + "\n"
        )


T = TypeVar("T")
_NESTED = {"input": InputSpec, "preprocessing": Preprocessing, "fit": Fit, "head": Head}
_CHOICES = {
    ("input", "frame_dtype"): ("uint8", "float32"),
    ("input", "channels"): (1, 3),
    ("input", "batch"): (None, 1),
    ("preprocessing", "color"): ("rgb", "bgr", "gray"),
    ("preprocessing", "hidden"): ("mean", "black"),
    ("fit", "mode"): ("stretch", "crop", "letterbox"),
    ("fit", "shrink"): ("INTER_AREA",),
    ("fit", "enlarge"): ("INTER_LINEAR",),
    ("head", "kind"): ("softmax", "sigmoid", "none"),
}


def read_bundle(folder: str | Path) -> Manifest:
    """Read and check a bundle: its manifest, and that every file is there and unchanged.

    Raises
    ------
    BundleError : the folder is no bundle of this version, or a file is missing or changed; names it.
    """
    folder = Path(folder)
    if not folder.exists():
        raise BundleError(f"there is no bundle at '{folder}'; make one with `sise-ort export`")
    if not folder.is_dir():
        hint = f"; run `sise-ort export {folder}` first" if folder.suffix == ".onnx" else ""
        raise BundleError(f"'{folder}' is a file, not a bundle folder{hint}")
    manifest = _read_manifest(folder)
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(
                f"bundle '{folder}': '{name}' is missing; it was copied incompletely, copy or export it again"
            )
        if file_sha256(path) != digest:
            raise BundleError(
                f"bundle '{folder}': '{name}' is not the file that was exported (SHA-256 differs); export it again"
            )
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"'{folder}' has no {MANIFEST}: it is not a bundle, or was copied incompletely")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} cannot be read ({error}); export it again"
        ) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise BundleError(f"'{folder}': {MANIFEST} belongs to something else than sise-ort")
    version = facts.get("version")
    if not isinstance(version, int) or version < 1:
        raise BundleError(f"bundle '{folder}': {MANIFEST} has the version {version!r}; export it again")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"bundle '{folder}' has format version {version}, this sise-ort reads up to {FORMAT_VERSION}: update sise-ort"
        )
    try:
        manifest = _parse(facts)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle '{folder}': {MANIFEST} is damaged ({error}); export it again") from error
    missing = [name for name in (*(f"{p}.onnx" for p in PHASES), WEIGHTS) if name not in manifest.files]
    if missing:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} does not list {', '.join(missing)}; export it again"
        )
    return manifest


def _parse(facts: dict[str, Any]) -> Manifest:
    values = {key: facts[key] for key in (f.name for f in dataclasses.fields(Manifest))}
    for key, kind in _NESTED.items():
        values[key] = _record(kind, values[key])
    values["layers"] = tuple(_record(Layer, layer) for layer in values["layers"])
    values["labels"] = tuple(str(label) for label in values["labels"])
    manifest = Manifest(**values)
    for (part, name), allowed in _CHOICES.items():
        value = getattr(getattr(manifest, part), name)
        if value not in allowed:
            raise ValueError(f"{part}.{name} is {value!r}")
    if len(manifest.preprocessing.mean) != manifest.input.channels or not manifest.layers:
        raise ValueError("mean or layers do not fit")
    if manifest.labels and len(manifest.labels) != manifest.head.classes:
        raise ValueError(f"{len(manifest.labels)} labels for {manifest.head.classes} classes")
    if any("/" in name or "\\" in name or name in (".", "..") for name in manifest.files):
        raise ValueError("a listed file lies outside the bundle")
    return manifest


def _record(kind: type[T], facts: Mapping[str, Any]) -> T:
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def bundle_digest(manifest: Manifest) -> str:
    """One SHA-256 for the whole bundle: of the digests of all its files, by name."""
    listing = "\n".join(f"{name} {digest}" for name, digest in sorted(manifest.files.items()))
    return hashlib.sha256(listing.encode()).hexdigest()
