"""What an explanation costs beside the bare network, and what the gradients cost beside torch.

    python benchmarks/cost.py resnet50                      # random weights; the cost does not depend on them
    python benchmarks/cost.py resnet50 --torch              # forward and gradients against torch as well
    python benchmarks/cost.py resnet50 --mu 0.75 --many 8   # explain_many against its parts
    python benchmarks/cost.py resnet50 --passes 64          # what a budget costs beside its passes
    python benchmarks/cost.py resnet50 --deadline-ms 500    # how often it is kept, in 100 runs
    python benchmarks/cost.py resnet50 --size 256x1600 --memory
    python benchmarks/cost.py resnet50 --export             # seconds and peak memory of the export alone
    python benchmarks/cost.py resnet50 --load               # loading, and the first explanation after it
    python benchmarks/cost.py resnet50 --profile            # which operators extract spends its time on

Ratios are medians of rounds that run the compared parts in turn in one process. `--memory` reports the peak
resident memory of a fresh process that loads the bundle and explains one frame, `--export` that of one that exports.
`--load` compares fresh processes in turn: loading a bundle, and onnxruntime opening the same graphs, or `predict` alone, by
their paths, unchecked and one after another.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from profiling import profile

import sise_ort
from sise_ort.bundle import read_manifest


def seconds(part: Callable[[], object]) -> float:
    start = time.perf_counter()
    part()
    return time.perf_counter() - start


def explain_ratio(bundle: Path, mu: float, rounds: int) -> None:
    explainer = sise_ort.load(bundle, provider="cpu")
    spec, model = explainer.manifest.input, explainer.model
    frame = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    result = explainer.explain(frame, mu=mu)
    masks, size = sum(result.mask_counts), model.batch_size
    noise = np.random.default_rng(1).normal(0, 1, (size, 3, spec.height, spec.width)).astype(np.float32)
    batches = [noise] * (masks // size) + ([noise[: masks % size]] if masks % size else [])
    image = model.upload(frame)
    wholes, bares, extracts, passes = [], [], [], []
    for _ in range(rounds):
        wholes.append(seconds(lambda: explainer.explain(frame, mu=mu)))
        extracts.append(seconds(lambda: model.extract(image, [-1], 1.0)))
        passes.append(seconds(lambda: [model.predict(batch) for batch in batches]))
        bares.append(extracts[-1] + passes[-1])
    one = float(np.median(passes)) / masks
    print(f"{masks} masks in batches of {size} ({model.batch_size_is}), mu {mu}, {rounds} rounds")
    print(f"explain {np.median(wholes):.2f} s; extract + predict {np.median(bares):.2f} s")
    print(f"explain / (extract + predict): {np.median(np.divide(wholes, bares)):.3f}")
    print(
        f"extract: {1e3 * np.median(extracts):.0f} ms = {np.median(extracts) / one:.1f} passes of {1e3 * one:.1f} ms"
    )


def many_ratio(bundle: Path, mu: float, rounds: int, count: int) -> None:
    """explain_many of several frames against their extracts and as many predicts at the same batch size."""
    explainer = sise_ort.load(bundle, provider="cpu")
    spec, model = explainer.manifest.input, explainer.model
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8) for _ in range(count)]
    masks = sum(sum(explainer.explain(frame, mu=mu).mask_counts) for frame in frames)
    size = model.batch_size
    noise = rng.normal(0, 1, (size, 3, spec.height, spec.width)).astype(np.float32)
    batches = [noise] * (masks // size) + ([noise[: masks % size]] if masks % size else [])
    images = [model.upload(frame) for frame in frames]
    ratios = []
    for _ in range(rounds):
        whole = seconds(lambda: list(explainer.explain_many(frames, mu=mu)))
        parts = seconds(lambda: [model.extract(image, [-1], 1.0) for image in images])
        parts += seconds(lambda: [model.predict(batch) for batch in batches])
        ratios.append(whole / parts)
    print(
        f"{count} frames, {masks} masks, batches of {size} ({model.batch_size_is}), mu {mu}, {rounds} rounds"
    )
    print(f"explain_many / (extracts + predicts): {np.median(ratios):.3f}")


def budget_ratio(bundle: Path, mu: float, rounds: int, passes: int) -> None:
    """explain(passes=N) against one extract and N predicts; and the time of the process alone."""
    explainer = sise_ort.load(bundle, provider="cpu")
    spec, model = explainer.manifest.input, explainer.model
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    size = model.batch_size
    noise = rng.normal(0, 1, (size, 3, spec.height, spec.width)).astype(np.float32)
    batches = [noise] * (passes // size) + ([noise[: passes % size]] if passes % size else [])
    image = model.upload(frame)
    score_maps, fuse = model.score_maps, model.fuse
    inside = [0.0]

    def timed(part: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            found = part(*arguments)
            inside[0] += time.perf_counter() - start
            return found

        return run

    wholes, own, predicts = [], [], []
    for _ in range(rounds + 1):
        wholes.append(seconds(lambda: explainer.explain(frame, mu=mu, passes=passes)))
        bare = seconds(lambda: model.extract(image, [-1], 1.0))
        predicts.append(seconds(lambda: [model.predict(batch) for batch in batches]))
        wholes[-1] /= bare + predicts[-1]
        inside[0] = 0.0
        model.score_maps, model.fuse = timed(score_maps), timed(fuse)  # type: ignore[method-assign]
        timings = explainer.explain(frame, mu=mu, passes=passes).timings
        model.score_maps, model.fuse = score_maps, fuse  # type: ignore[method-assign]
        own.append((timings["score"] + timings["fuse"] - inside[0]) / predicts[-1])
    print(f"{passes} passes in batches of {size} ({model.batch_size_is}), mu {mu}, {rounds} rounds")
    print(f"explain / (extract + predict): {np.median(wholes[1:]):.3f}")
    print(f"the process (choosing, predicting, drawing) / the passes: {np.median(own[1:]):.3f}")


def deadline_kept(bundle: Path, mu: float, deadline: float, runs: int = 100) -> None:
    """How many of 100 explanations answer in time, with a margin of one batch."""
    explainer = sise_ort.load(bundle, provider="cpu")
    spec, model = explainer.manifest.input, explainer.model
    rng = np.random.default_rng(0)
    size = (model.batch_size, 3, spec.height, spec.width)
    noise = rng.normal(0, 1, size).astype(np.float32)
    batch = float(np.median([seconds(lambda: model.predict(noise)) for _ in range(7)]))
    taken, scored = [], []
    for _ in range(runs):
        frame = rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
        start = time.perf_counter()
        result = explainer.explain(frame, mu=mu, deadline=deadline)
        taken.append(time.perf_counter() - start)
        scored.append(result.facts.get("scored", sum(result.mask_counts)))
    late = np.array(taken) - deadline
    print(f"deadline {1e3 * deadline:.0f} ms, a batch of {model.batch_size} takes {1e3 * batch:.0f} ms")
    print(
        f"kept in {int((late <= 0).sum())} of {runs} runs, with a margin of one batch in {int((late <= batch).sum())}; "
        f"latest {1e3 * late.max():+.0f} ms, median {1e3 * np.median(late):+.0f} ms; {np.median(scored):.0f} masks scored"
    )


def load_ratio(bundle: Path, rounds: int, passes: int) -> None:
    """Loading beside opening graphs with onnxruntime alone, and the first explanation beside the second."""
    found: dict[str, list[list[float]]] = {"load": [], "graphs": [], "predict": []}
    for _ in range(rounds):
        for what, taken in found.items():
            command = [sys.executable, __file__, "--load-once", what, "--bundle", bundle, "--passes", passes]
            done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
            taken.append(json.loads(done.stdout))
    load, first, second, peak = np.median(found["load"], axis=0)
    graphs, graphs_peak = np.median(found["graphs"], axis=0)
    predict = np.median(found["predict"], axis=0)[0]
    ratio, alone = (
        np.median([a[0] / b[0] for a, b in zip(found["load"], found[k], strict=True)])
        for k in ("graphs", "predict")
    )
    print(f"{rounds} rounds of fresh processes")
    print(f"load {load:.2f} s; opening the same graphs {graphs:.2f} s, predict alone {predict:.2f} s")
    print(f"load / opening the same graphs: {ratio:.2f}; load / opening predict: {alone:.2f}")
    print(f"peak memory of loading {peak:.0f} MiB, of opening the same graphs {graphs_peak:.0f} MiB")
    print(f"first explanation in {passes} passes {first:.2f} s, second {second:.2f} s: {first / second:.2f}")


def load_once(what: str, bundle: Path, passes: int) -> None:
    """In a fresh process: seconds of loading and of two explanations, or of opening graphs; and MiB at most."""
    if what != "load":
        import onnxruntime

        phases = read_manifest(bundle).phases if what == "graphs" else ["predict"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        opened: list[object] = []

        def open_graphs() -> None:
            for phase in phases:
                path = str(bundle / f"{phase}.onnx")
                opened.append(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))

        taken = seconds(open_graphs)
        print(json.dumps([taken, peak_memory()]))
        return
    importlib.import_module("sise_ort.runtime.explainer")  # importing is not loading

    began = time.perf_counter()
    explainer = sise_ort.load(bundle, provider="cpu")
    loading = time.perf_counter() - began
    peak, spec = peak_memory(), explainer.manifest.input
    frame = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    explaining = [seconds(lambda: explainer.explain(frame, passes=passes)) for _ in range(2)]
    print(json.dumps([loading, *explaining, peak]))


def torch_ratio(name: str, bundle: Path, rounds: int) -> None:
    import torch

    from sise_ort.exporter.sources.torch_model import torchvision_package

    explainer = sise_ort.load(bundle, provider="cpu")
    model, layers = explainer.model, explainer.manifest.layers
    spec = explainer.manifest.input
    frame = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    image = model.upload(frame)
    net = torchvision_package().models.get_model(name, weights=None).eval().requires_grad_(False)
    seen: dict[str, torch.Tensor] = {}
    for layer in layers:
        module = net.get_submodule(layer.module)
        module.register_forward_hook(lambda _, __, output, path=layer.module: seen.__setitem__(path, output))
    x = torch.randn(1, 3, spec.height, spec.width, requires_grad=True)

    def theirs() -> object:
        scores = net(x)
        return torch.autograd.grad(scores[0, 0], [seen[layer.module] for layer in layers])

    def ours() -> object:
        return model.extract(image, [0], 0.0)

    times = np.array([(seconds(ours), seconds(theirs)) for _ in range(rounds + 2)][2:])
    print(
        f"forward and gradients: {1e3 * np.median(times[:, 0]):.0f} ms, torch {1e3 * np.median(times[:, 1]):.0f} ms"
    )
    print(f"ours / torch's: {np.median(times[:, 0] / times[:, 1]):.2f}")


def in_own_process(*arguments: object) -> None:
    """So that nothing else counts."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(done.stdout.strip())


