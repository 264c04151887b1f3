"""Evaluating: which samples are still to be done, and what is kept of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sise_ort.bundle import bundle_digest
from sise_ort.datasets.dataset import Dataset, Problem, Sample
from sise_ort.errors import DatasetError, ParameterError, TargetError
from sise_ort.files import write_file
from sise_ort.runtime.evaluation.plan import Plan, same_settings
from sise_ort.runtime.evaluation.rows import Row, Rows
from sise_ort.runtime.evaluation.work import Task, outcomes
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.method import whole_number
from sise_ort.runtime.methods import method_named

SETTINGS, ROWS, GALLERY = "settings.json", "rows.csv", "gallery"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """samples : those evaluated, in order. rows : by sample, then variant. problems : everything left out, and why.
    statements : what was read and how."""

    plan: Plan
    samples: list[Sample]
    rows: list[Row]
    problems: list[Problem]
    statements: list[str]


def columns(plan: Plan) -> list[str]:
    return [
        "sample", "variant", "label", "target", "confidence", *plan.metrics,
        "tied", "forward_passes", "backward_passes", "seconds", "notes",
    ]  # fmt: skip


def evaluate(
    plan: Plan,
    dataset: Dataset,
    folder: str | Path,
    *,
    dataset_options: dict[str, Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    only_report: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate, or go on where an evaluation in the same folder stopped.

    Parameters
    ----------
    plan, dataset : what is done to what. dataset_options : what the data set was opened with.
    folder : takes settings.json, rows.csv (appended after every sample) and gallery/.
    limit : so many samples at most, chosen at random; more can be asked for later.
    seed : of that choice.
    workers : processes; each has its share of the cores. They help where a method does much besides running the
        network (extremal-perturbation), not elsewhere.
    only_report : run nothing, return what is there.
    progress : called with (samples done, samples in all).

    Raises
    ------
    ParameterError : the folder holds an evaluation with other settings.
    DatasetError : no sample's class is known to the network.
    OutputError : the folder cannot be written. Rows that were found before are kept.
    """
    folder = Path(folder)
    workers = whole_number("workers", workers)
    if limit is not None:
        limit = whole_number("limit", limit)
    if workers > 1 and plan.threads is None:
        plan = replace(plan, threads=max(1, (os.cpu_count() or 1) // workers))
    explainer = Explainer(plan.bundle, plan.provider, plan.batch_size, plan.threads)
    lacking = [v.method for v in plan.variants if v.method not in explainer.methods]
    if lacking:
        method_named(lacking[0]).require(explainer.manifest, [])
    facts = {
        "kind": dataset.kind,
        "root": str(dataset.root.resolve()),
        **(dataset_options or {}),
        "seed": seed,
    }
    if only_report and not (folder / ROWS).is_file():
        raise ParameterError(f"there is nothing to report: '{folder}' has no {ROWS}")
    _keep_settings(folder, plan.settings(bundle_digest(explainer.manifest), facts))
    samples, strangers = _known(explainer, plan, dataset)
    problems = [*dataset.problems, *_unknown_classes(explainer, dataset, samples, strangers)]
    truths: dict[Path, dict[int | None, Sample]] = {}
    if plan.explain == "top":
        truths = _by_class(samples)
        pictures = dict.fromkeys(sample.picture for sample in dataset.samples)
        samples = [Sample(dataset.name_of(picture), picture, None) for picture in pictures]
    if limit is not None and limit < len(samples):
        chosen = np.random.default_rng(seed).permutation(len(samples))[:limit]
        samples = [samples[i] for i in sorted(chosen)]
    if len({s.name for s in samples}) < len(samples):
        raise DatasetError(f"two samples of '{dataset.root}' have the same name")
    with Rows(folder / ROWS, columns(plan), write=not only_report) as rows:
        done = {(row["sample"], row["variant"]) for row in rows.all}
        tasks = []
        for place, sample in enumerate(samples):
            missing = tuple(v for v in plan.variants if (sample.name, v.name) not in done)
            gallery = folder / GALLERY if place < plan.gallery else None
            if missing:
                tasks.append(Task(sample, missing, gallery, truths.get(sample.picture, {})))
        met: list[Problem] = []
        if not only_report:
            for number, outcome in enumerate(outcomes(explainer, plan, tasks, workers), 1):
                rows.append(outcome.rows)
                met += outcome.problems
                if progress is not None:
                    progress(number, len(tasks))
    place_of = {sample.name: i for i, sample in enumerate(samples)}
    order = {variant.name: i for i, variant in enumerate(plan.variants)}
    kept = [row for row in rows.all if row["sample"] in place_of and row["variant"] in order]
    kept.sort(key=lambda row: (place_of[row["sample"]], order[row["variant"]]))
    statements = _statements(explainer, plan, dataset, samples, limit, seed)
    if only_report and tasks:
        statements.append(f"not finished: {len(tasks)} samples have not been through all methods yet")
    return Evaluation(plan, samples, kept, problems + sorted(met, key=str), statements)


def _statements(
    explainer: Explainer,
    plan: Plan,
    dataset: Dataset,
    samples: Sequence[Sample],
    limit: int | None,
    seed: int,
) -> list[str]:
    spec, fit = explainer.manifest.input, explainer.manifest.fit
    return [
        f"data set {dataset.kind}, {dataset.root.resolve().name}: {len(samples)} samples"
        + (
            f", chosen at random (seed {seed}) of {len(dataset.samples)}"
            if limit is not None and limit < len(dataset.samples)
            else ""
        ),
        *dataset.statements,
        _explained(plan, samples),
        f"pictures are brought to {spec.width} × {spec.height} by {fit.mode}; heat maps are compared with the truth at "
        "the picture's own size, 0 where the network does not look",
        f"hidden pixels become {'the mean colour' if explainer.manifest.preprocessing.hidden == 'mean' else 'black'}; "
        f"insertion starts from a blurred picture; {plan.steps} steps",
        f"head: {explainer.manifest.head.words}"
        + (
            "; it has no probabilities, so no Drop and Increase"
            if not explainer.manifest.head.bounded
            else ""
        ),
    ]


def _explained(plan: Plan, samples: Sequence[Sample]) -> str:
    if plan.explain == "top":
        return "explained: the top class; its truth is known where the data set has it"
    unknown = sum(sample.label is None for sample in samples)
    if unknown == len(samples):
        return "explained: the top class, since the data set has no classes"
    return "explained: the class of the data set" + (
        f"; the top class in {unknown} samples that have none" if unknown else ""
    )


def _keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if path.is_file():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ParameterError(f"'{path}' cannot be read ({error}); choose another folder") from error
        same_settings(folder, old, settings)
    else:
        if (folder / ROWS).exists():
            raise ParameterError(f"'{folder}' has {ROWS} without {SETTINGS}; choose another folder")
        write_file(path, (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode())


def _known(explainer: Explainer, plan: Plan, dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
    """Samples whose class the network knows, with its index in place of its name; and the others."""
    found: list[Sample] = []
    strangers: list[Sample] = []
    for sample in dataset.samples:
        label = plan.class_map.get(str(sample.label), sample.label)
        try:
            found.append(replace(sample, label=None if label is None else explainer.question(label).index))
        except TargetError:
            strangers.append(replace(sample, label=label))
    return found, strangers


def _unknown_classes(
    explainer: Explainer, dataset: Dataset, known: Sequence[Sample], strangers: Sequence[Sample]
) -> list[Problem]:
    """A problem for each class that the network does not know.

    Raises
    ------
    DatasetError : it knows none.
    """
    counts = Counter(str(sample.label) for sample in strangers)
    if not known:
        raise DatasetError(
            f"the network knows none of the data set's classes ({', '.join(list(counts)[:5])}…): its labels are "
            f"{', '.join(explainer.manifest.labels[:5]) or 'not known'}…; say which is which with --class-map"
        )
    return [
        Problem(dataset.root.resolve().name, 0, f"class '{label}' is none of the network's: {count} samples")
        for label, count in counts.items()
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
