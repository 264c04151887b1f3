"""What to explain: from an index, a label or words to a question about one class, and back to its name."""

from __future__ import annotations

import difflib

import numpy as np

from sise_ort.bundle import Manifest
from sise_ort.errors import TargetError
from sise_ort.readouts import Question

Target = None | int | str
ABSENT = "not:"
POSITIVE = "positive"


def question(manifest: Manifest, target: Target) -> Question:
    """The question that a target means; None asks about the top class, which is not known yet.

    Parameters
    ----------
    manifest : Manifest
        The bundle's labels and head.
    target : None, int or str
        An index from 0, a label, or ``not:`` and a label.

    Raises
    ------
    TargetError
        There is no such class, several have the name, or the head does not know an absence.
    """
    classes, labels = manifest.head.classes, manifest.labels
    if target is None:
        return Question.of_class()
    if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
        if not 0 <= target < classes:
            raise TargetError(f"target {target} is out of range: the network has classes 0 to {classes - 1}")
        return Question.of_class(int(target))
    if not isinstance(target, str):
        raise TargetError(f"target is {target!r}; an index, a label, None or a sequence of these is needed")
    absent = target.startswith(ABSENT) and target not in labels
    label = target[len(ABSENT) :] if absent else target
    if absent:
        manifest.head.require_absence(target)
    places = [i for i, name in enumerate(labels) if name == label]
    if not places and absent and not labels and label.isdigit() and int(label) < classes:
        places = [int(label)]
    if len(places) == 1:
        return Question.of_class(places[0], absent=absent)
    if len(places) > 1:
        raise TargetError(f"label '{label}' names the classes {places}: pass the index (--target-index)")
    if not labels:
        raise TargetError(
            f"label '{label}' is unknown: the bundle has no labels (export --labels FILE); pass an index (--target-index)"
        )
    close = difflib.get_close_matches(label, labels, n=3)
    hint = f"; did you mean {', '.join(map(repr, close))}?" if close else f"; there are {len(labels)} labels"
    raise TargetError(f"there is no label '{label}'{hint}")
