"""Reading a bundle: its manifest, and that every file is there and unchanged.

A bundle is refused by name when it is missing, damaged, foreign, half-copied, or of another version.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec

from sise_ort.bundle.format import FORMAT, FORMAT_VERSION, MANIFEST, PHASES, WEIGHTS, Manifest
from sise_ort.errors import BundleError

LARGEST_MANIFEST = 64 << 20
"""Bytes of a manifest; 20,000 classes with long names take 2 MB."""


def read_bundle(folder: str | Path) -> Manifest:
    """Read a bundle's manifest and check that every file is there and unchanged.

    Parameters
    ----------
    folder : str or Path
        The bundle.

    Returns
    -------
    Manifest

    Raises
    ------
    BundleError
        The folder is no bundle of this version, or a file is missing or changed; names it.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
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


def read_manifest(folder: str | Path) -> Manifest:
    """Read a bundle's manifest; its files are not looked at.

    Parameters
    ----------
    folder : str or Path
        The bundle.

    Returns
    -------
    Manifest

    Raises
    ------
    BundleError
        The folder is no bundle of this version.
    """
    folder = Path(folder)
    if not folder.exists():
        raise BundleError(f"there is no bundle at '{folder}'; make one with `sise-ort export`")
    if not folder.is_dir():
        hint = f"; run `sise-ort export {folder}` first" if folder.suffix == ".onnx" else ""
        raise BundleError(f"'{folder}' is a file, not a bundle folder{hint}")
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"'{folder}' has no {MANIFEST}: it is not a bundle, or was copied incompletely")
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise BundleError(f"bundle '{folder}': {MANIFEST} is over {LARGEST_MANIFEST >> 20} MiB")
        text = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} cannot be read: {error.strerror or error}"
        ) from error
    return parse_manifest(text, folder)


def parse_manifest(text: bytes, folder: Path) -> Manifest:
    """The manifest that stands in a text; `folder` is only named in errors."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} cannot be read ({str(error)[:200]}); export it again"
        ) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise BundleError(f"'{folder}': {MANIFEST} belongs to something else than sise-ort")
    version = facts.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} has the version {str(version)[:40]!r}; export it again"
        )
    if version > FORMAT_VERSION:
        raise BundleError(
            f"bundle '{folder}' has format version {str(version)[:40]}, this sise-ort reads {FORMAT_VERSION}: update sise-ort"
        )
    if version < FORMAT_VERSION:
        raise BundleError(
            f"bundle '{folder}' has the old format version {version}, this sise-ort reads {FORMAT_VERSION}: export the "
            f"model again with `sise-ort export MODEL -o NAME.sise` and the options used before{_origin(facts)}"
        )
    try:
        manifest = msgspec.convert(facts, Manifest)
    except (ValueError, RecursionError) as error:  # msgspec.ValidationError is a ValueError
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} is damaged ({str(error)[:200]}); export it again"
        ) from error
    missing = [name for name in (*(f"{p}.onnx" for p in PHASES), WEIGHTS) if name not in manifest.files]
    if missing:
        raise BundleError(
            f"bundle '{folder}': {MANIFEST} does not list {', '.join(missing)}; export it again"
        )
    return manifest


def _origin(facts: dict[str, object]) -> str:
    """Which model an old manifest says it was made from, in words; "" where it does not."""
    origin = facts.get("origin")
    known = (
        [str(origin[key])[:80] for key in ("file", "model", "name") if origin.get(key)]
        if isinstance(origin, dict)
        else []
    )
    return f" (MODEL was {known[0]})" if known else ""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
