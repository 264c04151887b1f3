"""From a bundle to a page that explains in a browser: one HTML file with the network and ONNX Runtime inside."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from pathlib import Path

from sise_ort.bundle import Manifest, bundle_digest, open_bundle
from sise_ort.errors import OutputError, ParameterError, option
from sise_ort.exporter.compose import composed
from sise_ort.exporter.onnxruntime_web import web_runtime
from sise_ort.files import write_file
from sise_ort.outputs import to_json
from sise_ort.pages import Figure, data_uri, render
from sise_ort.pages.colors import HEAT

CHOICES = (
    (0, "None: from the gradients alone"), (16, "16"), (64, "64"), (256, "256"), (-1, "All that speak for the class"),
)  # fmt: skip
"""How many masks a reader of the page may score."""
LARGEST_SIDE = 1600
"""Pixels of a picture's longer side in the page; larger ones are made smaller by the browser first."""
KINDS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
LARGEST_SAMPLE = 8 << 20
"""Bytes of a sample picture."""


def write_page(
    bundle: str | Path,
    out: str | Path,
    *,
    samples: Sequence[str | Path] = (),
    onnxruntime_web: str | Path | None = None,
    webgpu: bool = False,
    force: bool = False,
) -> Path:
    """Write a page that explains pictures with a bundle, in any browser, without a server and without a network.

    Parameters
    ----------
    bundle : str or Path
        A bundle of class scores.
    out : str or Path
        The HTML file to write.
    samples : sequence of str or Path
        Pictures that the page offers.
    onnxruntime_web : str or Path, optional
        Folder of the npm package onnxruntime-web; None fetches what is needed from npm's registry, once.
    webgpu : bool
        Take the build that runs on WebGPU where the browser has it.
    force : bool
        Replace a file that is there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        The bundle's answers are no class scores, or explain.onnx would be too large (see `compose`).
    ParameterError, OutputError, BundleError, MissingDependencyError
    """
    path = Path(out)
    if path.is_dir():
        raise OutputError(f"'{path}' is a folder; {option('out')} names the file to write")
    if not force and (path.exists() or path.is_symlink()):
        raise OutputError(
            f"'{path}' exists already; pass {option('force', True)} to replace it, or another {option('out')}"
        )
    figures = [_sample(Path(sample)) for sample in samples]
    runtime = web_runtime(onnxruntime_web, webgpu)
    read = open_bundle(bundle)
    manifest, facts = read.manifest, _facts(read.manifest, webgpu)
    content = render(
        "explainer.html",
        title=f"What {manifest.name} sees, and why",
        facts=facts,
        facts_json=to_json(facts),
        labels=manifest.labels or [f"class {index}" for index in range(min(manifest.head.classes, 2000))],
        choices=CHOICES,
        samples=figures,
        runtime_version=runtime.version,
        module=_packed(runtime.module),
        wasm=_packed(runtime.wasm),
        model=_packed(composed(read, any_size=True)),
    )
    return write_file(path, content)


def _facts(manifest: Manifest, webgpu: bool) -> dict[str, object]:
    """What the page's program must know."""
    return {
        "bundle": manifest.name,
        "digest": bundle_digest(manifest),
        "height": manifest.input.height,
        "width": manifest.input.width,
        "channels": manifest.input.channels,
        "frame_dtype": manifest.input.frame_dtype,
        "bounded": manifest.bounded,
        "webgpu": webgpu,
        "largest": max(LARGEST_SIDE, manifest.input.height, manifest.input.width),
        "heat": HEAT,
    }


def _packed(content: bytes) -> str:
    """Bytes as text that a browser unpacks."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _sample(path: Path) -> Figure:
    """A picture that the page offers, under its own name."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ParameterError(f"{option('sample')} '{path}': browsers read {', '.join(KINDS)} files")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ParameterError(
            f"{option('sample')} '{path}' cannot be read: {error.strerror or error}"
        ) from error
    if len(content) > LARGEST_SAMPLE:
        raise ParameterError(
            f"{option('sample')} '{path}' has {len(content) / 2**20:.0f} MiB; a sample has 8 MiB at most"
        )
    return Figure(data_uri(content, kind), path.stem)
