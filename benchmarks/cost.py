"""What an explanation costs beside the bare network, and what the gradients cost beside torch.

    python benchmarks/cost.py resnet50                      # random weights; the cost does not depend on them
    python benchmarks/cost.py resnet50 --torch              # forward and gradients against torch as well
    python benchmarks/cost.py resnet50 --size 256x1600 --memory
    python benchmarks/cost.py resnet50 --export             # seconds and peak memory of the export alone

Ratios are medians of rounds that run the compared parts in turn in one process. `--memory` reports the peak
resident memory of a fresh process that loads the bundle and explains one frame, `--export` that of one that exports.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sise_ort


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
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--explain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--export-to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.explain:
        explain_once(arguments.explain, arguments.mu)
        return
    if arguments.export_to:
        export_once(arguments.model, arguments.export_to, arguments.size)
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
        explain_ratio(bundle, arguments.mu, arguments.rounds)
        if arguments.torch:
            torch_ratio(arguments.model, bundle, arguments.rounds)


if __name__ == "__main__":
    main()
