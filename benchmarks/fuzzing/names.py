"""Names of files, folders and labels: nothing leaves its folder, replaces another file, or reaches a terminal as a code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fuzzing.cases import Place, Wrong, case, snapshot
from fuzzing.pictures import copy

AREA = "names"
NAMES: list[str] = [
    "strip", "strip-1", "strip-2", "strip.1", "-strip", "--help", "..", ".", "...", ".hidden", "../x", "../../canary/notes.txt",
    "/tmp/x", "a/b", "a\\b", "CON", "nul", "aux.txt", "a:b", "a*b?", "a|b", '"', "'", "a b", " ", "", "a\tb", "a\nb", "a\0b",
    "\x1b[31mred\x1b[0m", "\x07", "\x9b31m", "\u202egnp.exe", "\ufeff", "\ud800", "\udcff\udcfe", "👩‍🔬", "猫", "é", "e\u0301", "ß",
    "x" * 200, "x" * 300, "x" * 10_000, "é" * 150, "猫" * 100, "[red]x[/red]", "{name}", "%s", "$HOME", "~", "`id`", ";ls",
    "<b>&", "strip,1", "strip=1", "rise", "not:ant", "positive", "Strip", "STRIP", "strip ", "strip.", "strip.png", "strip.json.part",
]  # fmt: skip


@case(AREA, 3)
def labels(place: Place) -> None:
    """Four classes with strange names, several of them alike: each result has files of its own."""
    import sise_ort

    chosen = [place.rng.choice(NAMES) for _ in range(4)]
    place.freeze()
    sise_ort.export(place.samples / "tiny.onnx", place.out / "m.sise", normalize="tf", labels=chosen)
    with sise_ort.load(place.out / "m.sise", "cpu", batch_size=4) as explainer:
        results = explainer.explain(place.samples / "pictures" / "strip.png", [0, 1, 2, 3])
    saved = [file for result in results for file in result.save(place.out / "results")]
    check_files(saved, place.out / "results")


def check_files(saved: list[Path], folder: Path) -> None:
    """Every file that was named is there, lies in its folder, and is named once.

    Raises
    ------
    Wrong
    """
    if len({os.fspath(p) for p in saved}) != len(saved):
        raise Wrong(f"one file for two results: {[str(p) for p in saved]}")
    for path in saved:
        if path.resolve().parent != folder.resolve() or not path.is_file():
            raise Wrong(f"{str(path)!r} is not a file in {str(folder)!r}")


@case(AREA, 2)
def stems(place: Place) -> None:
    """`save` with any stem, twice: the second result does not replace the first."""
    result = place.explainer().explain(place.samples / "pictures" / "strip.png")
    stem = place.rng.choice(NAMES)
    first = result.save(place.out, stem)
    before = {p: p.read_bytes() for p in first}
    second = result.save(
        place.out, place.rng.choice((stem, stem.upper(), stem + " ", place.rng.choice(NAMES)))
    )
    check_files([*first, *second] if set(first) != set(second) else first, place.out)
    if any(p.suffix == ".npz" and p.read_bytes() != content for p, content in before.items()):
        raise Wrong("a result of before was changed")


@case(AREA, 3)
def pictures_with_names(place: Place) -> None:
    """The command line with pictures of strange names, some alike in several folders, into any folder."""
    chosen = []
    for number in range(place.rng.choice((1, 2, 3))):
        folder = place.inputs / str(number)
        folder.mkdir()
        name = place.rng.choice(NAMES) + place.rng.choice((".png", ".png", ".PNG", ".jpg", ""))
        try:
            (folder / name).write_bytes((place.samples / "pictures" / "strip.png").read_bytes())
        except (OSError, ValueError):  # this system has no such names
            (folder / "strip.png").write_bytes((place.samples / "pictures" / "strip.png").read_bytes())
        chosen += sorted(p for p in folder.iterdir() if p.is_file())
    place.freeze()
    if not chosen:
        chosen = [copy(place, "plain.png")]
        place.freeze()
    targets: list[Any] = place.rng.choice(
        ([], ["--target", "ant", "--target", "bee"], ["--target-index", "0"])
    )
    place.command(
        "explain",
        place.samples / "tiny.sise",
        "-o",
        place.out / "results",
        "--provider",
        "cpu",
        *targets,
        "--",
        *chosen,
    )


@case(AREA, 2)
def outputs_over_inputs(place: Place) -> None:
    """Results into the pictures' own folder, over a link, over files that others wrote: nothing of them is replaced."""
    folder = place.inputs
    picture = copy(place, place.rng.choice(("strip.png", "strip.PNG", "strip.jpg", "strip-1.png")))
    for name in place.rng.sample(
        ["strip.json", "strip.npz", "strip.png.part", "strip-1.png", "strip-1.json", "strip-ant.png"], 3
    ):
        if (folder / name).exists():
            continue
        if place.rng.random() < 0.5:
            (folder / name).write_text("somebody's own")
        else:
            (folder / name).symlink_to(
                place.rng.choice(("/dev/null", "nowhere", str(place.folder.parent / "canary" / "notes.txt")))
            )
    target = folder
    if place.rng.random() < 0.3:
        target = place.out / "link"
        target.symlink_to(folder)
    before = snapshot(folder)
    place.command("explain", place.samples / "tiny.sise", picture, "-o", target, "--provider", "cpu")
    after = snapshot(folder)
    for name, facts in before.items():
        if after.get(name) != facts:
            raise Wrong(f"{name!r} was replaced or lost")
    place.freeze()  # the results that were added may stay


@case(AREA, 2)
def bundles_over_anything(place: Place) -> None:
    """`export --force` onto folders and files that are no bundle leaves them as they are."""
    target: Path = place.inputs / "target"
    kind = place.rng.choice(("app", "file", "link", "notes", "empty", "mixed", "source"))
    source = place.samples / "tiny.onnx"
    if kind == "app":
        target.mkdir()
        (target / "manifest.json").write_text(
            place.rng.choice(('{"name": "app"}', "{}", "", '{"format": "sise-ort bundle"}'))
        )
        (target / "index.html").write_text("<p>mine")
    elif kind == "file":
        target.write_text("mine")
    elif kind == "link":
        target.symlink_to(place.folder.parent / "canary" / "app")
    elif kind == "notes":
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    elif kind == "mixed":
        import shutil

        shutil.copytree(place.samples / "tiny.sise", target)
        (target / "notes.txt").write_text("mine")
    elif kind == "source":
        target.mkdir()
        (target / "tiny.onnx").write_bytes(source.read_bytes())
        source = target / "tiny.onnx"
    before = (
        snapshot(target) if kind != "mixed" else {k: v for k, v in snapshot(target).items() if "notes" in k}
    )
    place.command("export", source, "-o", target, "--normalize", "tf", "--force")
    after = snapshot(target)
    if kind != "empty" and any(after.get(name) != facts for name, facts in before.items()):
        raise Wrong(f"{kind}: what stood there was replaced or lost")
    if kind == "file" and target.read_text() != "mine":
        raise Wrong("a file was replaced by a bundle")
    place.freeze()
