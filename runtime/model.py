"""A bundle's sessions: each phase of the method as one call, with tensors left where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import PHASES, Bundle, Manifest, bundle_digest, open_bundle, signature
from sise_ort.errors import ClosedError, OutOfMemoryError
from sise_ort.runtime.batch_sizes import measured_batch_size
from sise_ort.runtime.batching import Batching, portions
from sise_ort.runtime.extracted import Extracted, Pick, Sketch, require_finite, require_unit_range
from sise_ort.runtime.fitting import give_memory_back, require_fitting
from sise_ort.runtime.limits import Limits, checked
from sise_ort.runtime.pace import Pace
from sise_ort.runtime.providers import Graph, Provider, Session, Tensor, version
from sise_ort.runtime.trial import require_harmless
from sise_ort.runtime.turns import Turns


class BundleModel:
    """The phases of one bundle on one provider.

    Parameters
    ----------
    bundle : str, Path or Bundle
        The bundle's folder, which is read once, or a bundle that was read.
    provider : str
        "auto", "cpu", "cuda" or "tensorrt".
    batch_size : int or None
        Network inputs scored at once; None takes what `sise-ort bench` has measured here, else chooses by the picture's
        size. 1 where the bundle takes no more.
    threads : int or None
        CPU threads per session; None takes all cores.
    provider_options : mapping or None
        Options of onnxruntime's GPU provider for `predict`; see `Provider`.
    limits : Limits or None
        What loading and each run may take; None takes the defaults.
    trusted : bool
        False opens and runs the bundle once in a process of its own first, whose memory and time are limited.

    Attributes
    ----------
    folder : Path
        Where the bundle was read; nothing is read from it again.
    manifest : Manifest
        The bundle's facts.
    digest : str
        SHA-256 of the whole bundle as it was loaded.

    Raises
    ------
    BundleError
        The bundle is missing, damaged or harmful.
    ProviderError
        The provider is not really in use.
    ParameterError
        A value is out of range.
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
    ) -> None:
        limits = checked(limits, trusted)
        self.provider = Provider(provider, threads, provider_options, limits)
        self._bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, limits.bytes)
        if not trusted:
            require_harmless(self._bundle, limits)
        self.folder = self._bundle.folder
        self.manifest: Manifest = self._bundle.manifest
        self.digest = bundle_digest(self.manifest)
        spec = self.manifest.input
        known = measured_batch_size(self.manifest, self.provider) if batch_size is None else None
        require_fitting(self.manifest, batch_size)
        default = max(1, self.provider.spec.batch_pixels // (spec.height * spec.width))
        self.batch_size_is = "given" if batch_size else "measured" if known else "default"
        self._sessions: dict[str, Session] = {}
        self._closed = False
        for phase in PHASES:
            self._session(phase)
        self.turns = Turns()
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
            if not self._closed:
                self._closed = True
                self._sessions.clear()
                self._batching.free()
                self._bundle = self._bundle.without(self._bundle.graphs)

        self.turns.take(work)

    def require_open(self) -> None:
        """Raise ClosedError after `close`."""
        if self._closed:
            name = self.manifest.name
            raise ClosedError(f"the explainer of the bundle '{name}' is closed: load the bundle again")

    def _run(
        self, phase: str, inputs: Mapping[str, Any], *, fetch: Sequence[str] = (), keep: Sequence[str] = ()
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Tensor]]:
        """Run a phase once, when it is this thread's turn: no two runs need memory at once; see `Session.run`."""
        return self.turns.take(lambda: self._session(phase).run(inputs, fetch=fetch, keep=keep))

    def _session(self, phase: str) -> Session:
        """A phase's session; optional phases are opened when they are first needed."""
        self.require_open()
        if phase not in self._sessions:
            graph = Graph(
                phase,
                bytes(self._bundle.contents[f"{phase}.onnx"]),
                self._bundle.weights(phase),
                signature(self.manifest, phase),
            )
            own = self.provider.spec.bundle_options(self.manifest, version()) if phase == "predict" else None
            self._sessions[phase] = self.provider.session(graph, own)
            self._bundle = self._bundle.without(self._sessions)
        return self._sessions[phase]

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.manifest.layers)

    def upload(self, frame: NDArray[Any]) -> Tensor:
        """A frame [H, W, C] of network size as the tensor [1, H, W, C] that the graphs take."""
        return self.provider.tensor(frame[None])

    def extract(self, image: Tensor, classes: Sequence[int], contrast: float) -> Extracted:
        """Run the network once forward, and once backward per class.

        Parameters
        ----------
        image : tensor, [1, H, W, C]
            The uploaded frame.
        classes : sequence of int
            Classes whose gradients are taken (`Question.seed`); negative for the top class.
        contrast : float
            0 for the gradient of the class score, 1 to set it against the other classes (docs/method.md, Selection).
        """
        blocks = range(1, self.blocks + 1)
        small = ["scores", *(f"{name}_{b}" for name in ("alpha", "span") for b in blocks)]
        large = [f"{name}_{b}" for name in ("features", "gradients") for b in blocks]
        fetched, kept = self._run(
            "extract",
            {
                "image": image,
                "class": np.array(classes, np.int64),
                "contrast": np.array(contrast, np.float32),
            },
            fetch=small,
            keep=large,
        )
        return Extracted(
            fetched["scores"][0],
            [fetched[f"alpha_{b}"] for b in blocks],
            [fetched[f"span_{b}"][0] for b in blocks],
            [kept[f"features_{b}"] for b in blocks],
            [kept[f"gradients_{b}"] for b in blocks],
        )

    def score_maps(self, picks: Sequence[Pick]) -> tuple[NDArray[np.float32], ...]:
        """Score feature maps as masks, in batches of at most `batch_size`, each in a turn of its own.

        On a GPU the batch is padded with what the tensors hold, since convolutions plan anew whenever the shape changes.
        Where the device has no memory for it, the batch size is halved, for good, and `notes` says so.

        Parameters
        ----------
        picks : sequence of Pick
            Masks of one picture or several; those of one picture together.

        Returns
        -------
        scores, confidence : float32, [n, classes]
            The network's answers, in order.
        range, total : float32, [n]
            Of the masks (see mask.onnx).

        Raises
        ------
        OutOfMemoryError
            There is not even memory for one.
        """

        def work() -> tuple[NDArray[np.float32], ...] | None:
            self.require_open()
            size = self.batch_size
            if sum(len(pick.index) for pick in picks) <= size:
                try:
                    return self._batching.score(picks, self._session)
                except OutOfMemoryError:
                    if size == 1:
                        raise
                self.notes = (f"the device had no memory for batches of {size}: halved",)
                self._batching.resize(size // 2)
            return None  # to be divided

        answers = self.turns.take(work)
        if answers is not None:
            return answers
        parts = [self.score_maps(part) for part in portions(picks, self.batch_size)]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

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
            inputs |= {f"features_{b}": maps, f"index_{b}": index}
        kinds = ("cells", "range", "texture")
        blocks = range(1, self.blocks + 1)
        fetched, _ = self._run(
            "sketch", inputs, fetch=[*(f"{kind}_{b}" for kind in kinds for b in blocks), "evidence"]
        )
        cells, extent, texture = (np.concatenate([fetched[f"{kind}_{b}"] for b in blocks]) for kind in kinds)
        require_unit_range("sketch", cells)
        require_finite("sketch", extent, texture, fetched["evidence"])
        spec = self.manifest.input
        return Sketch(cells, extent, texture, fetched["evidence"], spec.height * spec.width)

    def masks(self, maps: Tensor, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """The masks [n, 1, H, W] of some maps of one block."""
        return self._run("mask", {"maps": maps, "index": index}, fetch=["masks"])[0]["masks"]

    def padded(self, masks: int) -> int:
        """Network inputs that N masks take, padding of the last batch included."""
        size = self.batch_size
        return -(-masks // size) * size if self.provider.spec.pads else masks

    def score(
        self, image: Tensor, masks: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and confidence, [n, classes] each, of the picture through any masks [n, 1, H, W] in [0, 1]."""
        scores, confidence = self._in_batches("predict", {"input": masks}, ("scores", "confidence"), image)
        return scores, confidence

    def predict(self, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and confidence, [n, classes] each, of network inputs [n, C, H, W]."""
        scores, confidence = self._in_batches("predict", {"input": inputs}, ("scores", "confidence"))
        return scores, confidence

    def whole(self, image: Tensor) -> NDArray[np.float32]:
        """Scores [classes] of the whole picture; FrameError where one is not finite."""
        scores: NDArray[np.float32] = self.predict(self.network_input(image))[0][0]
        require_finite("predict", scores)
        return scores

    def network_input(self, image: Tensor) -> NDArray[np.float32]:
        """The picture as the network sees it, [1, C, H, W]."""
        spec = self.manifest.input
        return self.apply(image, np.ones((1, 1, spec.height, spec.width), np.float32))

    def head(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores [n, classes] from feature maps [n, N, h, w] of the last block (optional phase `head`)."""
        return self._in_batches("head", {"features": features}, ("scores",))[0]

    def image_gradient(
        self, inputs: NDArray[np.float32], classes: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores [n, classes] of network inputs [n, C, H, W], and the gradient [n, C, H, W] of each one's own class score.

        Needs the optional phase `image_gradient`. A negative class is the top class.
        """
        asked = np.array(classes, np.int64)
        scores, gradient = self._in_batches(
            "image_gradient", {"input": inputs, "class": asked}, ("scores", "gradient")
        )
        return scores, gradient

    def full_gradient(
        self, image: Tensor, classes: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """FullGrad's maps of K classes (optional phase `full_gradient`).

        Returns
        -------
        scores : float32, [classes]
        saliency : float32, [K, H, W]
        total : float32, [K]
            Sum of all terms; the class score where no bias was missed.
        """
        fetched, _ = self._run(
            "full_gradient",
            {"image": image, "class": np.array(classes, np.int64)},
            fetch=["scores", "saliency", "total"],
        )
        return fetched["scores"][0], fetched["saliency"], fetched["total"]

    def _in_batches(
        self,
        phase: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        image: Tensor | None = None,
    ) -> tuple[NDArray[np.float32], ...]:
        """Run a phase on arrays of n rows each, batch by batch; with an image, the first input is masks for it.

        On a GPU the last batch is padded: convolutions plan anew whenever the shape changes.
        """
        parts = []
        first, count, size = next(iter(inputs)), len(next(iter(inputs.values()))), self.batch_size
        pad = self.provider.spec.pads and count > size
        for start in range(0, max(count, 1), size):
            fed: dict[str, Any] = {name: rows[start : start + size] for name, rows in inputs.items()}
            rows = len(fed[first])
            if pad and rows < size:
                fed = {name: np.resize(part, (size, *part.shape[1:])) for name, part in fed.items()}
            if image is not None:
                _, kept = self._run("apply", {"image": image, "masks": fed[first]}, keep=["masked"])
                fed = {first: kept["masked"]}
            fetched, _ = self._run(phase, fed, fetch=outputs)
            parts.append([fetched[name][:rows] for name in outputs])
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

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
            "onnxruntime": version(),
            "batch_size": self.batch_size,
            "batch_size_is": self.batch_size_is,
        }
