"""The bundle: a folder of ONNX graphs and the manifest that says what they are (docs/bundle.md)."""

from __future__ import annotations

from sise_ort.bundle.format import (
    EXPLAIN,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    OPTIONAL_PHASES,
    PHASES,
    READOUT,
    WEIGHTS,
    Fit,
    InputSpec,
    Layer,
    Manifest,
    Preprocessing,
    Randomisation,
    bundle_digest,
    json_schema,
)
from sise_ort.bundle.hashing import file_sha256
from sise_ort.bundle.parsing import parse_manifest
from sise_ort.bundle.phases import DTYPES, Shape, Signature, signature
from sise_ort.bundle.reading import (
    Bundle,
    check_graphs,
    open_bundle,
    read_bundle,
    read_files,
    read_manifest,
)
from sise_ort.heads import Head

__all__ = [
    "DTYPES",
    "EXPLAIN",
    "FORMAT",
    "FORMAT_VERSION",
    "MANIFEST",
    "OPTIONAL_PHASES",
    "PHASES",
    "READOUT",
    "WEIGHTS",
    "Bundle",
    "Fit",
    "Head",
    "InputSpec",
    "Layer",
    "Manifest",
    "Preprocessing",
    "Randomisation",
    "Shape",
    "Signature",
    "bundle_digest",
    "check_graphs",
    "file_sha256",
    "json_schema",
    "open_bundle",
    "parse_manifest",
    "read_bundle",
    "read_files",
    "read_manifest",
    "signature",
]
