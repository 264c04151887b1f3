"""The two files of onnxruntime-web that a page needs: from a folder, or fetched once from npm's registry and remembered."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from sise_ort.errors import MissingDependencyError, ParameterError, first_line, option
from sise_ort.files import write_file
from sise_ort.runtime.cache import cache_folder

VERSION = "1.30.0"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SECONDS, LARGEST = 60, 200 << 20
"""How long the registry may be silent, and how many bytes it may send."""


@dataclass(frozen=True)
class Build:
    """One build of onnxruntime-web: its module and its WebAssembly, with their SHA-256 in version `VERSION`."""

    module: str
    wasm: str
    digests: tuple[str, str]


PLAIN = Build(
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm",
    (
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
)
WEBGPU = Build(
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
    (
        "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
        "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
    ),
)


@dataclass(frozen=True)
class WebRuntime:
    """ONNX Runtime for a browser: a JavaScript module, its WebAssembly, and their version."""

    module: bytes
    wasm: bytes
    version: str


def web_runtime(folder: str | Path | None = None, webgpu: bool = False) -> WebRuntime:
    """Read onnxruntime-web.

    Parameters
    ----------
    folder : str or Path, optional
        Folder of the npm package, or its folder `dist`. None takes the files that were fetched before, or fetches them.
    webgpu : bool
        The build that also knows WebGPU, which is twice as large.

    Returns
    -------
    WebRuntime

    Raises
    ------
    ParameterError
        The folder does not hold them.
    MissingDependencyError
        They are not there yet, and the registry cannot be reached or sends others.
    """
    build = WEBGPU if webgpu else PLAIN
    if folder is not None:
        return _given(Path(folder), build)
    place = cache_folder() / f"onnxruntime-web-{VERSION}"
    found = [
        _known(place / name, digest)
        for name, digest in zip((build.module, build.wasm), build.digests, strict=True)
    ]
    if None in found:
        found = [*_fetched(build)]
        for name, content in zip((build.module, build.wasm), found, strict=True):
            write_file(place / name, content or b"")
    return WebRuntime(found[0] or b"", found[1] or b"", VERSION)


def _given(folder: Path, build: Build) -> WebRuntime:
    dist = folder / "dist" if (folder / "dist").is_dir() else folder
    try:
        module, wasm = (dist / build.module).read_bytes(), (dist / build.wasm).read_bytes()
    except OSError as error:
        raise ParameterError(
            f"{option('onnxruntime_web')}: '{folder}' does not hold {build.module} and {build.wasm} ({error.strerror}); it must "
            f"be the folder of the npm package onnxruntime-web, such as node_modules/onnxruntime-web (tried: {VERSION})"
        ) from error
    try:
        version = str(json.loads((dist.parent / "package.json").read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        version = "of an unknown version"
    return WebRuntime(module, wasm, version)


def _known(path: Path, digest: str) -> bytes | None:
    """A file's content where it is there and unchanged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _fetched(build: Build) -> tuple[bytes, bytes]:
    """The two files out of npm's package, compared with their hashes."""
    way_out = f"; where there is no internet, unpack {ADDRESS} elsewhere and pass its folder as {option('onnxruntime_web')}"
    try:
        with urllib.request.urlopen(ADDRESS, timeout=SECONDS) as answer:
            archive = answer.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise MissingDependencyError(
            f"a page needs onnxruntime-web {VERSION}, which cannot be fetched from npm's registry ({first_line(error)}){way_out}"
        ) from error
    found = []
    for name, digest in zip((build.module, build.wasm), build.digests, strict=True):
        content = _unpacked(archive, name)
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise MissingDependencyError(
                f"npm's registry sent another {name} than that of onnxruntime-web {VERSION}{way_out}"
            )
        found.append(content)
    return found[0], found[1]


def _unpacked(archive: bytes, name: str) -> bytes | None:
    """A file of the package's folder `dist`; None where there is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as package:
            stream = package.extractfile(f"package/dist/{name}")
            return stream.read() if stream else None
    except (tarfile.TarError, KeyError, OSError, EOFError):
        return None
