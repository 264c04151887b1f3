"""Questions about the likeness to a reference picture."""

from __future__ import annotations

from typing import Any

from sise_ort.errors import TargetError
from sise_ort.readouts import Question
from sise_ort.runtime.asking.picture import Asking
from sise_ort.runtime.preparing import prepare
from sise_ort.targets import LikenessTo


def ask(asking: Asking, target: Any) -> Question:
    """The question how like the picture is to another one."""
    if not isinstance(target, LikenessTo):
        raise TargetError(
            "this network gives an embedding: what is explained is its likeness to a reference picture, LikenessTo(picture); --like PICTURE on the command line"
        )
    prepared = prepare(asking.manifest, target.frame, target.color)
    asking.passes += 1
    reference = asking.model.whole(asking.model.upload(prepared.fitted))["scores"]
    name = prepared.frame.source or "a reference picture"
    return Question(tensors={"reference": reference}, phrase=f"likeness to {name}")
