"""Runs an evaluation: finds what is still to be done, and keeps every outcome."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sise_ort.bundle import bundle_digest
from sise_ort.datasets.dataset import Dataset, Problem, Sample
from sise_ort.errors import ParameterError, option
from sise_ort.runtime.evaluation.plan import Plan, bounded
from sise_ort.runtime.evaluation.samples import Selection, changed, dataset_digest, fingerprint, select
from sise_ort.runtime.evaluation.store import DATABASE, GALLERY, Row, Store
from sise_ort.runtime.evaluation.tables import write_tables
from sise_ort.runtime.evaluation.work import Task, sample_files
from sise_ort.runtime.evaluation.workers import outcomes
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.methods import Progress, method_named

MOST_WORKERS = 4 * (os.cpu_count() or 1)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    plan : Plan
        What was asked for.
    samples : list of Sample
        The samples evaluated, in the order of the data set.
    rows : list of dict
        One per sample and variant, in their order.
    problems : list of Problem
        What was left out, and why.
    statements : list of str
        What was read and how.
    """

    plan: Plan
    samples: list[Sample]
    rows: list[Row]
    problems: list[Problem]
    statements: list[str]


def evaluate(
    plan: Plan,
    dataset: Dataset,
    folder: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    only_report: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate, or go on where an evaluation in the same folder stopped.

    Parameters
    ----------
    plan : Plan
        Bundle, methods and metrics.
    dataset : Dataset
        Pictures and what is known of them.
    folder : str or Path
        Takes ``evaluation.sqlite`` (rows, kept after every sample), ``gallery/``, ``rows.csv`` and ``rows.parquet``.
    limit : int or None
        Number of samples at most, chosen at random; a later call may ask for more.
    seed : int
        Seed of that choice.
    workers : int
        Number of processes, which share the cores. They help where a method does much besides running the network
        (extremal-perturbation), not elsewhere. A script that asks for several needs ``if __name__ == "__main__":``.
    only_report : bool
        Run nothing, return what is there.
    progress : callable or None
        Called with (samples done, samples in all).

    Returns
    -------
    Evaluation
        The rows of the plan's methods and the selected samples, those of earlier calls included.

    Raises
    ------
    ParameterError
        The folder holds an evaluation with other settings, or other files of the same names.
    DatasetError
        The network knows no class of the data set.
    OutputError
        The folder cannot be written, or another process is writing to it. Rows that were found before are kept.
    """
    folder = Path(folder)
    workers = bounded("workers", workers, 1, MOST_WORKERS)
    seed = bounded("seed", seed, 0)
    limit = None if limit is None else bounded("limit", limit, 1)
    _check_places(plan, dataset, folder)
    if only_report and not (folder / DATABASE).is_file():
        raise ParameterError(f"there is nothing to report: '{folder}' has no {DATABASE}")
    if workers > 1 and plan.threads is None:
        plan = replace(plan, threads=max(1, (os.cpu_count() or 1) // workers))
    explainer = Explainer(
        plan.bundle,
        plan.provider,
        plan.batch_size,
        plan.threads,
        trusted=plan.trusted,
        precision=plan.precision,
    )
    with explainer:
        for variant in plan.variants:
            method_named(variant.method).require(explainer.manifest, [])
        run = _Run(explainer, plan, dataset, select(explainer, plan, dataset, limit, seed), folder)
        with run.opened(write=False) as store:
            run.check_files(store)
            if only_report:
                return run.evaluation(store, run.unfinished(store), seed)
        with run.opened(write=True) as store:
            notes = run.work(store, workers, progress)
            return run.evaluation(store, notes, seed)


@dataclass(frozen=True)
class _Run:
    """One call: what is evaluated, by what, and where its rows are."""

    explainer: Explainer
    plan: Plan
    dataset: Dataset
    selection: Selection
    folder: Path

    def opened(self, write: bool) -> Store:
        """Open the rows, and check that they are of the same settings."""
        digests = bundle_digest(self.explainer.manifest), dataset_digest(self.dataset)
        settings = self.plan.settings(
            *digests, self.explainer.provider, self.explainer.model.record()["precision"]
        )
        parameters = {variant.name: variant.parameters for variant in self.plan.variants}
        return Store(self.folder, settings, parameters, write=write)

    def check_files(self, store: Store) -> None:
        """Check that the files of samples that have rows are as they were.

        Raises
        ------
        ParameterError
            One has changed.
        """
        before = store.files()
        for sample in self.selection.samples:
            if sample.name not in before:
                continue
            task = Task(sample, (), None, self.selection.truths.get(sample.picture, {}))
            for path, old in zip(sample_files(task), before[sample.name], strict=False):
                if fingerprint(path, old)[2] != old[2]:
                    raise ParameterError(
                        f"'{self.folder}' holds an evaluation with other settings: '{path}' has changed since it was "
                        f"evaluated. Choose another folder with {option('folder')}"
                    )

    def tasks(self, store: Store) -> list[Task]:
        """List what is still to be done."""
        done = {(row["sample"], row["variant"]) for row in store.rows()}
        found = []
        for place, sample in enumerate(self.selection.samples):
            missing = tuple(v for v in self.plan.variants if (sample.name, v.name) not in done)
            if missing:
                shown = self.folder / GALLERY if place < self.plan.gallery else None
                found.append(Task(sample, missing, shown, self.selection.truths.get(sample.picture, {})))
        return found

    def unfinished(self, store: Store) -> list[str]:
        """Say how much is still to be done."""
        count = len(self.tasks(store))
        return [f"not finished: {count} samples have not been through all methods"] if count else []

    def work(self, store: Store, workers: int, progress: Progress | None) -> list[str]:
        """Do what is still to be done, keep it, write the tables; returns what a user should know."""
        tasks = self.tasks(store)
        conditions = _conditions(self.explainer, self.plan, workers)
        before = store.files()
        with closing(outcomes(self.explainer, self.plan, tasks, workers, conditions)) as found:
            for number, outcome in enumerate(found, 1):
                if outcome.rows and changed(before.get(outcome.sample), outcome.files):
                    outcome.rows.clear()
                    outcome.report("its files have changed since other methods were evaluated on it")
                store.keep(outcome.sample, outcome.rows, outcome.problems, outcome.files)
                if progress is not None:
                    progress(number, len(tasks))
        return write_tables(store.rows(), store.columns, self.folder)

    def evaluation(self, store: Store, notes: Sequence[str], seed: int) -> Evaluation:
        """Gather what the plan asks for."""
        samples, everything, met = self.selection.samples, store.rows(), store.problems()
        rows = _in_order(self.plan, samples, everything)
        further = len(everything) - len(rows)
        statements = [
            *_statements(self.explainer, self.plan, self.dataset, self.selection, seed),
            *notes,
            *_remarks(rows, self.selection),
        ]
        if further:
            statements.append(
                f"the tables hold {further} further rows, of methods or samples not asked for this time"
            )
        problems = [p for sample in samples for p in met.get(sample.name, [])]
        problems = [*self.dataset.problems, *self.selection.problems, *problems]
        return Evaluation(self.plan, samples, rows, problems, statements)


def _check_places(plan: Plan, dataset: Dataset, folder: Path) -> None:
    """Refuse to write among the data set's pictures or into the bundle.

    Raises
    ------
    ParameterError
    """
    place = folder.resolve()
    bundle = Path(plan.bundle)
    for other, words in ((dataset.root, "the data set"), (bundle, "the bundle")):
        if place.is_relative_to(other.resolve()) and (
            other is not bundle or (bundle / "manifest.json").is_file()
        ):
            raise ParameterError(
                f"'{folder}' lies in {words}: choose a folder elsewhere with {option('folder')}"
            )


def _in_order(plan: Plan, samples: Sequence[Sample], rows: Sequence[Row]) -> list[Row]:
    """The plan's rows by sample, then variant."""
    places = {sample.name: i for i, sample in enumerate(samples)}
    order = {variant.name: i for i, variant in enumerate(plan.variants)}
    kept = [row for row in rows if row["sample"] in places and row["variant"] in order]
    return sorted(kept, key=lambda row: (places[row["sample"]], order[row["variant"]]))


def _conditions(explainer: Explainer, plan: Plan, workers: int) -> str:
    """What seconds depend on, in words."""
    facts = explainer.model.record()
    threads = plan.threads or os.cpu_count() or 1
    words = f"onnxruntime {facts['onnxruntime']} on {facts['provider']} in {facts['precision']}, batches of {facts['batch_size']}, "
    words += f"{threads} {'thread' if threads == 1 else 'threads'}"
    return words + (f" in each of {workers} processes" if workers > 1 else "")


def _statements(
    explainer: Explainer, plan: Plan, dataset: Dataset, selection: Selection, seed: int
) -> list[str]:
    """What was read and how."""
    spec, manifest = explainer.manifest.input, explainer.manifest
    chosen = len(selection.samples)
    some = (
        f", chosen at random (seed {seed}) of {selection.available}" if chosen < selection.available else ""
    )
    raw = "; it has no probabilities, so no Drop and Increase" if not manifest.bounded else ""
    hidden = "the mean colour" if manifest.preprocessing.hidden == "mean" else "black"
    return [
        f"data set {dataset.kind}, {dataset.root.resolve().name}: {chosen} samples{some}",
        *dataset.statements,
        _explained(plan, selection.samples),
        f"pictures are brought to {spec.width} × {spec.height} by {manifest.fit.mode}; heat maps are compared with the "
        "truth at the picture's own size, 0 where the network does not look",
        f"hidden pixels become {hidden}; insertion starts from a blurred picture; {plan.steps} steps",
        f"head: {manifest.head.words}{raw}",
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


def _remarks(rows: Sequence[Row], selection: Selection) -> list[str]:
    """What the rows themselves say about how far they can be believed."""
    found = []
    number, without = len(selection.samples), len(selection.samples) - len({row["sample"] for row in rows})
    if not rows:
        found.append(f"no heat map was judged: all {number} samples failed or are still to be done")
    elif without:
        found.append(
            f"{without} of the {number} samples have no heat map: they failed or are still to be done"
        )
    conditions = list(dict.fromkeys(row["conditions"] for row in rows))
    if len(conditions) == 1:
        found.append(f"seconds were measured with {conditions[0]}")
    elif conditions:
        found.append(f"seconds cannot be compared: they were measured with {'; '.join(conditions)}")
    return found
