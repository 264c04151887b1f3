"""Checks and measures a GPU in one command: placement, parity with the CPU, every figure, torch beside it.

    python benchmarks/gpu.py                                  # torchvision's ResNet-50 with random weights; needs torch
    python benchmarks/gpu.py model.sise half.sise             # bundles that are there already
    python benchmarks/gpu.py resnet18 --size 64 --provider cpu --rounds 2    # tries the command itself, without a GPU

Random weights: the cost does not depend on them. Exports take place here, since bundles are large. Prints one line per
figure, and what could not be run with its reason; takes about eight minutes.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cuda_placement import report

import sise_ort
from sise_ort.errors import SiseError
from sise_ort.metrics import correlation
from sise_ort.runtime.batch_sizes import measure
from sise_ort.runtime.cache import gpu, tensorrt_version
from sise_ort.runtime.providers import version

VARIANTS: dict[str, dict[str, int]] = {
    "as it comes": {},
    "NHWC": {"prefer_nhwc": 1},
    "CUDA graph": {"enable_cuda_graph": 1},
    "NHWC, CUDA graph": {"prefer_nhwc": 1, "enable_cuda_graph": 1},
}
PARITY = 0.999


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """One figure's failure is told and does not take the others along; a parity that fails does."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (told, and the others go on)
        print(f"{what}: NOT RUN: {type(error).__name__}: {str(error).splitlines()[0][:300]}", flush=True)


def seconds(part: Callable[[], object], rounds: int) -> float:
    """Median of rounds; the first two warm up."""
    found = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        part()
        found.append(time.perf_counter() - began)
    return float(np.median(found[2:]))


def pictures(explainer: sise_ort.Explainer, count: int) -> list[Any]:
    """Smooth random frames: on plain noise all maps look alike."""
    spec = explainer.manifest.input
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = rng.random((8, 8, spec.channels))
        rows, columns = (np.linspace(0, 7, n).astype(int) for n in (spec.height, spec.width))
        found.append((255 * coarse[rows][:, columns]).astype(np.uint8))
    return found


def parity(bundle: Path, provider: str, count: int) -> bool:
    """Heat maps of the GPU against the CPU's, without TF32 and with it."""
    there = sise_ort.load(bundle, provider="cpu")
    good = True
    for title, options in (("use_tf32=0", {"use_tf32": 0}), ("as it comes", {})):
        here = sise_ort.load(bundle, provider, provider_options=options if provider != "cpu" else None)
        found = []
        for frame in pictures(here, count):
            target = there.explain(frame, passes=0).target
            maps = [explainer.explain(frame, target, mu=0.75).heatmap for explainer in (there, here)]
            found.append(correlation(*maps))
        good &= min(found) >= PARITY or bool(not options)
        print(
            f"maps of {count} frames against the CPU's, {title}: correlation {min(found):.5f} at least",
            flush=True,
        )
    return good


def throughput(bundle: Path, provider: str, rounds: int) -> dict[str, Any]:
    """Masks a second at the best batch size, by variant of predict's session; returns the options of the fastest."""
    best: tuple[float, dict[str, Any]] = (0.0, {})
    for title, options in VARIANTS.items():
        if provider == "cpu" and options:
            continue
        with attempt(f"masks, {title}"):
            explainer = sise_ort.load(bundle, provider, provider_options=options)
            curve = measure(explainer.model, rounds=rounds)
            rate = 1 / curve.seconds[curve.best]
            rest = ", ".join(f"{size}: {1 / s:.0f}" for size, s in curve.seconds.items())
            print(f"masks a second, {title}: {rate:.0f} at a batch of {curve.best} ({rest})", flush=True)
            if rate > best[0]:
                best = rate, {"options": options, "batch": curve.best, "rate": rate}
    return best[1]


