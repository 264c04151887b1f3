"""The public face of the runtime: load a bundle once, explain pictures with it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import Bundle, Manifest
from sise_ort.errors import BundleError, FrameError, ParameterError, shown
from sise_ort.explanation import Explanation
from sise_ort.fitting import Placement
from sise_ort.levels import Range, check_levels
from sise_ort.readouts import Question
from sise_ort.runtime.answers import example
from sise_ort.runtime.asking import Asking, Found, question_of, questions_of
from sise_ort.runtime.asking.detections import detections
from sise_ort.runtime.checking import Checks, with_verdicts
from sise_ort.runtime.limits import Limits
from sise_ort.runtime.many import Wanted, explained
from sise_ort.runtime.methods.call import Call, Progress
from sise_ort.runtime.methods.method import Method
from sise_ort.runtime.methods.registry import DEFAULT, METHODS, method_of
from sise_ort.runtime.model import BundleModel
from sise_ort.runtime.preparing import Asked, Prepared, ahead, prepare
from sise_ort.runtime.providers import Tensor
from sise_ort.runtime.results import explanations, loading_notes
from sise_ort.targets import Target


def _load_again(arguments: tuple[Any, ...], digest: str) -> Explainer:
    """Open a pickled explainer's bundle.

    Raises
    ------
    BundleError : the folder is gone, or holds another bundle by now.
    """
    explainer = Explainer(*arguments)
    if explainer.model.digest != digest:
        explainer.close()
        raise BundleError(
            f"the bundle '{arguments[0]}' has changed since its explainer was pickled: load it again there"
        )
    return explainer


class Explainer:
    """Explains pictures with one bundle; make it with `sise_ort.load`.

    Attributes
    ----------
    manifest : Manifest
        What the bundle says about itself.
    provider : str
        The execution provider in use, such as "cpu", "cuda" or "openvino:GPU".
    notes : tuple of str
        What was chosen or assumed when the bundle was loaded; they stand in every result.

    Notes
    -----
    Several threads may use one explainer. On a CPU each call gives, bit for bit, what it gives alone; a budget with a
    deadline depends on the time that is left and is the exception. Runs of the network take turns, first come, first
    served, one batch at a time, so that a short call waits for one batch of each other call at most. A deadline counts
    from its own call on, waiting included.

    `close` gives sessions and memory back; an explainer is also a context manager, ``with sise_ort.load(…) as explainer``.
    Pickling keeps the arguments of `sise_ort.load`: the other process loads the same bundle again, and refuses a folder
    whose bundle has changed.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        provider: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
        provider_options: Mapping[str, object] | None = None,
        limits: Limits | None = None,
        trusted: bool = True,
        precision: str = "auto",
    ) -> None:
        options = (provider, batch_size, threads, provider_options, limits, trusted, precision)
        self._model = BundleModel(bundle, *options)
        self._arguments = (str(self._model.folder.absolute()), *options)
        self.manifest: Manifest = self._model.manifest
        self.provider = self._model.provider.name
        self.notes = loading_notes(self._model)

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give sessions and memory back, after the run of another thread that is in progress.

        A second call does nothing. Calls that are not finished, and all later ones, raise ClosedError.
        """
        self._model.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (self._arguments, self._model.digest)

    @property
    def model(self) -> BundleModel:
        """The bundle's phases, for methods of your own."""
        return self._model

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that this bundle has the graphs for."""
        return tuple(m.name for m in METHODS.values() if not m.graph or self.manifest.has(m.graph))

    @overload
    def explain(
        self,
        frame: Any,
        target: Target = None,
        *,
        method: str | Method = DEFAULT,
        color: str = "rgb",
        levels: Range = None,
        progress: Progress | None = None,
        checks: bool | Checks = False,
        **parameters: Any,
    ) -> Explanation: ...
    @overload
    def explain(
        self,
        frame: Any,
        target: Sequence[Target],
        *,
        method: str | Method = DEFAULT,
        color: str = "rgb",
        levels: Range = None,
        progress: Progress | None = None,
        checks: bool | Checks = False,
        **parameters: Any,
    ) -> list[Explanation]: ...
    def explain(
        self,
        frame: Any,
        target: Target | Sequence[Target] = None,
        *,
        method: str | Method = DEFAULT,
        color: str = "rgb",
        levels: Range = None,
        progress: Progress | None = None,
        checks: bool | Checks = False,
        **parameters: Any,
    ) -> Explanation | list[Explanation]:
        """Explain a decision, by SISE or another method.

        Parameters
        ----------
        frame : path, bytes, file, PIL image or array, [H0, W0, 3] or [H0, W0]
            Picture file, its bytes, an open binary file, a PIL image; or an array, uint8 (float32 where the bundle was
            exported with ``frame_dtype="float32"``), values 0 to 255, any size. A frame of exactly the network's size is
            taken as it is, without the crop or border of the bundle's fit.
        target : None, int, str, object or sequence of these
            None (the top class; the class at most places, the surest detection, all values), an int (index of a class), a
            str (its label), ``"not:LABEL"`` (its absence; sigmoid heads), ``"positive"`` (every class over 0.5; sigmoid
            heads; every detection); or an object: ``RatherThan("crack", "scratch")``, ``Region("patch", box=…)``,
            ``Detection(0)``, ``LikenessTo(picture)``, ``Value(3)`` (docs/readouts.md).
        method : str or Method
            A name of `sise_ort.runtime.methods.METHODS`, SISE by default; or an object with its parameters, such as
            ``Sise(mu=0.3, budget=Budget(passes=64))`` or ``Rise(masks=4000)``.
        color : str
            Channel order of an array, "rgb" or "bgr".
        levels : number or pair of numbers
            The pixel value of white where it is not 255, such as 4095 for 12 bits, or the values of black and white, such
            as ``(0, 1)`` for floats; see `sise_ort.frame.read`.
        progress : callable or None
            Called with (steps done, steps in all); `sise_ort.runtime.methods.Progress` says how it hears the time left.
        checks : bool or Checks
            True checks whether the map is to be trusted, for a few further passes, and sets ``verdict`` of the result
            (docs/trust.md); ``Checks(part=mask)`` also says where the part is in the frame.
        parameters : keywords
            Those of the method by name, such as ``mu=0.3``, ``passes=64``, ``deadline=0.2`` (seconds) or
            ``tolerance=0.05`` for SISE, ``method="rise", masks=4000, seed=1`` for RISE (docs/methods.md).

        Returns
        -------
        Explanation or list of Explanation
            A list for a sequence or "positive" (empty if no class is over 0.5).

        Raises
        ------
        FrameError
            The frame cannot be read or explained.
        TargetError
            There is no such class, or the head cannot answer the question.
        ParameterError
            There is no such method or parameter, or a value is out of range.
        BundleError
            The bundle lacks the method's graph; says which export option adds it.
        ClosedError
            The explainer is closed.
        """
        started = time.perf_counter()
        self._model.require_open()
        wanted = Checks.of(checks)
        chosen = method_of(method, parameters)
        asked = self._ask(prepare(self.manifest, frame, color, levels), target)
        if not asked.questions:
            return []
        chosen.require(self.manifest, asked.questions)
        call = chosen.call(self._model, progress, started)
        found = chosen.timed(self._model, asked.image, asked.questions, call)
        if wanted is not None:
            found = with_verdicts(self._model, asked, found, wanted)
        results = explanations(self._model, asked, chosen, found, call.elapsed(), self.notes)
        return results if asked.several else results[0]

    def warm_up(self, method: str | Method = DEFAULT) -> None:
        """Run all that a method needs a few times, so that the first deadline can be kept, too.

        The first runs of a session are slower than all others, and how long a mask takes is not known before them.

        Parameters
        ----------
        method : str or Method
            As for `explain`.
        """
        spec, asked = self.manifest.input, [example(self.manifest)]
        frame = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, spec.channels))
        rehearsal = method_of(method, {}).rehearsal(self._model)
        rehearsal.require(self.manifest, asked)
        for _ in range(3):
            rehearsal.timed(self._model, self._model.upload(frame.astype(spec.frame_dtype)), asked, Call())

    def explain_many(
        self,
        frames: Iterable[Any],
        target: Target | Sequence[Target] = None,
        *,
        method: str | Method = DEFAULT,
        color: str = "rgb",
        levels: Range = None,
        errors: str = "raise",
        progress: Progress | None = None,
        checks: bool | Checks = False,
        **parameters: Any,
    ) -> Iterator[Explanation | list[Explanation] | FrameError]:
        """Explain many pictures, in their order; masks of several pictures share batches.

        The next picture is read while the present one is explained. Without a budget, SISE fills every batch, across
        blocks and pictures, so that a picture with few masks does not pay for a batch of its own; its result comes when
        its last mask is scored, which may be after some of the next picture's.

        Parameters
        ----------
        frames : iterable
            Pictures as for `explain`; they are taken one by one, so that a generator may be endless.
        target, method, color, levels, checks, parameters
            As for `explain`, for all of them.
        errors : str
            "raise" stops at a picture that cannot be read or explained; "return" gives its FrameError in its place.
        progress : callable or None
            As for `explain`, of a picture; the next one may begin before it is done.

        Yields
        ------
        Explanation, list of Explanation, or FrameError
            What `explain` returns, per picture. ``timings["total"]`` is what the picture itself took, its share of
            batches that it has in common with others included.

        Raises
        ------
        FrameError, TargetError, ParameterError, BundleError, ClosedError
            As `explain`.
        """
        if not isinstance(errors, str) or errors not in ("raise", "return"):
            raise ParameterError(f'errors is {errors!r}; it must be "raise" or "return"')
        if not isinstance(frames, Iterable):
            raise ParameterError(
                f"frames is {shown(frames)}; a sequence or generator of pictures is needed (explain takes one)"
            )
        self._model.require_open()
        chosen = method_of(method, parameters)
        check_levels(levels)
        prepared = ahead(lambda frame: prepare(self.manifest, frame, color, levels), frames)
        call = chosen.call(self._model, progress)
        wanted = Wanted(lambda frame: self._ask(frame, target), chosen, Checks.of(checks), errors == "return")
        return explained(self._model, prepared, wanted, call, self.notes)

    def _ask(self, prepared: Prepared, target: Target | Sequence[Target]) -> Asked:
        """Upload a picture, and find the questions about it that a target means."""
        began = time.perf_counter()
        asking = Asking(self._model, prepared)
        found, several = questions_of(asking, target)
        return Asked(prepared, asking.image, found, several, asking.passes, time.perf_counter() - began)

    def detections(self, frame: Any, *, color: str = "rgb", levels: Range = None) -> list[Found]:
        """What a detector sees in a picture: what `Detection(number)` explains.

        Parameters
        ----------
        frame, color, levels
            As for `explain`.

        Returns
        -------
        list of Found
            Those with a confidence of 0.25 or more in the order of it, after non-maximum suppression of boxes of one class
            that overlap by an IoU over 0.5; boxes are in pixels of the frame.

        Raises
        ------
        FrameError, TargetError
            The frame cannot be read; the bundle is no detector.
        """
        self._model.require_open()
        return detections(Asking(self._model, prepare(self.manifest, frame, color, levels)))

    def prepare(
        self, frame: Any, *, color: str = "rgb", levels: Range = None
    ) -> tuple[NDArray[Any], Placement]:
        """Bring a frame to the network's size, and say how it lies on the original.

        Parameters
        ----------
        frame, color, levels
            As for `explain`.

        Returns
        -------
        frame : array, [H, W, C]
            The frame at the network's size.
        placement : Placement
            Where it lies on the original, for `sise_ort.fitting.place_back`.

        Raises
        ------
        FrameError
            The frame cannot be read.
        """
        prepared = prepare(self.manifest, frame, color, levels)
        return prepared.fitted, prepared.placement

    def ask(self, frame: Any, target: Target = None) -> tuple[Question, Tensor]:
        """What a target means for a picture, and the uploaded picture, for methods and measures of your own.

        Parameters
        ----------
        frame, target
            As for `explain`, with one target.

        Returns
        -------
        Question, tensor
            The class of the question may still be open (`BundleModel.settle`); the picture is [1, H, W, C], on the device.
        """
        self._model.require_open()
        asking = Asking(self._model, prepare(self.manifest, frame))
        return question_of(asking, target), asking.image
