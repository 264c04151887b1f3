"""Execution providers: what each is (one small file per provider), and how sessions are opened on it."""

from __future__ import annotations

from sise_ort.runtime.providers.opening import (
    is_part,
    listed,
    missing_library,
    open_foreign,
    openvino_devices,
    require_working,
    version,
)
from sise_ort.runtime.providers.provider import Provider
from sise_ort.runtime.providers.registry import CHOICES, FORMS, PROVIDERS, SPECS, spec_named
from sise_ort.runtime.providers.spec import PRECISIONS, ProviderSpec
from sise_ort.runtime.session import Graph, Rows, Session, Tensor

__all__ = [
    "CHOICES",
    "FORMS",
    "PRECISIONS",
    "PROVIDERS",
    "SPECS",
    "Graph",
    "Provider",
    "ProviderSpec",
    "Rows",
    "Session",
    "Tensor",
    "is_part",
    "listed",
    "missing_library",
    "open_foreign",
    "openvino_devices",
    "require_working",
    "spec_named",
    "version",
]
