"""sise-ort explain BUNDLE PICTURES… -o FOLDER"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sise_ort.cli.cluster import explain_with_ray, ray_options, wants_ray
from sise_ort.cli.options import (
    LONGEST_DEADLINE_MS,
    Formats,
    LevelsType,
    Mu,
    Number,
    batch_size_option,
    precision_option,
    provider_option,
    untrusted_option,
)
from sise_ort.cli.targets import target_of, target_options
from sise_ort.outputs import OutputFolder, to_json

if TYPE_CHECKING:
    from sise_ort.explanation import Explanation
    from sise_ort.runtime.explainer import Explainer

    Saved = list[tuple[Explanation, list[Path] | Exception]]
    """Results with their files, or with the error that kept them from being saved."""


@click.command("explain")
@click.argument("bundle", type=click.Path())
@click.argument("pictures", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--out",
    "folder",
    default="explanations",
    show_default=True,
    type=click.Path(),
    help="Folder to write the results to.",
)
@target_options
@click.option(
    "--list", "as_list", is_flag=True, help="Detector: list the detections with their numbers, explain none."
)
@click.option(
    "--method",
    default="sise",
    show_default=True,
    metavar="NAME",
    help="Method of explanation: sise, gradcam, rise … (docs/methods.md lists all).",
)
@click.option(
    "--mu", type=Mu(), help='SISE: threshold of the feature map selection in [0, 1), or "adaptive" [0].'
)
@click.option(
    "--passes", type=click.IntRange(0), help="SISE: score at most N masks, predict the scores of the others."
)
@click.option(
    "--deadline-ms",
    type=Number(0, LONGEST_DEADLINE_MS, above=True),
    help="SISE: answer within N milliseconds.",
)
@click.option(
    "--tolerance",
    type=Number(0, 1, above=True, below=True),
    help="SISE: stop when more masks would change the heat map by less than this share, such as 0.05.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter of the method, such as masks=4000. Repeatable.",
)
@click.option(
    "--levels",
    type=LevelsType(),
    help="Pixel value of white where it is not 255, such as 4095 for 12 bits; or the values of black and white.",
)
@click.option(
    "--formats",
    type=Formats(),
    help="Files to write beside each record: overlay, png, jpeg, npz, maps, npy or json for none [overlay,npz].",
)
@click.option(
    "--checks",
    is_flag=True,
    help="Check whether each map is to be trusted: sound, weak or none, with the reason (docs/trust.md).",
)
@click.option(
    "--part-mask",
    type=click.Path(exists=True, dir_okay=False),
    help="Picture of the frame's size that is not black where the part is; --checks then tells the heat off the part.",
)
@provider_option
@precision_option
@untrusted_option
@batch_size_option
@ray_options
@click.option("--json", "as_json", is_flag=True, help="Print the record of each result as one line of JSON.")
def command(
    bundle: str,
    pictures: tuple[str, ...],
    folder: str,
    asked: Mapping[str, Any],
    as_list: bool,
    method: str,
    mu: float | str | None,
    passes: int | None,
    deadline_ms: float | None,
    tolerance: float | None,
    settings: tuple[str, ...],
    levels: Any,
    formats: list[str] | None,
    checks: bool,
    part_mask: str | None,
    provider: str,
    precision: str,
    untrusted: bool,
    batch_size: int | None,
    cluster: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Explain a network's decisions on pictures with heat maps.

    Writes for each picture and class an overlay (.png, or .jpg over 4 megapixels), the heat map (.npz, which
    sise_ort.read_heatmap brings to the picture's size) and a record (.json). --formats asks for others: png or jpeg
    (the overlay, whatever its size), npy (the heat map as float32 at the picture's size), maps (the map of each block in
    the .npz, too). Only an earlier result of the same picture, class, method, parameters and bundle is overwritten;
    where another file has the name, the new files get a number (strip-2.png). A picture that cannot be explained is
    reported, the others are done, and the exit code is 1.

    \b
    sise-ort explain resnet50.sise street.jpg -o out
    sise-ort explain strips.sise *.png -o out --target scratch --mu 0.3 --json
    sise-ort explain strips.sise strip.png --deadline-ms 200
    sise-ort explain strips.sise strip.png --formats overlay,npy
    sise-ort explain strips.sise strip.png --checks --part-mask part.png
    sise-ort explain strips.sise strip.png --method rise --set masks=4000
    sise-ort explain strips.sise strip.png --target crack --rather-than scratch
    sise-ort explain parts.sise part.png --target patch --region 40,0,200,90
    sise-ort explain detector.sise street.jpg --list
    sise-ort explain strips.sise strips/ -o maps --ray local --passes 64
    """
    import sise_ort
    from sise_ort.cli.console import say
    from sise_ort.cli.options import method_parameters
    from sise_ort.runtime.checking import Checks

    if part_mask is not None and not checks:
        raise click.UsageError("--part-mask needs --checks")
    target = target_of(asked)
    deadline = None if deadline_ms is None else deadline_ms / 1000
    given = {"mu": mu, "passes": passes, "deadline": deadline, "tolerance": tolerance}
    parameters = method_parameters(method, settings, given)
    if wants_ray(cluster, as_list=as_list):
        workers = {**cluster, "provider": provider, "batch_size": batch_size, "precision": precision}
        wishes = {"method": method, "formats": formats or (), "levels": levels, **parameters}
        workers["trusted"] = not untrusted
        explain_with_ray(bundle, pictures, folder, target, workers, wishes, as_json=as_json)
        return
    explainer = sise_ort.load(bundle, provider, batch_size, trusted=not untrusted, precision=precision)
    for note in explainer.notes:
        say(f"note: {note}")
    if deadline_ms is not None:
        explainer.warm_up()
    if as_list:
        _list_detections(explainer, pictures, levels, as_json)
        return
    outputs = OutputFolder(folder, pictures)
    outputs.prepare()
    run = Run(explainer, pictures, outputs, several=target is not None, formats=formats, as_json=as_json)
    run.explain(target, method, levels, {**parameters, "checks": checks and Checks(part_mask)})
    if run.failed:
        raise click.ClickException(
            f"{run.failed} of {len(pictures)} pictures could not be explained or saved"
        )


