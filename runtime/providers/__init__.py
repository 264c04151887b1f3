"""Execution providers: what each is (one small file per provider), and how sessions are opened on it."""

from __future__ import annotations

from sise_ort.runtime.providers.provider import (
    Provider,
    missing_library,
    open_foreign,
    require_working,
    version,
)
from sise_ort.runtime.providers.registry import CHOICES, PROVIDERS, SPECS
from sise_ort.runtime.providers.spec import ProviderSpec
from sise_ort.runtime.session import Graph, Rows, Session, Tensor

__all__ = [
    "CHOICES",
    "PROVIDERS",
    "SPECS",
    "Graph",
    "Provider",
    "ProviderSpec",
    "Rows",
    "Session",
    "Tensor",
    "missing_library",
    "open_foreign",
    "require_working",
    "version",
]
