"""What an evaluation does: which methods, with which parameters, judged by what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sise_ort.errors import ParameterError
from sise_ort.formulas.selection import check_mu
from sise_ort.runtime.evaluation.judge import METRICS
from sise_ort.runtime.method import whole_number
from sise_ort.runtime.methods import method_named


@dataclass(frozen=True)
class Variant:
    """A method with its parameters; name : as in tables, such as "sise mu=0.3"."""

    method: str
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        defaults = method_named(self.method).defaults
        words = [
            f"{key}={_words(value)}"
            for key, value in self.parameters.items()
            if key == "mu" or value != defaults[key]
        ]
        return " ".join([self.method, *words])

    @property
    def title(self) -> str:
        rest = self.name.removeprefix(self.method).strip()
        title = method_named(self.method).title
        if rest == "mu=adaptive":
            return "Ada-SISE"
        words = rest.replace("mu=", "μ = ").replace("passes=", "passes = ").replace(" passes", ", passes")
        return f"{title}, {words}" if rest else title


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def variants(
    methods: Sequence[str],
    mus: Sequence[float | str],
    settings: Mapping[str, Mapping[str, Any]],
    passes: Sequence[int] = (),
) -> tuple[Variant, ...]:
    """The methods with their parameters; SISE once for every μ, and with the first of them for every budget of passes.

    Raises
    ------
    ParameterError : no such method or parameter, or one given for a method that is not asked for.
    """
    known = {name: method_named(name) for name in methods}
    for name in settings:
        if name not in known:
            raise ParameterError(f"parameters are given for method {name}, which is not among the methods")
    found: list[Variant] = []
    for name, method in known.items():
        given = settings.get(name, {})
        if name != "sise":
            found.append(Variant(name, method.complete(given)))
            continue
        sets: list[dict[str, Any]] = [{"mu": check_mu(mu)} for mu in mus]
        sets += [{"mu": check_mu(mus[0]), "passes": whole_number("passes", n, 0)} for n in passes]
        found += [Variant(name, method.complete({**own, **given})) for own in sets]
    if not found:
        raise ParameterError("no methods are given")
    return tuple(found)


@dataclass(frozen=True)
class Plan:
    """Everything a worker needs to know.

    bundle : folder. variants : methods and parameters. metrics : names. steps : of insertion and deletion.
    explain : "truth" (the data set's class; the top class where it has none) or "top".
    class_map : from the data set's classes to labels or indices of the network.
    gallery : overlays are kept of so many samples.
    """

    bundle: str
    variants: tuple[Variant, ...]
    metrics: tuple[str, ...] = tuple(METRICS)
    steps: int = 32
    explain: str = "truth"
    class_map: Mapping[str, str | int] = field(default_factory=dict)
    provider: str = "auto"
    batch_size: int | None = None
    threads: int | None = None
    gallery: int = 12

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise ParameterError(f"there is no metric '{name}'; there are {', '.join(METRICS)}")
        if not self.metrics:
            raise ParameterError("no metrics are given")
        if self.explain not in ("truth", "top"):
            raise ParameterError(f'explain is {self.explain!r}; it must be "truth" or "top"')
        whole_number("steps", self.steps)
        whole_number("gallery", self.gallery, 0)

    def settings(self, bundle_sha256: str, dataset: Mapping[str, Any]) -> dict[str, Any]:
        """What must not change when an evaluation goes on: all but methods, limit and the machine's part."""
        return {
            "bundle_sha256": bundle_sha256,
            "dataset": dict(dataset),
            "metrics": list(self.metrics),
            "steps": self.steps,
            "explain": self.explain,
            "class_map": dict(self.class_map),
        }


def same_settings(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder whose evaluation was another one.

    Raises
    ------
    ParameterError : names the first setting that differs.
    """
    new = json.loads(json.dumps(new))
    for key in {**old, **new}:
        if old.get(key) != new.get(key):
            raise ParameterError(
                f"'{folder}' holds an evaluation with other settings ({key}: {old.get(key)}, now {new.get(key)}): "
                "choose another folder, or delete that one"
            )


def file_key(words: str) -> str:
    """A short name for files that belongs to these words alone."""
    return hashlib.sha256(words.encode()).hexdigest()[:16]
