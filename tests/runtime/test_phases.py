"""Opening a bundle's graphs: side by side where the provider allows it, with the errors of opening them in turn."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest

from sise_ort.bundle import open_bundle
from sise_ort.errors import BundleError
from sise_ort.runtime.phases import Sessions
from sise_ort.runtime.providers import Provider


def opening(provider: Provider, fails: dict[str, Exception], seen: dict[str, int]) -> None:
    """Record in which thread each phase is opened, and let some fail."""
    session = provider.session

    def watched(graph: Any, options: Any = None) -> Any:
        seen[graph.phase] = threading.get_ident()
        if graph.phase in fails:
            raise fails[graph.phase]
        return session(graph, options)

    provider.session = watched  # type: ignore[method-assign]


@pytest.mark.parametrize("side_by_side", [True, False])
@pytest.mark.parametrize(
    "fails", [("extract",), ("extract", "mask"), ("predict", "fuse"), ("sketch", "apply"), ("sketch",)]
)
def test_the_first_graph_that_fails_is_named(
    tiny_bundle: Path, fails: tuple[str, ...], side_by_side: bool
) -> None:
    read, provider = open_bundle(tiny_bundle), Provider("cpu")
    provider.spec = dataclasses.replace(provider.spec, opens_side_by_side=side_by_side)
    first = min(fails, key=read.manifest.phases.index)
    opening(provider, {phase: BundleError(f"{phase} fails") for phase in fails}, {})
    with pytest.raises(BundleError, match=f"^{first} fails"):
        Sessions(read, provider)
    assert not [thread for thread in threading.enumerate() if thread.name == "sise-ort opening"]


def test_two_threads_open_the_graphs_of_a_cpu(tiny_bundle: Path) -> None:
    read, provider = open_bundle(tiny_bundle), Provider("cpu")
    seen: dict[str, int] = {}
    opening(provider, {}, seen)
    sessions = Sessions(read, provider)
    first, *others = read.manifest.phases
    assert first == "extract"  # it takes longest
    assert seen.pop(first) == threading.get_ident()
    assert sorted(seen) == sorted(others) and threading.get_ident() not in seen.values()
    assert set(sessions.opened) == set(read.manifest.phases) and not sessions.bundle.contents


def test_an_interrupt_waits_for_the_other_thread(tiny_bundle: Path) -> None:
    """Python does not end while onnxruntime opens a graph; graphs that nobody waits for are not opened."""
    read, provider = open_bundle(tiny_bundle), Provider("cpu")
    seen: dict[str, int] = {}
    opening(provider, {"extract": KeyboardInterrupt()}, seen)  # type: ignore[dict-item]
    with pytest.raises(KeyboardInterrupt):
        Sessions(read, provider)
    assert not [thread for thread in threading.enumerate() if thread.name == "sise-ort opening"]
