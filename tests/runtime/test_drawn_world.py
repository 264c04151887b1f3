"""A world whose truth is known: the heat map of one object lies on it and not on the other, unless the weights are shuffled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import drawn_world as world
import numpy as np
import pytest

import sise_ort
from sise_ort.errors import NotSeenError
from sise_ort.targets import Detection, RatherThan, Region

AROUND = 8
"""Pixels around an object's box that count as it."""
ENOUGH = 0.8
NETWORKS: dict[str, tuple[Callable[[], Any], int, tuple[str, ...]]] = {  # with steps of training and labels
    "classes": (world.Namer, 150, world.NAMES),
    "segmentation": (world.Outliner, 100, ("background", *world.NAMES)),
    "detection": (world.Finder, 220, world.NAMES),
}
QUESTIONS: dict[str, tuple[str, Callable[[world.Drawn, int], Any]]] = {
    "class": ("classes", lambda drawn, kind: world.NAMES[kind]),
    "rather than": ("classes", lambda drawn, kind: RatherThan(world.NAMES[kind], world.NAMES[1 - kind])),
    "region": ("segmentation", lambda drawn, kind: Region(world.NAMES[kind])),
    "region in a mask": (
        "segmentation", lambda drawn, kind: Region(world.NAMES[kind], mask=drawn.masks[kind])
    ),
    "detection": ("detection", lambda drawn, kind: Detection(world.NAMES[kind], drawn.boxes[kind])),
    "surest detection": ("detection", lambda drawn, kind: world.NAMES[kind]),
}  # fmt: skip


@pytest.fixture(scope="module")
def explainers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], sise_ort.Explainer]:
    """Of a task's trained network, or of the same with shuffled weights."""
    folder: Path = tmp_path_factory.mktemp("world")
    found: dict[tuple[str, bool], sise_ort.Explainer] = {}

    def get(task: str, shuffled: bool) -> sise_ort.Explainer:
        if (task, shuffled) not in found:
            build, steps, labels = NETWORKS[task]
            net = world.trained(build(), steps)
            for mixed in (False, True):
                path = folder / f"{task}-{mixed}.sise"
                sise_ort.export(
                    world.shuffled(net) if mixed else net, path, normalize="tf", input_size=world.SIDE, task=task,
                    labels=labels,
                )  # fmt: skip
                found[task, mixed] = sise_ort.load(path, provider="cpu")
        return found[task, shuffled]

    return get


def inside(heatmap: Any, box: Any) -> float:
    x0, y0, x1, y1 = box
    part = heatmap[max(y0 - AROUND, 0) : y1 + AROUND, max(x0 - AROUND, 0) : x1 + AROUND]
    return float(part.sum(dtype=np.float64))


def shares(explainer: sise_ort.Explainer, question: Any, method: str) -> Any:
    """[pictures and objects, 2]: the share of a heat map on its object, and the same of what lies on either object."""
    rng, found = np.random.default_rng(77), []
    for _ in range(5):
        drawn = world.draw(rng)
        for kind in (0, 1):
            try:
                heatmap = explainer.explain(drawn.picture, question(drawn, kind), method=method).heatmap
            except NotSeenError:
                found.append((0.0, 0.0))
                continue
            on_it, on_other = inside(heatmap, drawn.boxes[kind]), inside(heatmap, drawn.boxes[1 - kind])
            found.append((on_it / max(heatmap.sum(), 1e-9), on_it / max(on_it + on_other, 1e-9)))
    return np.array(found)


@pytest.mark.parametrize("name", QUESTIONS)
def test_refine_lies_on_the_object(explainers: Any, name: str) -> None:
    task, question = QUESTIONS[name]
    found = shares(explainers(task, False), question, "refine")
    assert found.min() > ENOUGH
    if name != "region in a mask":  # which says the place itself, whatever the network has learnt
        assert shares(explainers(task, True), question, "refine").mean(0).max() < ENOUGH


@pytest.mark.parametrize("name", QUESTIONS)
def test_sise_lies_on_the_object(explainers: Any, name: str) -> None:
    """Of a detector much of SISE's heat map lies on the background, which all masks show; not on the other object."""
    task, question = QUESTIONS[name]
    measure = 1 if task == "detection" else 0
    found = shares(explainers(task, False), question, "sise")[:, measure]
    control = shares(explainers(task, True), question, "sise")[:, measure]
    assert found.mean() > ENOUGH and found.min() > 0.5
    assert control.mean() < ENOUGH and control.min() < 0.5


def test_the_networks_have_learnt(explainers: Any) -> None:
    """On pictures that they were not trained on."""
    rng = np.random.default_rng(5)
    for _ in range(3):
        drawn = world.draw(rng)
        named = explainers("classes", False).explain(drawn.picture, "positive", method="gradcam")
        assert [r.label for r in named] == list(world.NAMES)
        for kind in (0, 1):
            outlined = explainers("segmentation", False).explain(
                drawn.picture, Region(world.NAMES[kind]), method="gradcam"
            )
            assert outlined.facts["region_share"] == pytest.approx(drawn.masks[kind].mean(), rel=0.15)
        seen = explainers("detection", False).detections(drawn.picture)
        assert {one.label for one in seen} == set(world.NAMES)
        for kind, label in enumerate(world.NAMES):
            surest = next(one for one in seen if one.label == label)
            assert np.abs(np.subtract(surest.box, drawn.boxes[kind])).max() < 8