def _list_detections(explainer: Explainer, pictures: Sequence[str], levels: Any, as_json: bool) -> None:
    """Print what a detector sees in each picture; one that cannot be read is reported, and the exit code is 1."""
    from dataclasses import asdict

    from sise_ort.cli.console import say
    from sise_ort.errors import FrameError, on_command_line
    from sise_ort.targets import place_in_words

    failed = 0
    for picture in pictures:
        try:
            found = explainer.detections(picture, levels=levels)
        except FrameError as error:
            failed += 1
            say(f"{picture}: failed: {on_command_line(error)}")
            continue
        if not found:
            say(f"{picture}: nothing is detected")
        for one in found:
            text = (
                to_json({"source": picture, **asdict(one)})
                if as_json
                else (
                    f"{picture}: {one.index}  {one.label}  {100 * one.confidence:.1f} %  ({place_in_words(one.box)})"
                )
            )
            click.echo(text)
    if failed:
        raise click.ClickException(f"{failed} of {len(pictures)} pictures could not be read")


class Run:
    """One call of the command: explains the pictures, saves and prints each result, and counts what fails.

    Parameters
    ----------
    explainer : Explainer
    pictures : sequence of str
    outputs : OutputFolder
        Where the results go.
    several : bool
        Classes were asked for: their names stand in the file names.
    formats : sequence of str or None
        What to write beside each record; None takes the usual files.
    as_json : bool
        Print records, not file names.
    """

    def __init__(
        self,
        explainer: Explainer,
        pictures: Sequence[str],
        outputs: OutputFolder,
        *,
        several: bool,
        formats: Sequence[str] | None = None,
        as_json: bool,
    ) -> None:
        self._explainer = explainer
        self._pictures = pictures
        self._outputs = outputs
        self._several = several
        self._formats = formats
        self._as_json = as_json
        self.failed = 0

    def explain(self, target: Any, method: str, levels: Any, parameters: Mapping[str, Any]) -> None:
        """Explain all pictures; one is drawn and saved while the next one is explained."""
        from sise_ort.cli.waiting import Waiting
        from sise_ort.errors import FrameError

        waiting = Waiting(len(self._pictures), quiet=self._as_json)
        results = self._explainer.explain_many(
            self._pictures,
            target,
            method=method,
            levels=levels,
            errors="return",
            progress=waiting,
            **parameters,
        )
        with ThreadPoolExecutor(1) as drawing:
            last: tuple[str, Future[Saved]] | None = None
            for number, picture in enumerate(self._pictures, 1):
                title = f"[{number}/{len(self._pictures)}] {picture}"
                with waiting.picture(title):
                    found = next(results)
                if last is not None:
                    self._report(*last)
                    last = None
                if isinstance(found, FrameError):
                    self._report_failure(title, found)
                else:
                    answers = found if isinstance(found, list) else [found]
                    last = title, drawing.submit(self._save, picture, answers)
            if last is not None:
                self._report(*last)

    def _save(self, picture: str, results: Sequence[Explanation]) -> Saved:
        """Save every result; what cannot be saved has its error in place of its files."""
        from sise_ort.errors import SiseError

        saved: Saved = []
        for result in results:
            stem = Path(picture).stem
            name = result.name_with_method(f"{stem}-{result.label}" if self._several else stem)
            try:
                saved.append((result, result.save(self._outputs, name, formats=self._formats)))
            except SiseError as error:
                saved.append((result, error))
        return saved

    def _report(self, title: str, drawn: Future[Saved]) -> None:
        from sise_ort.cli.console import say

        saved = drawn.result()
        if not saved:
            say(f"{title}: no class is over 0.5")
        for result, files in saved:
            masks = sum(result.mask_counts)
            price = f"{masks} masks" if result.mask_counts else f"{result.forward_passes} passes"
            say(f"{title}: {result.caption} ({price}, {result.timings['total']:.1f} s)")
            if result.verdict is not None:
                say(f"  {result.verdict.words}")
            for note in result.notes[len(self._explainer.notes) :]:
                say(f"  note: {note}")
            if isinstance(files, list):
                self._print(result, files)
        failures = [files for _, files in saved if not isinstance(files, list)]
        if failures:
            self._report_failure(title, failures[0])

    def _print(self, result: Explanation, files: list[Path]) -> None:
        """Print a record or the first file's path, the picture's, on standard output; a path's bytes are those of the file system."""
        if self._as_json:
            click.echo(to_json({**result.record(), "files": [str(file) for file in files]}))
        else:
            click.echo(os.fsencode(files[0]))

    def _report_failure(self, title: str, error: Exception) -> None:
        from sise_ort.cli.console import say
        from sise_ort.errors import on_command_line

        self.failed += 1
        say(f"{title}: failed: {on_command_line(error)}")
