"""Replay: a part's maps are computed again from the stored frame, and compared with those that were recorded."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sise_ort
from sise_ort.errors import OutputError, ParameterError, option
from sise_ort.explanation import Explanation
from sise_ort.line.evidence.finding import Kept
from sise_ort.line.evidence.making import machine, map_digest, versions
from sise_ort.line.evidence.record import Explained, Part, sha256
from sise_ort.line.evidence.store import Evidence
from sise_ort.runtime.asking import Asking, questions_of
from sise_ort.runtime.explainer import Explainer
from sise_ort.runtime.methods.registry import method_of
from sise_ort.runtime.preparing import Asked, prepare
from sise_ort.runtime.results import explanations

ALIKE = 0.99
"""Correlation from which on a map of another machine, provider or version counts as alike."""
SAME, LIKE, DIFFERENT = "same", "alike", "different"


@dataclass(frozen=True)
class Repeated:
    """One explanation, computed again.

    Attributes
    ----------
    label : str
        What is explained.
    same : bool
        Whether all numbers of the map are those that were recorded, bit for bit.
    correlation : float
        Pearson's correlation with the recorded map, which is kept as float16; 1 where both are flat, 0 where one is.
    largest : float
        Largest difference of a pixel, in [0, 1].
    then, now : float
        The confidence that was recorded, and that of today.
    """

    label: str
    same: bool
    correlation: float
    largest: float
    then: float
    now: float


@dataclass(frozen=True)
class Replay:
    """What a replay has found.

    Attributes
    ----------
    repeated : tuple of Repeated
        One for each explanation of the record.
    differences : tuple of str
        What is not as it was: versions, provider, machine; none where the same bits can be expected.
    explanations : tuple of Explanation
        The explanations of today.
    """

    repeated: tuple[Repeated, ...]
    differences: tuple[str, ...]
    explanations: tuple[Explanation, ...]

    @property
    def verdict(self) -> str:
        """ "same" (bit for bit), "alike" (every correlation is `ALIKE` or more), or "different"."""
        if all(one.same for one in self.repeated):
            return SAME
        return LIKE if all(one.correlation >= ALIKE for one in self.repeated) else DIFFERENT

    @property
    def expected(self) -> bool:
        """Whether the verdict is what can be asked for: the same bits on the same machine's CPU, a like map elsewhere."""
        exact = not self.differences and self.explanations[0].model.get("provider") == "cpu"
        return self.verdict == SAME or (self.verdict == LIKE and not exact)


def open_bundle(kept: Kept, bundle: str | Path, provider: str | None = None) -> Explainer:
    """Open a bundle as the line did that wrote a record.

    Parameters
    ----------
    kept : Kept
        The record.
    bundle : str or Path
        The bundle's folder.
    provider : str, optional
        Another provider than the recorded one.

    Raises
    ------
    BundleError, ProviderError
        As `sise_ort.load`.
    """
    model = kept.part.model
    used = provider or str(model.get("provider") or "auto")
    precision = str(model.get("precision") or "auto")
    if not used.startswith("openvino") or precision not in ("fp32", "bf16", "fp16"):
        precision = "auto"
    size = model.get("batch_size")
    batch_size = size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None
    return sise_ort.load(bundle, provider=used, batch_size=batch_size, precision=precision)


def replay(evidence: Evidence, kept: Kept, explainer: Explainer) -> Replay:
    """Compute a record's maps again.

    Parameters
    ----------
    evidence : Evidence
        Where frame and maps are.
    kept : Kept
        The record.
    explainer : Explainer
        The bundle that the record names.

    Returns
    -------
    Replay

    Raises
    ------
    ParameterError
        The record has no map or no frame, was made with another bundle, or asked something else than classes.
    OutputError
        A file of the record is lost or was changed.

    Notes
    -----
    All classes of a part are asked at once, as the line did, since they share their masks. What a deadline left time for is
    scored again in the same rounds (`facts["rounds"]`), whatever the time.
    """
    part = kept.part
    first = _replayable(part, explainer)
    recorded = [_map(evidence, part, number) for number in range(1, len(part.explanations) + 1)]
    found = _explain(explainer, part, first, _frame(evidence, part))
    repeated = tuple(
        _compared(one, heatmap, today)
        for one, heatmap, today in zip(part.explanations, recorded, found, strict=True)
    )
    return Replay(repeated, tuple(_differences(part, found[0])), tuple(found))


