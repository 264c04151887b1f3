"""A bundle's sessions: each phase of the method as one call, with tensors left where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import READOUT, Bundle, Manifest, bundle_digest, open_bundle
from sise_ort.errors import OutOfMemoryError
from sise_ort.readouts import Answers, Question, as_questions
from sise_ort.runtime.answers import (
    from_outputs,
    known_by,
    names_of_answer,
    question_tensors,
    read_on_device,
)
from sise_ort.runtime.batch_sizes import measured_batch_size
from sise_ort.runtime.batching import Batching, portions
from sise_ort.runtime.extracted import Extracted, Pick, Scored, Sketch, require_finite, require_unit_range
from sise_ort.runtime.fastest import chosen
from sise_ort.runtime.fitting import give_memory_back, require_fitting
from sise_ort.runtime.limits import Limits, checked
from sise_ort.runtime.pace import Pace
from sise_ort.runtime.phases import Sessions
from sise_ort.runtime.providers import Tensor, version
from sise_ort.runtime.trial import require_harmless


class BundleModel:
    """The phases of one bundle on one provider.

    Parameters
    ----------
    bundle : str, Path or Bundle
        The bundle's folder, which is read once, or a bundle that was read.
    provider : str
        As for `sise_ort.load`.
    batch_size : int or None
        Network inputs scored at once; None takes what `sise-ort bench` has measured here, else chooses by the picture's
        size. 1 where the bundle takes no more.
    threads : int or None
        CPU threads per session; None takes all cores.
    provider_options : mapping or None
        Options of onnxruntime's provider for `predict`; see `Provider`.
    limits : Limits or None
        What loading and each run may take; None takes the defaults.
    trusted : bool
        False opens and runs the bundle once in a process of its own first, whose memory and time are limited.
    precision : str
        "auto", "fp32", "bf16" or "fp16": what `predict` computes in.

    Attributes
    ----------
    folder : Path
        Where the bundle was read; nothing is read from it again.
    manifest : Manifest
        The bundle's facts.
    digest : str
        SHA-256 of the whole bundle as it was loaded.
    sessions : Sessions
        Its graphs.

    Raises
    ------
    BundleError
        The bundle is missing, damaged or harmful.
    ProviderError, ParameterError
        The provider is not really in use, or a value is out of range.
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
        limits = checked(limits, trusted)
        read = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, limits.bytes)
        if not trusted:
            require_harmless(read, limits)
        self.folder = read.folder
        self.manifest: Manifest = read.manifest
        self.provider = chosen(self.manifest, provider, threads, provider_options, limits, precision)
        self.provider.require_precision_of(self.manifest, precision)
        self.digest = bundle_digest(self.manifest)
        spec = self.manifest.input
        known = measured_batch_size(self.manifest, self.provider) if batch_size is None else None
        require_fitting(self.manifest, batch_size)
        default = max(1, self.provider.spec.batch_pixels // (spec.height * spec.width))
        self.batch_size_is = "given" if batch_size else "measured" if known else "default"
        self.sessions = Sessions(read, self.provider)
        self.turns, self._run = self.sessions.turns, self.sessions.run
        self.require_open = self.sessions.require_open
        self._batching = Batching(self.manifest, self.provider, batch_size or known or default)
        self.pace = Pace()
        self.notes: tuple[str, ...] = ()
        give_memory_back()

    @property
    def batch_size(self) -> int:
        """Number of masks scored at once."""
        return self._batching.size

    def resize(self, batch_size: int) -> None:
        """Change how many masks are scored at once; 1 where the bundle takes no more."""

        def work() -> None:
            self.require_open()
            self._batching.resize(batch_size)

        self.turns.take(work)

    def close(self) -> None:
        """Give sessions and tensors back, after the run in progress; every later call raises ClosedError."""

        def work() -> None:
            if self.sessions.close():
                self._batching.free()

        self.turns.take(work)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.manifest.layers)

    def upload(self, frame: NDArray[Any]) -> Tensor:
        """A frame [H, W, C] of network size as the tensor [1, H, W, C] that the graphs take."""
        return self.provider.tensor(frame[None])

    def extract(self, image: Tensor, questions: Sequence[Question | int], contrast: float) -> Extracted:
        """Run the network once forward, and once backward per question.

        Parameters
        ----------
        image : tensor, [1, H, W, C]
            The uploaded frame.
        questions : sequence of Question or int
            What is asked, or indices of classes; negative for the top class.
        contrast : float
            0 for the gradient of the score, `Manifest.contrast` for that of Ψ (docs/method.md, Selection).
        """
        blocks, asked = range(1, self.blocks + 1), as_questions(questions)
        small = [
            *names_of_answer(self.manifest),
            *(f"{name}_{b}" for name in ("alpha", "span") for b in blocks),
        ]
        large = [f"{name}_{b}" for name in ("features", "gradients") for b in blocks]
        given = {**question_tensors(self.manifest, asked), "contrast": np.array(contrast, np.float32)}
        fetched, kept = self._run("extract", {"image": image, **given}, fetch=small, keep=large)
        known = known_by(self.manifest, asked, fetched)
        return Extracted.of(known, from_outputs(self.manifest, known, fetched), fetched, kept)

    def score_maps(self, picks: Sequence[Pick]) -> list[Scored]:
        """Score feature maps as masks, in batches of at most `batch_size`, each in a turn of its own.

        On a GPU the batch is padded with what the tensors hold, since convolutions plan anew whenever the shape changes.
        Where the device has no memory for it, the batch size is halved, for good, and `notes` says so.

        Parameters
        ----------
        picks : sequence of Pick
            Masks of one picture or several; those of one picture together.

        Returns
        -------
        list of Scored
            In order, one for each pick; a pick that is split over batches has several.

        Raises
        ------
        OutOfMemoryError
            There is not even memory for one.
        """

        def work() -> list[Scored] | None:
            self.require_open()
            size = self.batch_size
            if sum(len(pick.index) for pick in picks) <= size:
                try:
                    return self._batching.score(picks, self.sessions.get)
                except OutOfMemoryError:
                    if size == 1:
                        raise
                self.notes = (f"the device had no memory for batches of {size}: halved",)
                self._batching.resize(size // 2)
            return None  # to be divided

        answers = self.turns.take(work)
        if answers is not None:
            return answers
        return [one for part in portions(picks, self.batch_size) for one in self.score_maps(part)]

    def sketch(
        self,
        features: Sequence[Tensor],
        wanted: Sequence[NDArray[np.int64]],
        pooled_gradients: NDArray[np.float32],
    ) -> Sketch:
        """Average the masks of some maps over a coarse grid, for a budget.

        Parameters
        ----------
        features : sequence of tensors, [1, N_b, h, w]
            Per block.
        wanted : sequence of int64 arrays
            Per block, indices of the maps.
        pooled_gradients : float32, [K, N]
            Of the last block.
        """
        inputs: dict[str, Any] = {"alpha": pooled_gradients}
        for b, (maps, index) in enumerate(zip(features, wanted, strict=True), 1):
            # onnxruntime cannot multiply by no maps, up to 1.24
            inputs |= {f"features_{b}": maps, f"index_{b}": np.resize(index, max(1, len(index)))}
        wanted_of = [
            f"{kind}_{b}" for kind in ("cells", "range", "texture") for b in range(1, self.blocks + 1)
        ]
        fetched, _ = self._run("sketch", inputs, fetch=[*wanted_of, "evidence"])
        spec = self.manifest.input
        return Sketch.of(fetched, [len(index) for index in wanted], spec.height * spec.width)

    def masks(self, maps: Tensor, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """The masks [n, 1, H, W] of some maps of one block."""
        return self._run("mask", {"maps": maps, "index": index}, fetch=["masks"])[0]["masks"]

    def padded(self, masks: int) -> int:
        """Network inputs that N masks take, padding of the last batch included."""
        size = self.batch_size
        return -(-masks // size) * size if self.provider.spec.pads else masks

    def answers(
        self,
        questions: Sequence[Question],
        inputs: NDArray[np.float32],
        image: Tensor | None = None,
        phase: str = "predict",
    ) -> Answers:
        """What the network answers, as questions read it.

        Parameters
        ----------
        questions : sequence of Question
            Their classes known.
        inputs : float32
            Network inputs [n, C, H, W]; with an image masks [n, 1, H, W] in [0, 1]; feature maps [n, N, h, w] of the last
            block for the optional phase "head".
        image : tensor, [1, H, W, C], optional
            The picture that is seen through masks.
        phase : str
            "predict" or "head".
        """
        name, parts = "features" if phase == "head" else "input", []
        for fed, rows in self._batches({name: inputs}, image):
            read = self.turns.take(lambda fed=fed: self._answers(questions, phase, fed))  # type: ignore[misc]
            parts.append(read.among(0, rows))
        return Answers.joined(parts)

    def _answers(self, questions: Sequence[Question], phase: str, fed: Mapping[str, Any]) -> Answers:
        """Run predict or head on one batch and read its answers; only the thread whose turn it is may call this."""
        names, session = list(self.manifest.task.outputs(self.manifest.head)), self.sessions.get(phase)
        if self.manifest.task.on_device:
            _, kept = session.run(fed, keep=names)
            return read_on_device(self.manifest, questions, kept, self.sessions.get(READOUT))
        fetched, _ = session.run(fed, fetch=names)
        return from_outputs(self.manifest, questions, fetched)

    def predict(self, inputs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The network's outputs by the task's names, such as "scores" and "confidence", [n, …] each, of inputs [n, C, H, W]."""
        names, parts = list(self.manifest.task.outputs(self.manifest.head)), []
        for fed, rows in self._batches({"input": inputs}):
            fetched, _ = self._run("predict", fed, fetch=names)
            parts.append({name: fetched[name][:rows] for name in names})
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def whole(self, image: Tensor) -> dict[str, NDArray[np.float32]]:
        """The network's outputs for the whole picture, without the first axis; FrameError where one is not finite."""
        found = {name: array[0] for name, array in self.predict(self.network_input(image)).items()}
        require_finite("predict", *found.values())
        return found

    def settle(self, questions: Sequence[Question], image: Tensor) -> tuple[list[Question], Answers]:
        """Questions with their classes, and the network's answer to the whole picture, by one pass."""
        x = self.network_input(image)
        if self.manifest.task.on_device:
            return list(questions), self.answers(questions, x)
        fetched = {"scores": self.predict(x)["scores"]}
        known = known_by(self.manifest, questions, fetched)
        return known, from_outputs(self.manifest, known, fetched)

    def network_input(self, image: Tensor) -> NDArray[np.float32]:
        """The picture as the network sees it, [1, C, H, W]."""
        spec = self.manifest.input
        return self.apply(image, np.ones((1, 1, spec.height, spec.width), np.float32))

    def image_gradient(
        self, inputs: NDArray[np.float32], question: Question | int
    ) -> tuple[Question, Answers, NDArray[np.float32]]:
        """The gradient [n, C, H, W] of each input's own score (optional phase `image_gradient`).

        A negative class is the top class of the first input. Returned are the question with its class, the answers [1, n] to
        the inputs, and the gradient.
        """
        (asked,) = as_questions([question])
        names, gradients = names_of_answer(self.manifest), []
        answers: list[Answers] = []
        for fed, rows in self._batches({"input": inputs}):
            given = question_tensors(self.manifest, [asked])
            fetched, _ = self._run("image_gradient", {**fed, **given}, fetch=[*names, "gradient"])
            (asked,) = known_by(self.manifest, [asked], fetched) if not answers else (asked,)
            answers.append(from_outputs(self.manifest, [asked], fetched).among(0, rows))
            gradients.append(fetched["gradient"][:rows])
        return asked, Answers.joined(answers), np.concatenate(gradients)

    def full_gradient(
        self, image: Tensor, questions: Sequence[Question | int]
    ) -> tuple[list[Question], Answers, NDArray[np.float32], NDArray[np.float32]]:
        """FullGrad's maps of K questions (optional phase `full_gradient`).

        Returned are the questions with their classes, the answers [K, 1] to the whole picture, the maps [K, H, W], and the
        sums [K] of all terms, which are the scores where no bias was missed.
        """
        asked = as_questions(questions)
        inputs = {"image": image, **question_tensors(self.manifest, asked)}
        names = names_of_answer(self.manifest)
        fetched, _ = self._run("full_gradient", inputs, fetch=[*names, "saliency", "total"])
        known = known_by(self.manifest, asked, fetched)
        return known, from_outputs(self.manifest, known, fetched), fetched["saliency"], fetched["total"]

    def _batches(
        self, inputs: Mapping[str, NDArray[Any]], image: Tensor | None = None
    ) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield what to feed for n rows, batch by batch, and how many rows of the answer count.

        With an image, the input is masks for it. On a GPU the last batch is padded: convolutions plan anew whenever the
        shape changes.
        """
        ((name, rows),) = inputs.items()
        size = self.batch_size
        pad = self.provider.spec.pads and len(rows) > size
        for start in range(0, max(len(rows), 1), size):
            part: Any = rows[start : start + size]
            count = len(part)
            if pad and count < size:
                part = np.resize(part, (size, *part.shape[1:]))
            if image is not None:
                _, kept = self._run("apply", {"image": image, "masks": part}, keep=["masked"])
                part = kept["masked"]
            yield {name: part}, count

    def apply(self, image: Tensor, masks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Masked network inputs [n, C, H, W] for masks [n, 1, H, W] in [0, 1]."""
        return self._run("apply", {"image": image, "masks": masks}, fetch=["masked"])[0]["masked"]

    def fuse(
        self, features: Sequence[Tensor], weights: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Add weighted feature maps per block, and fuse the blocks.

        Parameters
        ----------
        features : sequence of tensors, [1, N_b, h, w]
            Per block.
        weights : sequence of float32, [K, N_b]
            Per block; 0 for maps that are no masks.

        Returns
        -------
        visualization_maps : float32, [K, B, H, W]
        heatmaps : float32, [K, H, W]
            Both in [0, 1].
        """
        inputs: dict[str, Any] = {}
        for b, (maps, weight) in enumerate(zip(features, weights, strict=True), 1):
            inputs |= {f"features_{b}": maps, f"weights_{b}": weight}
        fetched, _ = self._run("fuse", inputs, fetch=["visualization_maps", "heatmap"])
        require_unit_range("fuse", fetched["visualization_maps"])
        require_unit_range("fuse", fetched["heatmap"])
        return fetched["visualization_maps"], fetched["heatmap"]

    def record(self) -> dict[str, Any]:
        """What the record of an explanation says about the bundle and the machine's part in it."""
        return {
            "bundle": self.manifest.name,
            "bundle_sha256": self.digest,
            "provider": self.provider.name,
            "precision": self.provider.precision_of(self.manifest),
            "onnxruntime": version(),
            "batch_size": self.batch_size,
            "batch_size_is": self.batch_size_is,
        }