def explaining(bundle: Path, provider: str, fastest: dict[str, Any], rounds: int) -> float:
    """Explanations end to end, from a frame in host memory; returns masks a second of the full one."""
    explainer = sise_ort.load(bundle, provider, fastest["batch"], provider_options=fastest["options"])
    model, frame = explainer.model, pictures(explainer, 1)[0]
    spec = explainer.manifest.input
    image = model.upload(frame)
    extract = seconds(lambda: model.extract(image, [-1], 1.0), rounds)
    print(f"extract: {1e3 * extract:.2f} ms")
    result = explainer.explain(frame)
    masks, size = sum(result.mask_counts), model.batch_size
    whole = seconds(lambda: explainer.explain(frame), rounds)
    # predict alone, its input lying on the device
    session, batches = model.sessions.get("predict"), -(-masks // size)
    held = model.provider.tensor(np.zeros((size, spec.channels, spec.height, spec.width), np.float32))
    bare = seconds(
        lambda: [session.run({"input": held}, fetch=["scores", "confidence"]) for _ in range(batches)],
        rounds,
    )
    print(f"mu 0: {1e3 * whole:.1f} ms, {masks} masks in batches of {size}")
    print(f"explain / (extract + predict of as many inputs): {whole / (extract + bare):.3f}")
    for passes in (16, 32, 64):
        spent = seconds(lambda passes=passes: explainer.explain(frame, passes=passes), rounds)
        print(f"{passes} passes: {1e3 * spent:.1f} ms")
    explainer.warm_up()
    for deadline in (0.02, 0.05, 0.2):
        late = []
        for _ in range(100):
            began = time.perf_counter()
            explainer.explain(frame, deadline=deadline)
            late.append(time.perf_counter() - began - deadline)
        batch = bare / batches
        kept = int((np.array(late) <= batch).sum())
        print(
            f"deadline {1e3 * deadline:.0f} ms: kept in {kept} of 100 runs with a margin of one batch "
            f"({1e3 * batch:.1f} ms); latest {1e3 * max(late):+.1f} ms",
            flush=True,
        )
    return masks / whole


def torch_throughput(name: str, size: int | None, rounds: int, device: str) -> float:
    """A careful torch SISE's scoring: fp16, channels last, compiled; masks made, applied and scored on the device."""
    import torch

    from sise_ort.exporter.sources.torch_model import torchvision_package

    half = torch.float16 if device == "cuda" else torch.float32
    net = torchvision_package().models.get_model(name, weights=None).eval().requires_grad_(False)
    net = net.to(device, half, memory_format=torch.channels_last)
    fast = torch.compile(net, mode="max-autotune") if device == "cuda" else net
    side = size or 224
    picture = torch.randn(1, 3, side, side, device=device, dtype=half)
    maps = torch.rand(512, 1, 14, 14, device=device)

    def score(part: Any) -> Any:
        wide = torch.nn.functional.interpolate(part, size=(side, side), mode="bilinear", align_corners=False)
        least, most = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
        masks = (wide - least) / (most - least)
        inputs = (picture * masks.to(half)).contiguous(memory_format=torch.channels_last)
        return fast(inputs).softmax(dim=1)[:, 0] / masks.sum((1, 2, 3))

    best = 0.0
    for batch in (64, 128, 256) if device == "cuda" else (8,):

        def everything(batch: int = batch) -> None:
            with torch.inference_mode():
                found = [score(part) for part in maps[: 512 if device == "cuda" else 16].split(batch)]
                torch.cat(found).cpu()

        rate = (512 if device == "cuda" else 16) / seconds(everything, rounds)
        print(f"torch {torch.__version__}, masks a second at a batch of {batch}: {rate:.0f}", flush=True)
        best = max(best, rate)
    return best


def everything(title: str, bundle: Path, arguments: argparse.Namespace) -> tuple[bool, float]:
    """All figures of one bundle; whether parity holds, and masks a second end to end."""
    print(f"\n== {title}", flush=True)
    good, rate = False, 0.0
    with attempt("parity"):
        good = parity(bundle, arguments.provider, arguments.frames)
    with attempt("figures"):
        fastest = throughput(bundle, arguments.provider, arguments.rounds)
        rate = explaining(bundle, arguments.provider, fastest, arguments.rounds)
        print(f"masks a second, end to end: {rate:.0f}", flush=True)
    if arguments.provider == "cuda":
        with attempt("placement"):
            report(bundle, {})
        with attempt("TensorRT"):
            explainer = sise_ort.load(bundle, "tensorrt")
            curve = measure(explainer.model, (64, 256), arguments.rounds)
            print(f"TensorRT, masks a second: {1 / curve.seconds[curve.best]:.0f} at a batch of {curve.best}")
    return good, rate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["resnet50"], help="torchvision names or bundles")
    parser.add_argument("--size", type=int, help="of the network's input")
    parser.add_argument("--provider", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=4, help="for parity")
    arguments = parser.parse_args()
    print(
        f"{gpu()[0]}, driver {gpu()[1]}, TensorRT {tensorrt_version()}, onnxruntime {version()}, sise-ort "
        f"{sise_ort.__version__}, {platform.platform()}, {time.strftime('%Y-%m-%d')}"
    )
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models:
            if Path(model).is_dir():
                good &= everything(model, Path(model), arguments)[0]
                continue
            rates = []
            for precision in ("fp32", "fp16"):
                bundle = Path(folder) / f"{model}-{precision}.sise"
                given: dict[str, Any] = {"precision": precision}
                if precision == "fp16":
                    given |= {"least_correlation": 0.0}  # random weights are not what it is meant for
                try:
                    sise_ort.export(
                        model,
                        bundle,
                        weights="NONE",
                        normalize="imagenet",
                        input_size=arguments.size,
                        **given,
                    )
                except SiseError as error:
                    print(f"{model} in {precision}: NOT RUN: {error}")
                    good = False
                    continue
                fine, rate = everything(f"{model}, {precision}", bundle, arguments)
                good &= fine
                rates.append(rate)
            with attempt("torch"):
                device = "cuda" if arguments.provider == "cuda" else "cpu"
                theirs = torch_throughput(model, arguments.size, arguments.rounds, device)
                print(f"ours, end to end, in fp16 / torch's: {rates[-1] / theirs:.2f}")
    if not good:
        sys.exit(f"parity below {PARITY}, or not run")


if __name__ == "__main__":
    main()