def peak_memory() -> float:
    """MiB. Linux's own high-water mark of this process; ru_maxrss would count the parent's memory at the fork as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def export_once(source: str, bundle: Path, size: str | None) -> None:
    start = time.perf_counter()
    sise_ort.export(source, bundle, input_size=size, **options_of(source))
    print(f"export: {time.perf_counter() - start:.1f} s, peak memory {peak_memory():.0f} MiB")


def options_of(source: str) -> dict[str, Any]:
    return (
        {"normalize": "imagenet"}
        if source.endswith(".onnx")
        else {"weights": "NONE", "normalize": "imagenet"}
    )


def explain_once(bundle: Path, mu: float) -> None:
    explainer = sise_ort.load(bundle, provider="cpu")
    spec = explainer.manifest.input
    frame = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    result = explainer.explain(frame, mu=mu)
    print(
        f"peak memory {peak_memory():.0f} MiB: {spec.height}×{spec.width}, {sum(result.mask_counts)} masks, batch {explainer.model.batch_size}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="resnet50", help="torchvision name, or an .onnx file")
    parser.add_argument("--size", default=None, help="N or HxW")
    parser.add_argument("--mu", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--many", type=int, metavar="FRAMES")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--deadline-ms", type=float)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--load-once", choices=("load", "graphs", "predict"), help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--explain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export-to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.explain:
        explain_once(arguments.explain, arguments.mu)
        return
    if arguments.export_to:
        export_once(arguments.model, arguments.export_to, arguments.size)
        return
    if arguments.load_once:
        load_once(arguments.load_once, arguments.bundle, arguments.passes)
        return
    print(
        f"{arguments.model}, {platform.machine()}, sise-ort {sise_ort.__version__}, {time.strftime('%Y-%m-%d')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "model.sise"
        if arguments.export:
            size = ["--size", arguments.size] if arguments.size else []
            in_own_process(arguments.model, "--export-to", bundle, *size)
            return
        sise_ort.export(arguments.model, bundle, input_size=arguments.size, **options_of(arguments.model))
        if arguments.memory:
            in_own_process("--explain", bundle, "--mu", arguments.mu)
            return
        if arguments.load:
            load_ratio(bundle, arguments.rounds, arguments.passes or 16)
            return
        if arguments.profile:
            profile(bundle, 4 * arguments.rounds)
            return
        if arguments.many:
            many_ratio(bundle, arguments.mu, arguments.rounds, arguments.many)
            return
        if arguments.passes:
            budget_ratio(bundle, arguments.mu, arguments.rounds, arguments.passes)
            return
        if arguments.deadline_ms:
            deadline_kept(bundle, arguments.mu, arguments.deadline_ms / 1000)
            return
        explain_ratio(bundle, arguments.mu, arguments.rounds)
        if arguments.torch:
            torch_ratio(arguments.model, bundle, arguments.rounds)


if __name__ == "__main__":
    main()
