"""A bundle's sessions: each phase of the method as one call, with tensors left where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sise_ort.bundle import PHASES, Manifest, read_bundle
from sise_ort.errors import ParameterError
from sise_ort.runtime.providers import Provider, Session, Tensor

BATCH_PIXELS = {"cpu": 8 * 224 * 224, "cuda": 64 * 224 * 224}
"""Pixels of one default batch; on a CPU larger ones only cost memory."""


@dataclass(frozen=True)
class Extracted:
    """What one forward and K backward passes gave.

    scores : float32 [classes]; pooled_gradients : per block [K, N_b]; spans : per block [N_b];
    features, gradients : per block, tensors [1, N_b, h, w] and [K, N_b, h, w] on the device.
    """

    scores: NDArray[np.float32]
    pooled_gradients: list[NDArray[np.float32]]
    spans: list[NDArray[np.float32]]
    features: list[Tensor]
    gradients: list[Tensor]


class BundleModel:
    """The phases of one bundle on one provider.

    Parameters
    ----------
    folder : the bundle.
    provider : "auto", "cpu", "cuda" or "tensorrt".
    batch_size : network inputs scored at once; None chooses by the picture's size. 1 where the bundle takes no more.
    threads : CPU threads per session; None takes all cores.

    Raises
    ------
    BundleError, ProviderError, ParameterError
    """

    def __init__(
        self,
        folder: str | Path,
        provider: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest = read_bundle(self.folder)
        self.provider = Provider(provider, threads)
        spec = self.manifest.input
        if batch_size is None:
            batch_size = max(1, BATCH_PIXELS[self.provider.device] // (spec.height * spec.width))
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ParameterError(f"batch_size is {batch_size!r}; it must be a whole number of at least 1")
        self.batch_size = spec.batch or batch_size
        self._sessions = {
            phase: self.provider.session(self.folder / f"{phase}.onnx", phase=phase) for phase in PHASES
        }
        plane = (self.batch_size, 1, spec.height, spec.width)
        self._masks = self.provider.tensor(np.zeros(plane, np.float32))

    def _session(self, phase: str) -> Session:
        """A phase's session; optional phases are opened when they are first needed."""
        if phase not in self._sessions:
            self._sessions[phase] = self.provider.session(self.folder / f"{phase}.onnx", phase=phase)
        return self._sessions[phase]

    @property
    def blocks(self) -> int:
        return len(self.manifest.layers)

    def upload(self, frame: NDArray[Any]) -> Tensor:
        """A frame [H, W, C] of network size as the tensor [1, H, W, C] that the graphs take."""
        return self.provider.tensor(frame[None])

    def extract(self, image: Tensor, classes: Sequence[int], contrast: float) -> Extracted:
        """Forward pass, and one backward pass per class (negative index: the top class)."""
        blocks = range(1, self.blocks + 1)
        small = ["scores", *(f"{name}_{b}" for name in ("alpha", "span") for b in blocks)]
        large = [f"{name}_{b}" for name in ("features", "gradients") for b in blocks]
        fetched, kept = self._sessions["extract"].run(
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

    def write_masks(
        self, features: Tensor, index: NDArray[np.int64], row: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Write the masks of some maps of one block into the batch, from `row` on; returns range [n], total [n]."""
        spec = self.manifest.input
        shape = (len(index), 1, spec.height, spec.width)
        fetched, _ = self._sessions["mask"].run(
            {"maps": features, "index": index},
            fetch=["range", "total"],
            into={"masks": (self._masks, row, shape)},
        )
        return fetched["range"], fetched["total"]

    def score_masks(self, image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score the batch of masks: scores and confidence, each [batch_size, classes]."""
        _, kept = self._sessions["apply"].run({"image": image, "masks": self._masks}, keep=["masked"])
        fetched, _ = self._sessions["predict"].run(kept, fetch=["scores", "confidence"])
        return fetched["scores"], fetched["confidence"]

    def score(
        self, image: Tensor, masks: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and confidence, [n, classes] each, of the picture through any masks [n, 1, H, W] in [0, 1]."""
        scores, confidence = self._in_batches("predict", {"masked": masks}, ("scores", "confidence"), image)
        return scores, confidence

    def predict(self, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and confidence, [n, classes] each, of network inputs [n, C, H, W]."""
        scores, confidence = self._in_batches("predict", {"masked": inputs}, ("scores", "confidence"))
        return scores, confidence

    def whole(self, image: Tensor) -> NDArray[np.float32]:
        """Scores [classes] of the whole picture."""
        scores: NDArray[np.float32] = self.predict(self.network_input(image))[0][0]
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
        """Scores [n, classes] of network inputs [n, C, H, W], and each one's gradient of its own class's score,
        [n, C, H, W] (negative index: the top class; optional phase `image_gradient`)."""
        asked = np.array(classes, np.int64)
        scores, gradient = self._in_batches(
            "image_gradient", {"input": inputs, "class": asked}, ("scores", "gradient")
        )
        return scores, gradient

    def full_gradient(
        self, image: Tensor, classes: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Scores [classes], FullGrad's saliency [K, H, W] and the sum of all its terms [K] (optional phase
        `full_gradient`)."""
        fetched, _ = self._session("full_gradient").run(
            {"image": image, "class": np.array(classes, np.int64)}, fetch=["scores", "saliency", "total"]
        )
        return fetched["scores"][0], fetched["saliency"], fetched["total"]

    def _in_batches(
        self, phase: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], image: Tensor = None
    ) -> tuple[NDArray[np.float32], ...]:
        """Run a phase on arrays of n rows each, batch by batch; with an image, the first input is masks for it.

        On a GPU the last batch is padded: convolutions plan anew whenever the shape changes.
        """
        parts = []
        first, count = next(iter(inputs)), len(next(iter(inputs.values())))
        pad = self.provider.device == "cuda" and count > self.batch_size
        for start in range(0, max(count, 1), self.batch_size):
            fed: dict[str, Any] = {
                name: rows[start : start + self.batch_size] for name, rows in inputs.items()
            }
            rows = len(fed[first])
            if pad and rows < self.batch_size:
                fed = {
                    name: np.resize(part, (self.batch_size, *part.shape[1:])) for name, part in fed.items()
                }
            if image is not None:
                _, kept = self._session("apply").run({"image": image, "masks": fed[first]}, keep=["masked"])
                fed = {first: kept["masked"]}
            fetched, _ = self._session(phase).run(fed, fetch=outputs)
            parts.append([fetched[name][:rows] for name in outputs])
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def apply(self, image: Tensor, masks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Masked network inputs [n, C, H, W] for masks [n, 1, H, W] in [0, 1]."""
        return self._sessions["apply"].run({"image": image, "masks": masks}, fetch=["masked"])[0]["masked"]

    def fuse(
        self, features: Sequence[Tensor], weights: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Visualization maps [K, B, H, W] and heat maps [K, H, W] for weights [K, N_b] per block."""
        inputs: dict[str, Any] = {}
        for b, (maps, weight) in enumerate(zip(features, weights, strict=True), 1):
            inputs[f"features_{b}"] = maps
            inputs[f"weights_{b}"] = weight
        fetched, _ = self._sessions["fuse"].run(inputs, fetch=["visualization_maps", "heatmap"])
        return fetched["visualization_maps"], fetched["heatmap"]

    def facts(self) -> Mapping[str, Any]:
        """What a record of an explanation should say about the model and the machine's part in it."""
        from sise_ort.bundle import bundle_digest
        from sise_ort.runtime.providers import version

        return {
            "bundle": self.manifest.name,
            "bundle_sha256": bundle_digest(self.manifest),
            "provider": self.provider.name,
            "onnxruntime": version(),
            "batch_size": self.batch_size,
        }
