"""Train the built-in demo model and draw its sample strips: ``python examples/steel/train.py``.

Writes ``cli/steel/steel.onnx`` and ``cli/steel/strips/*.png`` with ``*.mask.png`` beside them. Tens of minutes on two
idle cores. The seeds are fixed; other processors and library versions may end at slightly other weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from noise import smooth_noise
from numpy.typing import NDArray
from strips import CLASSES, HEIGHT, WIDTH, draw_strip
from torch import Tensor, nn

STEEL = Path(__file__).resolve().parents[2] / "cli" / "steel"
MEAN, STD = 90.0, 50.0
CELL = 16
"""Side in pixels of the squares for which the network answers before its last pooling."""
IGNORED = 255
CROP = 400
SAMPLES = (
    ("pitted", 101), ("dashes", 202), ("scratches", 303), ("scabs", 404), ("sound", 505), ("pitted+scratches", 606)
)  # fmt: skip


def steel_net() -> nn.Sequential:
    """Eight convolutions, 1/2 to 1/16 of the strip's size, one score per defect and cell, the largest one, a sigmoid."""

    def block(inputs: int, outputs: int, stride: int, size: int = 3) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    widths = (
        (1, 12, 2, 5),
        (12, 24, 2),
        (24, 24, 1),
        (24, 48, 2),
        (48, 48, 1),
        (48, 72, 2),
        (72, 72, 1),
        (72, 72, 1),
    )
    layers = [layer for shape in widths for layer in block(*shape)]
    scores = nn.Conv2d(72, len(CLASSES), 1)
    nn.init.constant_(scores.bias, -4.0)  # type: ignore[arg-type]
    return nn.Sequential(*layers, scores, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Sigmoid())


