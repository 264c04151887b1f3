"""What an evaluation does: which methods, with which parameters, judged by what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sise_ort import __version__
from sise_ort.errors import ParameterError, option, shown
from sise_ort.runtime.evaluation.judge import METRICS
from sise_ort.runtime.methods import method_named

MOST_STEPS = 10_000
MOST_PICTURES = 10_000


@dataclass(frozen=True)
class Variant:
    """A method with its parameters.

    Attributes
    ----------
    method : str
        The method's name.
    parameters : mapping
        All its parameters, defaults included.
    """

    method: str
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The variant in tables: ``sise mu=0.3``; other parameters are named where they are not the default."""
        return method_named(self.method).of(self.parameters).label

    @property
    def title(self) -> str:
        """The variant as papers write it: ``SISE, μ = 0.3``."""
        return method_named(self.method).of(self.parameters).heading


def variants(
    methods: Sequence[str],
    mus: Sequence[float | str] = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    passes: Sequence[int] = (),
) -> tuple[Variant, ...]:
    """List the methods with their parameters, each once.

    Parameters
    ----------
    methods : sequence of str
        Names of methods.
    mus : sequence
        SISE's thresholds; SISE is listed once for each, and at its default without any.
    settings : mapping
        Parameters by method.
    passes : sequence of int
        SISE's budgets; SISE at the first threshold is listed once more for each.

    Returns
    -------
    tuple of Variant
        In the order of `methods`.

    Raises
    ------
    ParameterError
        No such method or parameter, one given for a method that is not asked for, or one given twice.
    """
    known = {name: method_named(name) for name in texts("methods", methods)}
    settings = settings or {}
    for name in settings:
        if name not in known:
            raise ParameterError(f"parameters are given for method {name}, which is not among the methods")
    found: list[Variant] = []
    for name, method in known.items():
        given = settings.get(name, {})
        swept: dict[str, Any] = (
            {"mu": mus, "passes": passes} if {"mu", "passes"} <= set(method.defaults()) else {}
        )
        for more in _combinations(given, **swept):
            found.append(Variant(name, method.of({**more, **given}).parameters))
    if not found:
        raise ParameterError(f"no methods are given with {option('methods')}")
    return tuple({variant.name: variant for variant in found}.values())


def _combinations(
    given: Mapping[str, Any], mu: Sequence[float | str] = (), passes: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """A method's parameters for every threshold, and for every budget at the first threshold."""
    for name, values in (("mu", mu), ("passes", passes)):
        if not isinstance(values, (list, tuple)):
            raise ParameterError(f"{option(name)} is {values!r}; a list is needed")
        if values and name in given:
            raise ParameterError(
                f"{option(name)} and {option('method.' + name)} contradict each other; keep one of them"
            )
    thresholds: list[dict[str, Any]] = [{"mu": threshold} for threshold in mu] or [{}]
    return [*thresholds, *({**thresholds[0], "passes": number} for number in passes)]


def texts(name: str, values: Any) -> tuple[str, ...]:
    """Check that a value is a list of texts.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.
    values : object
        What was given.

    Returns
    -------
    tuple of str
        Each text once, in the order given.

    Raises
    ------
    ParameterError
        It is something else.
    """
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise ParameterError(f"{option(name)} is {values!r}; a list of names is needed")
    return tuple(dict.fromkeys(values))


def bounded(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Check that a value is a whole number between bounds.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : Any
        What a user gave.
    low : int
        Smallest number allowed.
    high : int or None
        Largest number allowed.

    Returns
    -------
    int
        The number.

    Raises
    ------
    ParameterError
        It is none, or lies below `low` or above `high`.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ParameterError(f"{option(name)} {shown(value)} is not a whole number {bounds}")
    return int(value)


@dataclass(frozen=True)
class Plan:
    """Everything that a worker needs to know.

    Attributes
    ----------
    bundle : str
        The bundle's folder.
    variants : tuple of Variant
        Methods with their parameters; each counts once.
    metrics : tuple of str
        Names of `METRICS`; each counts once.
    steps : int
        Steps of insertion and deletion.
    explain : str
        "truth" explains the data set's class (the top class where it has none), "top" the network's top class.
    class_map : mapping
        From the data set's classes to labels or indices of the network.
    provider, batch_size, threads, trusted, precision
        As for `sise_ort.load`.
    gallery : int
        Number of samples whose overlays are kept.

    Raises
    ------
    ParameterError
        A value is out of range.
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
    trusted: bool = True
    precision: str = "auto"

    def __post_init__(self) -> None:
        unique = tuple({variant.name: variant for variant in self.variants}.values())
        object.__setattr__(self, "variants", unique)
        object.__setattr__(self, "metrics", texts("metrics", self.metrics))
        for name in self.metrics:
            if name not in METRICS:
                raise ParameterError(f"there is no metric '{name}'; there are {', '.join(METRICS)}")
        if not self.metrics:
            raise ParameterError(f"no metrics are given with {option('metrics')}")
        if not self.variants:
            raise ParameterError(f"no methods are given with {option('methods')}")
        if not isinstance(self.explain, str) or self.explain not in ("truth", "top"):
            raise ParameterError(f'{option("explain")} {self.explain!r} must be "truth" or "top"')
        if not isinstance(self.class_map, Mapping):
            raise ParameterError(
                f"{option('class_map')} is {self.class_map!r}; a mapping of classes is needed"
            )
        bounded("steps", self.steps, 1, MOST_STEPS)
        bounded("gallery", self.gallery, 0, MOST_PICTURES)

    def settings(
        self, bundle_digest: str, dataset_digest: str, provider: str, precision: str
    ) -> dict[str, Any]:
        """List what must not change when rows are added, by name in words: all but methods, limit and the machine's part.

        Parameters
        ----------
        bundle_digest : str
            Of everything in the bundle.
        dataset_digest : str
            Of everything that the data set says.
        provider : str
            The execution provider in use; seconds of several say nothing beside one another.
        precision : str
            What the network scores masks in.

        Returns
        -------
        dict
            Values that JSON can hold.
        """
        return {
            "the bundle": bundle_digest,
            "the data set": dataset_digest,
            "the class to explain": self.explain,
            "the class map": dict(self.class_map),
            "metrics": list(self.metrics),
            "steps": self.steps,
            "the provider": provider,
            "the precision": precision,
            "sise-ort": __version__,
        }


def file_key(words: str) -> str:
    """Return a short file name that belongs to these words alone."""
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:16]
