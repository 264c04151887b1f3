"""Options of `sise-ort explain` for many machines, and what they do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from sise_ort.cli.options import Number

_OPTIONS = (
    click.option(
        "--ray",
        metavar="local|auto|ADDRESS",
        help="Explain by several processes of Ray, on this machine or a cluster; writes Parquet files, and files per picture with --formats. PICTURES may be folders, Parquet files and addresses such as s3://….",
    ),
    click.option(
        "--workers",
        "count",
        type=click.IntRange(1, 100_000),
        help="Number of processes with --ray, each with the bundle loaded [one per GPU, or as many as have --cores].",
    ),
    click.option(
        "--cores",
        type=click.IntRange(1, 4096),
        help="CPU cores of each process with --ray [4, or fewer where the machines have fewer].",
    ),
    click.option(
        "--gpus",
        type=Number(0, 64),
        help="GPUs of each process with --ray, such as 0.5 for two on a GPU [1 where Ray has GPUs].",
    ),
)


def ray_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for Ray; the command gets them as one argument, `cluster`."""
    names = ("ray", "count", "cores", "gpus")

    @functools.wraps(command)
    def with_cluster(**given: Any) -> Any:
        return command(cluster={name: given.pop(name) for name in names}, **given)

    for option in reversed(_OPTIONS):
        with_cluster = option(with_cluster)
    return with_cluster


def wants_ray(cluster: Mapping[str, Any], *, as_list: bool) -> bool:
    """Whether --ray was given.

    Parameters
    ----------
    cluster : mapping
        The options for Ray.
    as_list : bool
        Whether --list was given.

    Raises
    ------
    click.UsageError
        Options do not go together.
    """
    if cluster["ray"] is None:
        for name, flag in (("count", "--workers"), ("cores", "--cores"), ("gpus", "--gpus")):
            if cluster[name] is not None:
                raise click.UsageError(f"{flag} needs --ray, such as --ray local")
        return False
    if as_list:
        raise click.UsageError("--list and --ray do not go together")
    return True


def explain_with_ray(
    bundle: str,
    pictures: Sequence[str],
    folder: str,
    target: Any,
    workers: Mapping[str, Any],
    asked: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Explain a data set, and say where its results are.

    Parameters
    ----------
    bundle, pictures, folder, target
        As for `sise_ort.explain_dataset`.
    workers : mapping
        Fields of `sise_ort.Workers`.
    asked : mapping
        The other arguments of `sise_ort.explain_dataset`.
    as_json : bool
        Print the summary as JSON, not the folder.

    Raises
    ------
    click.ClickException
        Some pictures could not be explained.
    """
    from dataclasses import asdict

    import sise_ort
    from sise_ort.cli.console import say
    from sise_ort.cli.waiting import watched
    from sise_ort.outputs import to_json

    with watched("pictures", quiet=as_json) as progress:
        summary = sise_ort.explain_dataset(
            bundle, pictures, folder, target, workers=sise_ort.Workers(**workers), progress=progress, **asked
        )
    kept = f", {summary.before:,} had results already" if summary.before else ""
    say(f"{summary.explained:,} of {summary.pictures:,} pictures explained{kept} ({summary.seconds:.1f} s)")
    click.echo(to_json(asdict(summary)) if as_json else f"{summary.out}/results")
    if summary.failed:
        raise click.ClickException(
            f"{summary.failed} of {summary.pictures} pictures could not be explained; '{summary.out}/failures' says why"
        )
