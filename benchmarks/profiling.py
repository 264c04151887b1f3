"""What extract.onnx spends its time on, node by node, beside the bare network (`cost.py MODEL --profile`)."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from sise_ort.bundle import Bundle, open_bundle

FORWARD = "forward: convolutions and all else but max-pooling"
POOLING = "forward: max-pooling, which must say where its maxima lie"
LAYOUT = "changes between the layouts of convolutions and of all else"
CONVOLUTIONS = "backward: convolutions"
REST = "spans, pooled gradients, the seed and all else"
BACKWARD = {
    "Conv": CONVOLUTIONS,
    **dict.fromkeys(("ConvTranspose", "Slice", "Pad"), "backward: strided convolutions"),
    **dict.fromkeys(
        ("Greater", "Less", "And", "Cast", "Where", "Mul", "Not", "Min", "Clip"),
        "backward: gates of activations",
    ),
    **dict.fromkeys(("ScatterElements", "Mod", "Expand"), "backward: max-pooling"),
    **dict.fromkeys(("Split", "Concat", "Add", "Sum"), "backward: where paths part and meet"),
}
"""What a node of the gradients is for, by its operator."""


def kind_of(operator: str, name: str) -> str:
    """What a node of extract.onnx is for. The exporter's own nodes, gradients among them, are named sise/N."""
    if operator.startswith("Reorder"):
        return LAYOUT
    if name.startswith("sise/"):
        return BACKWARD.get(operator, REST)
    return POOLING if operator == "MaxPool" else FORWARD


def milliseconds(
    bundle: Bundle, phase: str, inputs: dict[str, Any], runs: int
) -> dict[tuple[str, str], float]:
    """Medians of what each node took, by operator and name, as onnxruntime's profiler saw it."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / phase)
        weights = bundle.weights(phase)
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
        content = bytes(bundle.contents[f"{phase}.onnx"])
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            taken[event["args"]["op_name"], name].append(event["dur"] / 1000)
    return {node: float(np.median(times)) for node, times in taken.items()}


def profile(folder: Path, runs: int, batch: int = 8) -> None:
    """Print a table of what extract.onnx spends its time on, in milliseconds and in passes of a batch."""
    bundle = open_bundle(folder)
    spec, rng = bundle.manifest.input, np.random.default_rng(0)
    given = {
        "image": rng.integers(0, 256, (1, spec.height, spec.width, spec.channels)).astype(spec.frame_dtype),
        "class": np.array([0]),
        "other": np.array([-1]),
        "contrast": np.array(1, np.float32),
    }
    taken = {one.name for one in bundle.graphs["extract"].inputs}
    extract = milliseconds(bundle, "extract", {name: given[name] for name in taken}, runs)

    def predict(count: int) -> float:
        x = rng.normal(size=(count, spec.channels, spec.height, spec.width)).astype(np.float32)
        return sum(milliseconds(bundle, "predict", {"input": x}, runs).values())

    alone, one = predict(1), predict(batch) / batch
    kinds: dict[str, float] = defaultdict(float)
    for (operator, name), time in extract.items():
        kinds[kind_of(operator, name)] += time
    print(f"one pass in a batch of {batch}: {one:.2f} ms; alone: {alone:.2f} ms = {alone / one:.2f} passes\n")
    print("| extract | ms | passes |\n|---|---:|---:|")
    total = sum(kinds.values())
    for kind, time in [*sorted(kinds.items(), key=lambda pair: -pair[1]), ("**together**", total)]:
        print(f"| {kind} | {time:.1f} | {time / one:.2f} |")