def sample(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a strip with no, one or two kinds of defects, and mark the cells [4, 16, 100] that they cover.

    1: a defect covers an eighth of the cell or more; 0: none of it; `IGNORED`: something between.
    """
    rng = np.random.default_rng([7, seed])
    kinds = rng.permutation(len(CLASSES))[: rng.choice([0, 1, 2], p=[0.35, 0.45, 0.2])]
    strip, masks = draw_strip([CLASSES[k] for k in kinds], rng)
    cells = np.zeros((len(CLASSES), HEIGHT // CELL, WIDTH // CELL), np.uint8)
    for kind, mask in zip(kinds, masks, strict=True):
        cover = mask.reshape(HEIGHT // CELL, CELL, WIDTH // CELL, CELL).mean((1, 3))
        cells[kind] = np.where(cover >= 0.125, 1, np.where(cover > 0, IGNORED, 0))
    return strip, cells


def drawn(seeds: range) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Draw a strip per seed, in two processes."""
    with get_context("spawn").Pool(2) as pool:
        return list(pool.imap(sample, seeds, chunksize=8))


def batches(
    samples: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], rng: np.random.Generator, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield quarters of strips, mirrored at random; a quarter is faded in places, with the defects that vanish there."""
    order: list[int] = []
    while True:
        pixels = np.empty((size, 1, HEIGHT, CROP), np.float32)
        truths = np.empty((size, len(CLASSES), HEIGHT // CELL, CROP // CELL), np.uint8)
        for k in range(size):
            order = order or rng.permutation(len(samples)).tolist()
            strip, cells = samples[order.pop()]
            first = int(rng.integers(0, (WIDTH - CROP) // CELL + 1))
            down, across = (int(step) for step in rng.choice([-1, 1], 2))
            part = strip[:, first * CELL : first * CELL + CROP][::down, ::across].astype(np.float32)
            pixels[k, 0] = (part * np.exp(rng.normal(0, 0.15)) - MEAN) / STD
            truths[k] = cells[:, :, first : first + CROP // CELL][:, ::down, ::across]
            if rng.random() < 0.25:
                _fade(pixels[k, 0], truths[k], rng)
        yield torch.from_numpy(pixels), torch.from_numpy(truths)


def _fade(pixels: NDArray[np.float32], truth: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Fade parts of a strip to the mean, as masks do."""
    sigma = rng.uniform(15, 60)
    visible = 1 / (1 + np.exp(-3 * (smooth_noise(rng, sigma, sigma)[:, :CROP] + rng.uniform(-1, 1))))
    pixels *= visible
    seen = visible.reshape(HEIGHT // CELL, CELL, CROP // CELL, CELL).mean((1, 3))
    truth[(truth == 1) & (seen < 0.6)] = IGNORED
    truth[:, seen < 0.25] = 0


def loss_of(scores: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy of the cells, where a defect counts five times, and of the whole picture."""
    known = (truth != IGNORED).float()
    target = (truth == 1).float()
    cells = nn.functional.binary_cross_entropy_with_logits(scores, target, known * (1 + 4 * target))
    picture = nn.functional.binary_cross_entropy_with_logits(scores.amax((2, 3)), target.amax((2, 3)))
    return 4 * cells + 0.25 * picture


def trained(steps: int, size: int, strips: int) -> nn.Sequential:
    """Train a network on drawn strips alone."""
    torch.manual_seed(0)
    net = steel_net()
    body = net[:-3]
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    samples = drawn(range(strips))
    print(f"{strips} strips drawn", flush=True)
    running = 0.0
    stream = itertools.islice(batches(samples, np.random.default_rng(1), size), steps)
    for step, (pixels, truth) in enumerate(stream, 1):
        with torch.autocast("cpu", torch.bfloat16):
            scores = body(pixels)
        loss = loss_of(scores.float(), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        running += (float(loss.detach()) - running) * max(0.05, 1 / step)
        if step % 25 == 0:
            print(f"step {step:4d}  loss (running) {running:.3f}", flush=True)
    return net.eval()


def judge(net: nn.Sequential, strips: int) -> str:
    """Say how many defects of strips that the network never saw are right."""
    unseen = drawn(range(10**6, 10**6 + strips))
    with torch.no_grad():
        seen = [
            net(torch.from_numpy((s[None, None] - np.float32(MEAN)) / STD))[0].numpy() > 0.5
            for s, _ in unseen
        ]
    there = np.array([(cells == 1).any((1, 2)) for _, cells in unseen])
    right = np.array(seen) == there
    each = ", ".join(f"{kind} {np.mean(column):.0%}" for kind, column in zip(CLASSES, right.T, strict=True))
    return f"all defects right on {right.all(1).sum()} of {strips} strips that it never saw; by kind: {each}"


def write_network(net: nn.Sequential, path: Path) -> None:
    """Write the network as ONNX."""
    program = torch.onnx.export(
        net,
        (torch.zeros(2, 1, HEIGHT, WIDTH),),
        input_names=["strip"],
        output_names=["confidence"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph:  # the exporter notes this machine's paths in every node
        for key in ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node"):
            node.metadata_props.pop(key, None)
    program.save(path, external_data=False)
    (path.parent / "labels.txt").write_text("\n".join(CLASSES) + "\n")


def sample_strip(
    net: nn.Sequential, kinds: list[str], seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw a strip for the demo: of 50 seeds, the first one on which the network is right."""
    for tried in range(seed, seed + 50):
        strip, masks = draw_strip(kinds, np.random.default_rng(tried))
        with torch.no_grad():
            seen = net(torch.from_numpy((strip[None, None] - np.float32(MEAN)) / STD))[0] > 0.5
        if {kind for kind, there in zip(CLASSES, seen, strict=True) if there} == set(kinds):
            return strip, masks
    raise SystemExit(f"the network is right on no strip of {kinds or 'the sound ones'}: train it longer")


def write_samples(net: nn.Sequential, folder: Path) -> None:
    """Write the demo's strips with their masks."""
    facts = {words.replace("+", "-"): [k for k in words.split("+") if k in CLASSES] for words, _ in SAMPLES}
    found = [sample_strip(net, kinds, seed) for kinds, (_, seed) in zip(facts.values(), SAMPLES, strict=True)]
    (folder / "strips").mkdir(parents=True, exist_ok=True)
    for old in (folder / "strips").glob("*.png"):
        old.unlink()
    for (name, kinds), (strip, masks) in zip(facts.items(), found, strict=True):
        cv2.imwrite(str(folder / "strips" / f"{name}.png"), strip)
        for kind, mask in zip(kinds, masks, strict=True):
            cv2.imwrite(str(folder / "strips" / f"{name}.{kind}.mask.png"), mask.astype(np.uint8) * 255)
    (folder / "strips.json").write_text(
        json.dumps({"mean": MEAN, "std": STD, "strips": facts}, indent=2) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000, help="training steps")
    parser.add_argument("--batch", type=int, default=8, help="quarter strips a step")
    parser.add_argument("--strips", type=int, default=2000, help="strips to draw for training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    net = trained(arguments.steps, arguments.batch, arguments.strips)
    print(judge(net, 60))
    STEEL.mkdir(exist_ok=True)
    write_samples(net, STEEL)
    write_network(net, STEEL / "steel.onnx")


if __name__ == "__main__":
    main()
