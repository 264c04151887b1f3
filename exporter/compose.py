"""From a bundle to explain.onnx: one file that holds the whole method, for every language that has ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx_ir as ir

import sise_ort
from sise_ort.bundle import EXPLAIN, Bundle, Manifest, bundle_digest, open_bundle
from sise_ort.errors import ExportError, OutputError, ParameterError, option, shown
from sise_ort.exporter.phases.explain import build_explain
from sise_ort.exporter.verify import waves
from sise_ort.files import write_file
from sise_ort.outputs import to_json
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.providers import open_foreign
from sise_ort.runtime.providers.cpu import SPEC as CPU
from sise_ort.tasks import Classes

FILE = f"{EXPLAIN}.onnx"
"""The file's usual name, and its name in a bundle."""
LARGEST = (1 << 31) - (1 << 22)
"""Bytes of an ONNX file, with some room: protobuf ends at 2 GiB."""
MOST_AT_ONCE = 8
"""Masks in a batch unless the caller says more; also at most half of what a bundle takes on a CPU, since the last batch is padded."""
COMPARED_MU, TOLERANCE = 0.8, 1e-3
"""Selection threshold of the comparison with the bundle, and how far heat maps may be apart there."""


def compose(
    bundle: str | Path,
    out: str | Path = FILE,
    *,
    any_size: bool = False,
    batch_size: int | None = None,
    force: bool = False,
) -> Path:
    """Write the whole method into one ONNX file.

    Parameters
    ----------
    bundle : str or Path
        A bundle of class scores.
    out : str or Path
        The file to write.
    any_size : bool
        Take frames of any size, and resize them inside as the bundle's fit says.
    batch_size : int, optional
        Masks scored at once; the last batch is padded. None takes what suits a CPU.
    force : bool
        Replace a file that is there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        The bundle's answers are no class scores, the file would be too large for ONNX, or explains otherwise than the bundle.
    ParameterError, OutputError, BundleError
    """
    path = Path(out)
    if path.is_dir():
        raise OutputError(f"'{path}' is a folder; {option('out')} names the file to write")
    if not force and (path.exists() or path.is_symlink()):
        raise OutputError(
            f"'{path}' exists already; pass {option('force', True)} to replace it, or another {option('out')}"
        )
    return write_file(path, composed(open_bundle(bundle), any_size=any_size, batch_size=batch_size))


def composed(
    bundle: Bundle, *, any_size: bool = False, batch_size: int | None = None, scalar: tuple[int, ...] = ()
) -> bytes:
    """The bytes of explain.onnx of a bundle, compared with the bundle; see `compose`, and `build_explain` for `scalar`."""
    manifest = bundle.manifest
    require_composable(manifest)
    size = sum(
        len(bundle.contents[f"{phase}.onnx"]) + sum(t.length for t in bundle.graphs[phase].external)
        for phase in ("extract", "predict")
    )
    if size > LARGEST:
        raise ExportError(
            f"{FILE} would have {size / 2**30:.1f} GiB (it holds the network twice), and an ONNX file ends at 2 GiB: "
            "use the bundle itself"
        )
    at_once = checked_batch(manifest, batch_size)
    extract, predict = graph_of(bundle, "extract"), graph_of(bundle, "predict")
    model = build_explain(manifest, extract, predict, at_once, any_size, scalar)
    model.metadata_props.update(facts(manifest, at_once, any_size))
    content = bytes(ir.to_proto(model).SerializeToString())
    require_equal(content, bundle, scalar)
    return content


def require_composable(manifest: Manifest) -> None:
    """Raise ExportError where one file cannot hold what a bundle explains."""
    if not isinstance(manifest.task, Classes):
        raise ExportError(
            f"the bundle '{manifest.name}' answers with {manifest.task.name}, and {FILE} explains class scores alone: "
            "explain with the bundle itself"
        )


def checked_batch(manifest: Manifest, batch_size: int | None) -> int:
    """Masks scored at once: what was asked for, where that is a number that the network takes."""
    spec = manifest.input
    if batch_size is not None and (
        isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1
    ):
        raise ParameterError(
            f"{option('batch_size')} is {shown(batch_size)}; it must be a whole number of at least 1"
        )
    default = min(MOST_AT_ONCE, max(1, CPU.batch_pixels // (2 * spec.height * spec.width)))
    return spec.batch or batch_size or default


def facts(manifest: Manifest, batch_size: int, any_size: bool) -> dict[str, str]:
    """What the file says of itself, as texts by name; everything but plain words is JSON."""
    files = {name: digest for name, digest in sorted(manifest.files.items()) if name != FILE}
    plain = msgspec.structs.replace(manifest, files=files)
    told: Mapping[str, Any] = {
        "labels": manifest.labels,
        "readout": {
            "task": manifest.task.name,
            "explains": "the confidence of one class",
            "head": manifest.head,
        },
        "input": manifest.input,
        "preprocessing": manifest.preprocessing,
        "fit": manifest.fit,
        "layers": manifest.layers,
        "origin": manifest.origin,
        "files": files,
        "batch_size": batch_size,
        "any_size": any_size,
    }
    return {
        "sise_ort": sise_ort.__version__,
        "bundle": manifest.name,
        "bundle_sha256": bundle_digest(plain),
        "precision": manifest.precision,
        "label_lines": "\n".join(manifest.labels),
        **{name: to_json(msgspec.to_builtins(value, enc_hook=str)) for name, value in told.items()},
    }


def graph_of(bundle: Bundle, phase: str) -> ir.Model:
    """A graph of a bundle, its weights in memory."""
    model = ir.from_proto(onnx.ModelProto.FromString(bytes(bundle.contents[f"{phase}.onnx"])))
    for name, array in bundle.weights(phase).items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    return model


def require_equal(content: bytes, bundle: Bundle, scalar: tuple[int, ...] = ()) -> None:
    """Raise ExportError where explain.onnx and its bundle explain a frame differently, with all masks or with none."""
    session, explainer = open_foreign(content), Explainer(bundle, "cpu")
    frame = waves(bundle.manifest.input)[0]
    mu = np.full(scalar, COMPARED_MU, np.float32)
    asked = {"image": frame, "target": np.full(scalar, -1, np.int64), "mu": mu}
    for passes in (0, -1):
        found, _ = session.run(
            {**asked, "passes": np.full(scalar, passes, np.int64)}, fetch=["heatmap", "class", "masks"]
        )
        limit: dict[str, Any] = {"passes": 0} if passes == 0 else {}
        own = explainer.explain(frame, mu=float(mu.item()), **limit)
        apart = float(np.abs(found["heatmap"] - own.heatmap).max())
        same = tuple(found["masks"].tolist()) == own.mask_counts and int(found["class"].item()) == own.target
        if not same or not apart <= TOLERANCE:
            raise ExportError(
                f"{FILE} explains a frame differently from its bundle: masks {found['masks'].tolist()} and "
                f"{list(own.mask_counts)}, heat maps {apart:.2e} apart. Please report this model"
            )
