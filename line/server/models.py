"""The models that a server offers: each a bundle with its explainer and its queue."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import Request

import sise_ort
from sise_ort.bundle import Manifest
from sise_ort.bundle.reading import read_manifest
from sise_ort.errors import ParameterError, shown
from sise_ort.levels import Range
from sise_ort.line.server.desk import Desk
from sise_ort.line.server.jobs import Job
from sise_ort.line.server.memory import Memory, Share
from sise_ort.line.server.metrics import Metrics
from sise_ort.line.server.pictures import Source, pixels_held, prepared
from sise_ort.line.server.refusal import Refusal, refusal_of
from sise_ort.line.server.settings import Settings
from sise_ort.line.server.wishes import Wish
from sise_ort.runtime.explainer import Explainer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
EXPLAIN = "-explain"
"""What the V2 protocol calls the explanations of a model, behind its name."""
LOOKS = 0.5
"""Seconds between two looks whether the client is still there."""


@dataclass(frozen=True)
class Options:
    """How bundles are loaded, as for `sise_ort.load`.

    Attributes
    ----------
    bundles : mapping of str to str
        Folders of bundles by the name that they are served under.
    provider : str
    batch_size, threads : int or None
    trusted : bool
    precision : str
    """

    bundles: Mapping[str, str] = field(default_factory=dict)
    provider: str = "auto"
    batch_size: int | None = None
    threads: int | None = None
    trusted: bool = True
    precision: str = "auto"


def named(words: Sequence[str]) -> dict[str, str]:
    """Bundles by the name that they are served under, from folders and ``NAME=FOLDER``.

    Raises
    ------
    ParameterError
        A name is missing, unusable, or given twice.
    BundleError
        A bundle cannot be read.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or Path(word).exists():
            name, folder = read_manifest(word).name, word
        if not NAME.fullmatch(name):
            raise ParameterError(
                f"the name {shown(name)} cannot stand in an address: give it one of letters, digits, '.', '_' and '-', "
                f"as in my-model={folder}"
            )
        if name in found:
            raise ParameterError(
                f"two bundles are named '{name}': give one of them another name, as in {name}-2={folder}"
            )
        found[name] = folder
    for name in found:
        if name + EXPLAIN in found:
            raise ParameterError(
                f"'{name + EXPLAIN}' is what the V2 protocol calls explanations of '{name}': name the bundle otherwise"
            )
    return found


class Model:
    """A bundle that is served.

    Parameters
    ----------
    name : str
        Its name in addresses.
    explainer : Explainer
        The open bundle.
    settings : Settings
    memory : Memory
    metrics : Metrics
    """

    def __init__(
        self, name: str, explainer: Explainer, settings: Settings, memory: Memory, metrics: Metrics
    ) -> None:
        self.name, self.explainer = name, explainer
        self.manifest: Manifest = explainer.manifest
        self._settings, self._memory, self._metrics = settings, memory, metrics
        self.desk = Desk(name, explainer, settings, metrics)

    def close(self) -> None:
        """End after what waits is done."""
        self.desk.close()
        self.explainer.close()

    async def answers(
        self,
        request: Request,
        sources: Sequence[Source],
        wish: Wish | None,
        share: Share,
        levels: Range = None,
    ) -> list[Any]:
        """What is asked about some pictures: explanations, or the network's outputs where there is no wish.

        Parameters
        ----------
        request : Request
            Whose client is looked after.
        sources : sequence of bytes or arrays
            The pictures.
        wish : Wish or None
        share : Share
            Where the decoded pictures are counted.
        levels : Range
            The values of black and white, where there is no wish that says them.

        Raises
        ------
        Refusal
        """
        if not 0 < len(sources) <= self._settings.max_pictures:
            raise Refusal(
                413 if sources else 400,
                f"the request holds {len(sources)} pictures; 1 to {self._settings.max_pictures} are allowed",
            )
        self.desk.require_room(len(sources))
        levels = levels if wish is None else wish.levels
        ends = time.perf_counter() + self._settings.request_seconds
        jobs = []
        for number, source in enumerate(sources):
            try:
                jobs.append(
                    Job(await anyio.to_thread.run_sync(self._decode, source, levels, share), wish, ends)
                )
            except Exception as error:
                found = refusal_of(error)
                if len(sources) > 1 and found.status == 400:
                    raise Refusal(400, f"picture {number + 1}: {found.message}", found.field) from error
                raise
        self.desk.put(jobs)
        return await self._finished(request, jobs)

    def _decode(self, source: Source, levels: Range, share: Share) -> Any:
        began = time.perf_counter()
        held = pixels_held(source, self._settings.max_pixels)
        share.hold(held)
        found = prepared(self.manifest, source, levels)
        self._metrics.phases(self.name, {"decode": time.perf_counter() - began})
        return found

    async def _finished(self, request: Request, jobs: Sequence[Job]) -> list[Any]:
        """Wait for all answers; where the client goes away, its pictures are given up."""
        futures: list[Future[Any]] = [job.future for job in jobs]
        pending: set[asyncio.Future[Any]] = {asyncio.wrap_future(future) for future in futures}
        try:
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=LOOKS, return_when=asyncio.FIRST_EXCEPTION
                )
                for one in done:
                    one.result()
                if pending and await request.is_disconnected():
                    raise Refusal(499, "the client went away")
        finally:
            for job in jobs:
                job.gone = True
            for one in pending:
                one.add_done_callback(lambda late: late.cancelled() or late.exception())
        return [future.result() for future in futures]


class Models:
    """All models of a server.

    Parameters
    ----------
    options : Options
    settings : Settings
    metrics : Metrics
    """

    def __init__(self, options: Options, settings: Settings, metrics: Metrics) -> None:
        self.memory = Memory(settings.max_memory)
        self._models: dict[str, Model] = {}
        for name, folder in options.bundles.items():
            explainer = sise_ort.load(
                folder,
                options.provider,
                options.batch_size,
                options.threads,
                trusted=options.trusted,
                precision=options.precision,
            )
            explainer.warm_up()
            self._models[name] = Model(name, explainer, settings, self.memory, metrics)

    @property
    def names(self) -> list[str]:
        """The models' names."""
        return list(self._models)

    def get(self, name: str) -> Model:
        """A model by its name.

        Raises
        ------
        Refusal
            With status 404: there is none.
        """
        if name not in self._models:
            raise Refusal(404, f"there is no model {shown(name)}; there are {', '.join(self._models)}")
        return self._models[name]

    def close(self) -> None:
        """End after what waits is done."""
        for model in self._models.values():
            model.close()
