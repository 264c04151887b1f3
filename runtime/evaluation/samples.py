"""Which samples of a data set are evaluated, and how a changed data set is recognised."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sise_ort.datasets.dataset import Dataset, Problem, Sample
from sise_ort.errors import DatasetError, TargetError, option
from sise_ort.runtime.evaluation.plan import Plan
from sise_ort.runtime.explainer import Explainer
from sise_ort.targets import class_question

Truths = Mapping[int | None, Sample]
"""A picture's samples by class."""


@dataclass(frozen=True)
class Selection:
    """The samples that are evaluated.

    Attributes
    ----------
    samples : list of Sample
        In the order of the data set; a label is a class of the network, or None for its top class.
    problems : list of Problem
        Classes that the network or the data set does not know.
    truths : dict
        Where the top class is explained, each picture's samples by class.
    available : int
        Samples that there were to choose from.
    """

    samples: list[Sample]
    problems: list[Problem]
    truths: Mapping[Path, Truths] = field(default_factory=dict)
    available: int = 0


def select(explainer: Explainer, plan: Plan, dataset: Dataset, limit: int | None, seed: int) -> Selection:
    """Select the samples whose class the network knows, and `limit` of them at random.

    Parameters
    ----------
    explainer : Explainer
        The bundle.
    plan : Plan
        Which class is explained, and the class map.
    dataset : Dataset
        The samples.
    limit : int or None
        Number of samples at most.
    seed : int
        Seed of the random choice; a larger limit adds samples to those of a smaller one.

    Returns
    -------
    Selection
        The samples, and the classes that were left out.

    Raises
    ------
    DatasetError
        The network knows no class of the data set, or two samples have one name.
    """
    known, unknown = _by_knowledge(explainer, plan, dataset)
    problems = _class_problems(explainer, plan, dataset, known, unknown)
    truths: dict[Path, dict[int | None, Sample]] = {}
    if plan.explain == "top":
        truths = _by_class(known)
        pictures = dict.fromkeys(sample.picture for sample in dataset.samples)
        known = [Sample(dataset.name_of(picture), picture, None) for picture in pictures]
    doubled = [name for name, count in Counter(sample.name for sample in known).items() if count > 1]
    if doubled:
        raise DatasetError(f"two samples of '{dataset.root}' have the same name, '{doubled[0]}'")
    available = len(known)
    if limit is not None and limit < available:
        chosen = np.random.default_rng(seed).permutation(available)[:limit]
        known = [known[i] for i in sorted(chosen)]
    return Selection(known, problems, truths, available)


def dataset_digest(dataset: Dataset) -> str:
    """Hash what a data set says: every sample's name, class, regions and the sizes of its files.

    The folder itself is no part of it, so that a data set may be moved.

    Parameters
    ----------
    dataset : Dataset
        All its samples count, in their order.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for sample in dataset.samples:
        picture = dataset.name_of(sample.picture)
        sizes = [size_of(path) for path in files_of(sample)]
        words = f"{sample.name!a} {picture!a} {sample.label!a} {sizes} {_words(sample.regions, dataset)}\n"
        digest.update(words.encode())
    return digest.hexdigest()


def files_of(sample: Sample) -> list[Path]:
    """List the files of a sample: its picture, and pictures of its truth."""
    paths = (getattr(region, "path", None) for region in sample.regions)
    return [sample.picture, *(path for path in paths if isinstance(path, Path))]


def fingerprint(path: Path, known: Sequence[Any] = ()) -> list[Any]:
    """Describe a file's content.

    Parameters
    ----------
    path : Path
        The file.
    known : sequence
        Its fingerprint from before; taken over where size and time of change are the same.

    Returns
    -------
    list
        Size in bytes, time of change in nanoseconds, SHA-256 in hexadecimal; [-1, 0, ""] where it cannot be read.
    """
    try:
        state = path.stat()
        if list(known[:2]) == [state.st_size, state.st_mtime_ns]:
            return list(known)
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
        return [state.st_size, state.st_mtime_ns, digest.hexdigest()]
    except OSError:
        return [-1, 0, ""]


def changed(before: Sequence[Sequence[Any]] | None, now: Sequence[Sequence[Any]]) -> bool:
    """Whether files have another content than before, by their fingerprints; False where there was no before."""
    return before is not None and [own[2] for own in before] != [own[2] for own in now]


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _words(value: Any, dataset: Dataset) -> str:
    """A region's fields in words that do not depend on where the data set lies."""
    if isinstance(value, Path):
        return ascii(dataset.name_of(value))
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    if is_dataclass(value) and not isinstance(value, type):
        own = ", ".join(f"{f.name}={_words(getattr(value, f.name), dataset)}" for f in fields(value))
        return f"{type(value).__name__}({own})"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_words(entry, dataset) for entry in value)}]"
    return ascii(value)


def _by_knowledge(explainer: Explainer, plan: Plan, dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
    """Samples whose class the network knows, with its index in place of its name; and the others."""
    known: list[Sample] = []
    unknown: list[Sample] = []
    for sample in dataset.samples:
        label = plan.class_map.get(str(sample.label), sample.label)
        try:
            index = None if label is None else class_question(explainer.manifest, label).index
        except TargetError:
            unknown.append(replace(sample, label=label))
        else:
            known.append(replace(sample, label=index))
    return known, unknown


def _class_problems(
    explainer: Explainer, plan: Plan, dataset: Dataset, known: Sequence[Sample], unknown: Sequence[Sample]
) -> list[Problem]:
    """A problem for each class that the network or the data set does not know.

    Raises
    ------
    DatasetError
        The network knows none.
    """
    counts = Counter(str(sample.label) for sample in unknown)
    if not known:
        raise DatasetError(
            f"the network knows none of the data set's classes ({', '.join(list(counts)[:5])}…): its labels are "
            f"{', '.join(explainer.manifest.labels[:5]) or 'not known'}…; say which is which with "
            f"{option('class_map')}"
        )
    name = dataset.root.resolve().name
    labels = {str(sample.label) for sample in dataset.samples}
    return [
        Problem(name, 0, f"class '{label}' is none of the network's: {count} samples")
        for label, count in counts.items()
    ] + [
        Problem(name, 0, f"class '{label}' of the class map is none of the data set's")
        for label in plan.class_map
        if label not in labels
    ]


def _by_class(samples: Sequence[Sample]) -> dict[Path, dict[int | None, Sample]]:
    """The samples of each picture by class, with the regions of all objects of the class."""
    found: dict[Path, dict[int | None, Sample]] = {}
    for sample in samples:
        assert not isinstance(sample.label, str)
        own = found.setdefault(sample.picture, {})
        before = own.get(sample.label)
        own[sample.label] = replace(sample, regions=(before.regions if before else ()) + sample.regions)
    return found