def _replayable(part: Part, explainer: Explainer) -> Explained:
    if not part.explanations:
        raise ParameterError(f"part {part.part_id!r} has no map: it was {part.decision}")
    first, digest = part.explanations[0], str(part.model.get("bundle_sha256"))
    if digest != explainer.model.digest:
        raise ParameterError(
            f"part {part.part_id!r} was explained by the bundle {part.model.get('bundle')} of digest {digest}; this one has "
            f"{explainer.model.digest}"
        )
    if any(one.readout != "classes" or one.asked or one.target < 0 for one in part.explanations):
        raise ParameterError(
            f"part {part.part_id!r} explains {first.label!r}; only explanations of classes can be replayed"
        )
    if "frame" not in {file.role for file in part.files}:
        raise ParameterError(
            f"the frame of part {part.part_id!r} was not kept; `sise-ort watch` keeps frames with {option('frames', 'rejects')}"
        )
    return first


def _explain(explainer: Explainer, part: Part, first: Explained, frame: Any) -> list[Explanation]:
    parameters = {name: value for name, value in first.parameters.items() if value is not None}
    rounds = first.facts.get("rounds")
    if "rounds" not in first.facts and parameters.get("deadline") is not None:
        parameters.pop("deadline")  # all masks were scored, or none
    method, model, began = method_of(first.method, parameters), explainer.model, time.perf_counter()
    about = part.picture
    levels = about.levels if about is not None else None
    prepared = prepare(explainer.manifest, frame, "rgb", levels)
    asking = Asking(model, prepared)
    questions, _ = questions_of(asking, [one.target for one in part.explanations])
    method.require(explainer.manifest, questions)
    call = method.call(model, None, began)
    if isinstance(rounds, (list, tuple)):
        call = dataclasses.replace(call, rounds=tuple(map(int, rounds)))
    seconds = time.perf_counter() - began
    asked = Asked(prepared, asking.image, questions, True, asking.passes, seconds)
    found = method.timed(model, asked.image, questions, call)
    return explanations(model, asked, method, found, None, explainer.notes)


def _content(evidence: Evidence, part: Part, role: str) -> bytes:
    file = next((file for file in part.files if file.role == role), None)
    if file is None:
        raise OutputError(f"part {part.part_id!r} has no file {role}")
    try:
        content = evidence.files.read(file.name)
    except OSError as error:
        raise OutputError(f"file {role} of part {part.part_id!r} cannot be read: {error}") from error
    if sha256(content) != file.sha256:
        raise OutputError(
            f"file {role} of part {part.part_id!r} was changed; `sise-ort evidence verify` says more"
        )
    return content


def _frame(evidence: Evidence, part: Part) -> Any:
    """The frame as it was read: a file's bytes, or an array."""
    content = _content(evidence, part, "frame")
    if next(file for file in part.files if file.role == "frame").ending != ".npy":
        return content
    return np.load(BytesIO(content), allow_pickle=False)


def _map(evidence: Evidence, part: Part, number: int) -> NDArray[np.float32]:
    with np.load(BytesIO(_content(evidence, part, f"map-{number}")), allow_pickle=False) as arrays:
        return np.asarray(arrays["heatmap"], np.float32)


def _compared(one: Explained, recorded: NDArray[np.float32], today: Explanation) -> Repeated:
    now = today.heatmap
    if recorded.shape != now.shape:
        return Repeated(one.label, False, 0.0, 1.0, one.confidence, today.confidence)
    return Repeated(
        one.label,
        map_digest(now) == one.heatmap_sha256,
        _correlation(recorded, now),
        float(np.abs(recorded - now).max(initial=0.0)),
        one.confidence,
        today.confidence,
    )


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    x, y = x - x.mean(), y - y.mean()
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    if size > 0:
        return float(x @ y / size)
    return float(not x.any() and not y.any())


def _differences(part: Part, today: Explanation) -> list[str]:
    found = []
    model = today.model
    for name in ("provider", "precision", "batch_size"):
        if part.model.get(name) != model.get(name):
            found.append(f"{name}: {part.model.get(name)} then, {model.get(name)} now")
    for name, now in versions(str(model.get("onnxruntime", ""))).items():
        then = part.versions.get(name)
        if name != "python" and then is not None and then != now:
            found.append(f"{name}: {then} then, {now} now")
    for name, now in machine().items():
        then = part.machine.get(name)
        if then is not None and then != now:
            found.append(f"{name}: {then} then, {now} now")
    return found
