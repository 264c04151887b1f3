"""Parameters of load, explain, explain_many, export and evaluate: any value for any of them."""

from __future__ import annotations

import inspect
from typing import Any

from fuzzing.cases import NASTY, Place, case, judge_result

AREA = "parameters"


def drawn(place: Place, names: list[str], most: int = 2) -> dict[str, Any]:
    """A few of these parameters with any values."""
    chosen = place.rng.sample(names, min(len(names), place.rng.randint(1, most)))
    return {name: place.rng.choice(NASTY) for name in chosen}


@case(AREA, 2)
def load(place: Place) -> None:
    import sise_ort

    given = drawn(place, [p for p in inspect.signature(sise_ort.load).parameters if p != "progress"])
    bundle = given.pop("bundle", place.samples / "tiny.sise")
    with sise_ort.load(bundle, **{"provider": "cpu", **given}) as explainer:
        judge_result(explainer.explain(place.samples / "pictures" / "strip.png"))


@case(AREA, 2)
def method(place: Place) -> None:
    """A method's own parameters; large and small numbers that would take hours are refused or bounded."""
    from sise_ort.runtime.methods import METHODS

    name = place.rng.choice(list(METHODS))
    given = drawn(place, list(METHODS[name].defaults()) or ["nothing"])
    for most in ("masks", "steps", "samples", "iterations"):
        given.setdefault(most, 8) if most in METHODS[name].defaults() else None
    judge_result(place.explainer().explain(place.samples / "pictures" / "strip.png", method=name, **given))


@case(AREA, 2)
def explain(place: Place) -> None:
    given = drawn(
        place,
        [
            "target",
            "mu",
            "method",
            "color",
            "deadline",
            "passes",
            "tolerance",
            "seed",
            "nothing",
            "target",
            "target",
        ],
    )
    judge_result(place.explainer(place.rng.choice(("tiny", "sigmoid"))).explain(place.picture(), **given))


@case(AREA, 1)
def explain_many(place: Place) -> None:
    from sise_ort import FrameError

    given = drawn(place, ["frames", "target", "mu", "method", "errors", "color", "passes", "deadline"])
    frames = given.pop("frames", [place.picture(), place.picture()])
    for count, one in enumerate(place.explainer().explain_many(frames, **given)):
        if not isinstance(one, FrameError):
            judge_result(one)
        if count > 5:
            break


@case(AREA, 3)
def export(place: Place) -> None:
    import sise_ort
    from sise_ort.exporter import export_bundle

    names = [
        p
        for p in inspect.signature(export_bundle).parameters
        if p not in ("report", "bundle", "source", "weights", "calibration", "options")
    ]
    known = [
        "classes", "normalize", "mean", "std", "color", "input_size", "fit", "labels", "hidden", "head", "layers", "output",
        "frame_dtype", "graphs", "precision", "least_correlation", "force", "nothing",
    ]  # fmt: skip
    given = drawn(place, sorted({*names, *known}))
    if not {"mean", "std"} & given.keys():
        given.setdefault("normalize", "tf")
    place.freeze()
    sise_ort.export(place.samples / "tiny.onnx", place.out / "m.sise", **given)
    with sise_ort.load(place.out / "m.sise", "cpu", batch_size=4) as explainer:
        judge_result(explainer.explain(place.picture()))


@case(AREA, 1)
def source(place: Place) -> None:
    """Anything in the place of a model or a bundle."""
    import sise_ort

    place.freeze()
    value = place.rng.choice(NASTY)
    if place.rng.random() < 0.5:
        sise_ort.export(value, place.out / "m.sise", normalize="tf")
    else:
        sise_ort.load(value, "cpu").close()


@case(AREA, 1)
def save(place: Place) -> None:
    result = place.explainer().explain(place.samples / "pictures" / "strip.png")
    stem = place.rng.choice(NASTY)
    result.save(place.out, stem)


@case(AREA, 1)
def plan(place: Place) -> None:
    from sise_ort.datasets import open_dataset
    from sise_ort.runtime.evaluation import Plan, evaluate
    from sise_ort.runtime.evaluation.plan import variants

    given = drawn(place, ["metrics", "steps", "explain", "class_map", "provider", "batch_size", "gallery"])
    mus = place.rng.choice(([0.3], [0.3], [0.9, 0.9], [place.rng.choice(NASTY)]))
    made = Plan(
        bundle=str(place.samples / "tiny.sise"),
        variants=variants(["sise"], mus, {}),
        **{"provider": "cpu", "steps": 4, **given},
    )
    data = open_dataset("folder", str(place.samples / "dataset"))
    evaluate(
        made,
        data,
        place.out / "evaluation",
        limit=place.rng.choice((1, 2, *NASTY)) if place.rng.random() < 0.3 else 1,
    )


@case(AREA, 1)
def dataset(place: Place) -> None:
    from sise_ort.datasets import open_dataset

    kind = place.rng.choice(("folder", "voc", "coco", "severstal", "imagenet", place.rng.choice(NASTY)))
    path = place.rng.choice(
        (place.samples / "dataset", place.samples, place.samples / "tiny.onnx", place.rng.choice(NASTY))
    )
    open_dataset(
        kind, path, **(drawn(place, ["split", "nothing", "annotations"]) if place.rng.random() < 0.3 else {})
    )
