"""What to explain: from an index, a label or words to a question about one class, and back to its name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from sise_ort.bundle import Manifest
from sise_ort.errors import TargetError, option, shown
from sise_ort.readouts import Question

Target = None | int | str
ABSENT = "not:"
POSITIVE = "positive"
MOST_QUESTIONS = 1000
"""Classes that may be asked for at once."""
LONGEST_LABEL = 200
"""Characters of an unknown label that are compared with the known ones."""
INDEX = option("target_index")


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
            raise TargetError(
                f"target {shown(target)} is out of range: the network has classes 0 to {classes - 1}"
            )
        return Question.of_class(int(target))
    if not isinstance(target, str):
        raise TargetError(
            f"target is {shown(target)}; an index, a label, None or a sequence of these is needed"
        )
    absent = target.startswith(ABSENT) and target not in labels
    label = target[len(ABSENT) :] if absent else target
    if absent:
        manifest.head.require_absence(target)
    places = [i for i, name in enumerate(labels) if name == label]
    if (
        not places
        and absent
        and not labels
        and label.isdecimal()
        and len(label) < 10
        and int(label) < classes
    ):
        places = [int(label)]
    if len(places) == 1:
        return Question.of_class(places[0], absent=absent)
    if len(places) > 1:
        raise TargetError(f"label {shown(label)} names the classes {places}: pass the index ({INDEX})")
    if not labels:
        raise TargetError(
            f"label {shown(label)} is unknown: the bundle has no labels; pass an index ({INDEX}), or export "
            f"it again with {option('labels')} the file of names"
        )
    close = difflib.get_close_matches(label[:LONGEST_LABEL], labels, n=3)
    hint = f"; did you mean {', '.join(map(shown, close))}?" if close else f"; there are {len(labels)} labels"
    raise TargetError(f"there is no label {shown(label)}{hint}")


def questions(manifest: Manifest, target: Target | Sequence[Target]) -> tuple[list[Question], bool]:
    """The questions that one target or a sequence of them means.

    Returns
    -------
    list of Question
        In order.
    bool
        Whether a sequence was given, so that the answer is a list.

    Raises
    ------
    TargetError
        As `question`; or the sequence is empty or too long.
    """
    if isinstance(target, np.ndarray) and target.ndim == 0:
        target = target.item()
    if isinstance(target, (str, bytes, bytearray)) or not isinstance(
        target, (Sequence, np.ndarray, set, frozenset)
    ):
        return [question(manifest, target)], False  # type: ignore[arg-type]
    if not len(target):
        raise TargetError("target is an empty sequence")
    if len(target) > MOST_QUESTIONS:
        raise TargetError(
            f"target asks for {len(target)} classes at once; at most {MOST_QUESTIONS} are explained"
        )
    return [question(manifest, t) for t in target], True
