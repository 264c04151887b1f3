"""What every method of explanation takes and gives: questions in, heat maps and their price out."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.errors import BundleError, FrameError, ParameterError, TargetError
from sise_ort.formulas.confidence import absence
from sise_ort.formulas.numpy_ops import NumpyOps
from sise_ort.formulas.selection import check_mu

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor

LONGEST_DEADLINE = 24 * 60 * 60
"""Seconds that may be asked for at most."""

Progress = Callable[[int, int], None]
"""Called with (done, in all)."""


@dataclass(frozen=True)
class Question:
    """The class to explain; a negative index asks for the top class, `absent` for the evidence against the class
    (sigmoid heads)."""

    index: int
    absent: bool = False

    @property
    def sign(self) -> float:
        """What the class score counts in the answer: -1 where its absence is asked for."""
        return -1.0 if self.absent else 1.0

    def known(self, scores: NDArray[np.floating]) -> Question:
        """The question with the top class of scores [classes] in place of a negative index."""
        return replace(self, index=int(np.argmax(scores))) if self.index < 0 else self


@dataclass(frozen=True)
class Attribution:
    """A method's answer to one question.

    question : with its class known. heatmap : float32 [H, W] in [0, 1]. notes : what a user should know.
    facts : numbers that the method reports about itself. visualization_maps : float32 [B, H, W] in [0, 1] and
    mask_counts : masks scored per block, both empty where the method has none.
    """

    question: Question
    heatmap: NDArray[np.float32]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    visualization_maps: NDArray[np.float32] | None = None
    mask_counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Attributions:
    """The answers to all questions on one picture, and what they cost together.

    scores : float32 [classes], of the whole picture. forward_passes : inputs through the network, padding included;
    backward_passes : gradients of one class score. timings : seconds per phase.
    """

    answers: list[Attribution]
    scores: NDArray[np.float32]
    forward_passes: int
    backward_passes: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A way to explain.

    name : as users write it. title : as papers write it. source : where it is defined.
    run : ``(model, image, questions, progress, *, parameters…) -> Attributions``.
    run_many : ``(model, pictures, progress, *, parameters…) -> iterator of Attributions or FrameError``, for pictures that share
    their batches; each is an image with its questions. None takes one after the other by `run`.
    graph : the optional phase of the bundle that it needs, "" for none.
    signed : whether it tells a class from its absence.
    """

    name: str
    title: str
    source: str
    run: Callable[..., Attributions]
    graph: str = ""
    signed: bool = True
    run_many: Callable[..., Iterator[Attributions | FrameError]] | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """The method's parameters with their default values."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters: those given, and the defaults of the others.

        Raises
        ------
        ParameterError : the method has no such parameter.
        """
        unknown = [name for name in given if name not in self.defaults]
        if unknown:
            has = f"it has {', '.join(self.defaults)}" if self.defaults else "it has none"
            raise ParameterError(f"method {self.name} has no parameter '{unknown[0]}'; {has}")
        return {**self.defaults, **given}

    def parse(self, name: str, text: str) -> Any:
        """A parameter's value from text, as its annotation asks."""
        self.complete({name: None})  # refuses a name that is not known
        hint = get_type_hints(self.run)[name]
        kinds = get_args(hint) or (hint,)
        if type(None) in kinds and text.lower() == "none":
            return None
        try:
            if get_origin(hint) is tuple:
                return tuple(float(part) for part in text.split(","))
            if name == "mu":
                return check_mu(text)
            if str in kinds:
                return text
            return int(text) if int in kinds else float(text)
        except ParameterError:
            raise
        except ValueError as error:
            kind = "a whole number" if int in kinds else "a number"
            raise ParameterError(f"method {self.name}: {name} is '{text}', not {kind}") from error

    def explain_many(
        self,
        model: BundleModel,
        pictures: Iterable[tuple[Tensor, Sequence[Question]]],
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Iterator[Attributions | FrameError]:
        """The answers for many pictures, in order; a picture that cannot be explained gives its error."""
        if self.run_many is not None:
            yield from self.run_many(model, pictures, progress, **parameters)
            return
        for image, questions in pictures:
            try:
                yield self.timed(model, image, questions, progress, **parameters)
            except FrameError as error:
                yield error

    def timed(
        self,
        model: BundleModel,
        image: Tensor,
        questions: Sequence[Question],
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Attributions:
        """The answers for one picture, with the seconds of all phases, as "explain" where the method measures none."""
        began = time.perf_counter()
        found = self.run(model, image, questions, progress, **parameters)
        return found if found.timings else replace(found, timings={"explain": time.perf_counter() - began})

    def require(self, manifest: Manifest, questions: Sequence[Question]) -> None:
        """Check that the bundle and the questions allow the method.

        Raises
        ------
        BundleError : the bundle lacks its graph. TargetError : it cannot explain an absence.
        """
        if self.graph and not manifest.has(self.graph):
            raise BundleError(
                f"method {self.name} needs {self.graph}.onnx, which the bundle '{manifest.name}' lacks: export it "
                f"again with --with {self.graph.replace('_', '-')}"
            )
        if not self.signed and any(q.absent for q in questions):
            raise TargetError(
                f"method {self.name} takes absolute values: it cannot explain a class's absence"
            )


def confidences(
    scores: NDArray[np.floating], confidence: NDArray[np.floating], questions: Sequence[Question]
) -> NDArray[np.float64]:
    """Ψ of each question, [K, n], from scores and confidence [n, classes].

    The confidence of an absent class, 1 - sigmoid(z), is taken as sigmoid(-z), exact where the class is certain.
    """
    rows = []
    for question in questions:
        if question.absent:
            rows.append(absence(NumpyOps(), scores[:, question.index].astype(np.float64)))
        else:
            rows.append(confidence[:, question.index].astype(np.float64))
    return np.stack(rows)


def require_finite(*arrays: NDArray[Any]) -> None:
    """Raise FrameError where the network's answers to a frame are not finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise FrameError("the network answers this frame with scores or gradients that are NaN or infinite")


def whole_number(name: str, value: Any, least: int = 1, most: int = 10**6) -> int:
    """A parameter's value that must be a whole number from `least` to `most`.

    Raises
    ------
    ParameterError : it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise ParameterError(f"{name} is {shown(value)}; it must be a whole number from {least} to {most}")
    return int(value)


def share(name: str, value: Any) -> float:
    """A parameter's value that must lie strictly between 0 and 1.

    Raises
    ------
    ParameterError : it does not.
    """
    if not _is_number(value) or not 0 < value < 1:
        raise ParameterError(f"{name} is {shown(value)}; it must be a number between 0 and 1")
    return float(value)


def seconds(name: str, value: Any) -> float:
    """A parameter's value that must be a number of seconds over 0, at most a day.

    Raises
    ------
    ParameterError : it is none.
    """
    if not _is_number(value) or not 0 < value <= LONGEST_DEADLINE:
        raise ParameterError(
            f"{name} is {shown(value)}; it must be a number of seconds over 0, at most {LONGEST_DEADLINE}"
        )
    return float(value)


def shown(value: Any) -> str:
    """A value as an error shows it; whole numbers of thousands of digits, which Python refuses to write, by their size."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
