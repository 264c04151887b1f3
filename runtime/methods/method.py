"""What a method of explanation is: parameters as fields, questions in, heat maps and their price out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Manifest
from sise_ort.errors import BundleError, FrameError, ParameterError, TargetError, option, shown
from sise_ort.estimate import Estimate
from sise_ort.readouts import Answers, Question
from sise_ort.runtime.methods.call import Call, Forecast, Progress
from sise_ort.runtime.methods.checks import option_of
from sise_ort.verdicts import Verdict

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor

M = TypeVar("M", bound="Method")


def parameter(default: Any, *, symbol: str = "", always: bool = False) -> Any:
    """Declare a parameter of a method: its default, and how tables show it.

    Parameters
    ----------
    default : value
        The default.
    symbol : str
        How papers write the parameter, "" for its name.
    always : bool
        Whether tables say its value even where it is the default.
    """
    return field(default=default, metadata={"symbol": symbol, "always": always})


@dataclass(frozen=True)
class Picture:
    """An uploaded picture with its questions.

    Attributes
    ----------
    image : tensor, [1, H, W, C]
        The frame on the device.
    questions : sequence of Question
        What is asked, at least one.
    seconds : float
        Time spent on it already; a deadline counts it.
    """

    image: Tensor
    questions: Sequence[Question]
    seconds: float = 0.0


@dataclass(frozen=True)
class Attribution:
    """A method's answer to one question.

    Attributes
    ----------
    question : Question
        With its class known.
    heatmap : float32, [H, W]
        In [0, 1].
    notes : tuple of str
        What a user should know.
    facts : mapping
        Numbers that the method reports about itself.
    visualization_maps : float32, [B, H, W], or None
        In [0, 1], of methods that make them.
    mask_counts : tuple of int
        Masks scored for the question, per block; empty for methods without masks.
    verdict : Verdict or None
        Whether the map is to be trusted, where that was checked.
    """

    question: Question
    heatmap: NDArray[np.float32]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    visualization_maps: NDArray[np.float32] | None = None
    mask_counts: tuple[int, ...] = ()
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Attributions:
    """The answers to all questions on one picture, and what they cost together.

    Attributes
    ----------
    answers : list of Attribution
        In the order of the questions.
    whole : Answers
        What the network answers to the whole picture, [K, 1].
    forward_passes, backward_passes : int
        Inputs through the network, padding included; gradients of one score.
    timings : mapping
        Seconds per phase.
    estimate : Estimate or None
        How long it was said to take, where that was known before it was done.
    """

    answers: list[Attribution]
    whole: Answers
    forward_passes: int
    backward_passes: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Method:
    """A way to explain. The fields of a method are its parameters.

    A subclass is a frozen dataclass that checks its fields in ``__post_init__`` and has an `explain`. A field whose default
    is itself a dataclass is a group: users give and read its fields as if they were the method's own.

    Attributes
    ----------
    name, title : str
        As users and as papers write it.
    source : str
        Where it is defined.
    price : str
        What an explanation costs, in words.
    graph : str
        The optional phase of the bundle that it needs, "" for none.
    signed : bool
        Whether it tells a class from its absence.
    default : bool
        Whether it is meant where no method is named; captions and file names leave it out.
    unit : str
        What its steps are, in the plural.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    price: ClassVar[str]
    graph: ClassVar[str] = ""
    signed: ClassVar[bool] = True
    default: ClassVar[bool] = False
    unit: ClassVar[str] = "steps"

    @property
    def foreseeable(self) -> bool:
        """Whether all steps that it reports are done, so that their pace tells how long it takes."""
        return True

    @property
    def shorter(self) -> int:
        """Passes of a budget that would shorten it; 0 where it takes none, or has one."""
        return 0

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        """Answer all questions on one picture.

        Parameters
        ----------
        model : BundleModel
            The bundle's phases.
        image : tensor, [1, H, W, C]
            The uploaded frame.
        questions : sequence of Question
            At least one.
        call : Call
            Progress, and the moment from which a deadline counts.

        Raises
        ------
        FrameError
            The network's answers are not finite.
        ParameterError
            A parameter does not fit the bundle.
        """
        raise NotImplementedError

    def explain_many(
        self, model: BundleModel, pictures: Iterable[Picture], call: Call
    ) -> Iterator[Attributions | FrameError]:
        """Answer for many pictures, in order; a picture that cannot be explained gives its error.

        Pictures are explained one after the other; a method whose pictures can share batches overrides this.
        """
        for picture in pictures:
            try:
                yield self.timed(model, picture.image, picture.questions, call.picture(picture.seconds))
            except FrameError as error:
                yield error

    def timed(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        """Explain, and time the whole where the method reports no times of its own."""
        began = time.perf_counter()
        found = self.explain(model, image, questions, call)
        timings = found.timings or {"explain": time.perf_counter() - began}
        return replace(found, timings=timings, estimate=call.estimate)

    def call(
        self, model: BundleModel, progress: Progress | None = None, started: float | None = None
    ) -> Call:
        """A call whose steps are timed, begun at a moment on `time.perf_counter`'s clock; now where none is given."""
        began = time.perf_counter() if started is None else started
        kind = f"step of {self.label}"
        forecast = Forecast(model.pace, kind, self.unit, self.shorter) if self.foreseeable else None
        return Call(progress, started=began, forecast=forecast)

    def rehearsal(self, model: BundleModel) -> Method:
        """The method with as little work as warms up all that it runs."""
        return self

    @classmethod
    def require(cls, manifest: Manifest, questions: Sequence[Question] = ()) -> None:
        """Check that the bundle and the questions allow the method.

        Raises
        ------
        BundleError
            The bundle lacks the method's graph.
        TargetError
            The method cannot explain an absence.
        """
        if cls.graph and not manifest.has(cls.graph):
            raise BundleError(
                f"method {cls.name} needs {cls.graph}.onnx, which the bundle '{manifest.name}' lacks: export it "
                f"again with {option('graphs', [cls.graph.replace('_', '-')])}"
            )
        if not cls.signed and any(q.absent for q in questions):
            raise TargetError(f"method {cls.name} takes absolute values: it cannot explain a class's absence")

    @classmethod
    def of(cls: type[M], given: Mapping[str, Any]) -> M:
        """The method with some parameters, by name, and the defaults of the others.

        Raises
        ------
        ParameterError
            The method has no such parameter, or a value is out of range.
        """
        known = cls.defaults()
        for name in given:
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise ParameterError(f"method {cls.name} has no parameter {shown(name)}; {has}")
        own: dict[str, Any] = {}
        for f in fields(cls):
            if not is_dataclass(f.default):
                own |= {f.name: given[f.name]} if f.name in given else {}
                continue
            inner = {part.name: given[part.name] for part in fields(f.default) if part.name in given}
            own |= {f.name: replace(f.default, **inner)} if inner else {}  # type: ignore[type-var]
        return cls(**own)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """All parameters with their defaults, those of groups among the others."""
        found: dict[str, Any] = {}
        for f in fields(cls):
            group = fields(f.default) if is_dataclass(f.default) else (f,)
            found |= {part.name: part.default for part in group}
        return found

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters with their values, those of groups among the others."""
        found: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if is_dataclass(value):
                found |= {part.name: getattr(value, part.name) for part in fields(value)}
            else:
                found[f.name] = value
        return found

    @classmethod
    def parse(cls, name: str, text: str) -> Any:
        """A parameter's value from text, as its annotation asks.

        Raises
        ------
        ParameterError
            The method has no such parameter, or the text is no such value.
        """
        if name not in cls.defaults():
            cls.of({name: None})  # says which there are
        hint = cls._hints()[name]
        kinds = get_args(hint) or (hint,)
        if type(None) in kinds and text.lower() == "none":
            return None
        value: Any = text
        try:
            if get_origin(hint) is tuple:
                value = tuple(float(part) for part in text.split(","))
            elif int in kinds or float in kinds:
                value = int(text) if int in kinds else float(text)
        except ValueError as error:
            if str not in kinds:
                kind = "a whole number" if int in kinds else "a number"
                raise ParameterError(
                    f"method {cls.name}: {option_of(name)} is {shown(text)}, not {kind}"
                ) from error
        cls.of({name: value})  # whether it is in range
        return value

    @classmethod
    def _hints(cls) -> dict[str, Any]:
        found = get_type_hints(cls)
        for f in fields(cls):
            if is_dataclass(f.default):
                found |= get_type_hints(type(f.default))
        return found

    @property
    def label(self) -> str:
        """Name and the parameters that differ from their defaults, as tables name a variant: "rise masks=4000"."""
        return " ".join([self.name, *(f"{name}={words}" for name, words in self._said())])

    @property
    def heading(self) -> str:
        """Title and the same parameters, as papers write them: "SISE, μ = 0.3"."""
        symbols = {f.name: f.metadata.get("symbol") for f in fields(self)}
        return ", ".join(
            [self.title, *(f"{symbols.get(name) or name} = {words}" for name, words in self._said())]
        )

    def _said(self) -> list[tuple[str, str]]:
        """Parameters that tables say, in words."""
        always = {f.name for f in fields(self) if f.metadata.get("always")}
        defaults = self.defaults()
        return [
            (name, _words(value))
            for name, value in self.parameters.items()
            if name in always or value != defaults[name]
        ]

    def _set(self, **values: Any) -> None:
        """Put checked values in place of those given, in ``__post_init__``."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _words(value: Any) -> str:
    """A parameter's value; different values have different words."""
    if isinstance(value, tuple):
        return ",".join(map(_words, value))
    return repr(float(value)).removesuffix(".0") if isinstance(value, (float, np.floating)) else str(value)


def require_finite(*arrays: NDArray[Any]) -> None:
    """Raise FrameError where the network's answers to a frame are not finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise FrameError("the network answers this frame with scores or gradients that are NaN or infinite")
