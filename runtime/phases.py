"""The sessions of a bundle's graphs, one for each phase, opened from memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from sise_ort.bundle import Bundle, signature
from sise_ort.errors import ClosedError
from sise_ort.runtime.providers import Graph, Provider, Session, Tensor
from sise_ort.runtime.turns import Turns


class Sessions:
    """A bundle's graphs on a provider; a graph's bytes are given back when it is open.

    Parameters
    ----------
    bundle : Bundle
        What was read.
    provider : Provider
        Where the graphs run.

    Attributes
    ----------
    bundle : Bundle
        What is not open yet.
    opened : dict
        Sessions by phase.
    turns : Turns
        Runs take turns: no two need memory at once.
    """

    def __init__(self, bundle: Bundle, provider: Provider) -> None:
        self.bundle, self._provider = bundle, provider
        self.opened: dict[str, Session] = {}
        self.turns = Turns()
        self._closed = False
        if provider.spec.opens_side_by_side:
            self.opened = self._open_side_by_side(bundle.manifest.phases)
        for phase in bundle.manifest.phases:
            self.get(phase)
        self.bundle = self.bundle.without(self.opened)

    def get(self, phase: str) -> Session:
        """A phase's session; optional phases are opened when they are first needed."""
        self.require_open()
        if phase not in self.opened:
            self.opened[phase] = self._open(phase)
            self.bundle = self.bundle.without(self.opened)
        return self.opened[phase]

    def _open(self, phase: str) -> Session:
        manifest = self.bundle.manifest
        graph = Graph(
            phase,
            bytes(self.bundle.contents[f"{phase}.onnx"]),
            self.bundle.weights(phase),
            signature(manifest, phase),
        )
        own = self._provider.bundle_options(manifest) if phase == "predict" else None
        return self._provider.session(graph, own)

    def _open_side_by_side(self, phases: Sequence[str]) -> dict[str, Session]:
        """Open the first phase, which takes longest, here, and the others in turn in a second thread meanwhile.

        Errors are those of opening them one after another: of the first phase in order that fails.
        """
        first, *others = phases
        opened: dict[str, Session] = {}
        failed: list[Exception] = []
        wanted = True

        def work() -> None:
            try:
                for phase in others:
                    if wanted:
                        opened[phase] = self._open(phase)
            except Exception as error:  # noqa: BLE001 - raised again below, in the thread that waits
                failed.append(error)

        # no daemon: Python does not end while onnxruntime opens a graph
        thread = threading.Thread(target=work, name="sise-ort opening")
        thread.start()
        try:
            opened[first] = self._open(first)
        except BaseException:
            wanted = False
            raise
        finally:
            thread.join()
        if failed:
            raise failed[0]
        return opened

    def run(
        self, phase: str, inputs: Mapping[str, Any], *, fetch: Sequence[str] = (), keep: Sequence[str] = ()
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Tensor]]:
        """Run a phase once, when it is this thread's turn; see `Session.run`."""
        return self.turns.take(lambda: self.get(phase).run(inputs, fetch=fetch, keep=keep))

    def close(self) -> bool:
        """Give all sessions back, for good; whether they were open. Only the thread whose turn it is may call this."""
        if self._closed:
            return False
        self._closed = True
        self.opened.clear()
        self.bundle = self.bundle.without(self.bundle.graphs)
        return True

    def require_open(self) -> None:
        """Raise ClosedError after `close`."""
        if self._closed:
            name = self.bundle.manifest.name
            raise ClosedError(f"the explainer of the bundle '{name}' is closed: load the bundle again")
