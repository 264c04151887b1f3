"""Train the built-in demo model and draw its sample strips: ``python examples/steel/train.py``.

Writes ``cli/steel/steel.onnx`` and ``cli/steel/strips/*.png`` with ``*.mask.png`` beside them. About half an
hour on two cores. The seeds are fixed; other library versions may end at slightly other weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from strips import CLASSES, HEIGHT, WIDTH, draw_strip, smooth_noise
from torch import Tensor, nn

STEEL = Path(__file__).resolve().parents[2] / "cli" / "steel"
MEAN, STD = 128.0, 64.0
SAMPLES = (
    ("scratch", 101), ("pitting", 202), ("patch", 303), ("crack", 404), ("sound", 505), ("scratch+patch", 606)
)  # fmt: skip


def steel_net() -> nn.Sequential:
    """Five convolutional blocks, 1/1 to 1/16 of the strip's size, a linear layer and one sigmoid per defect.

    `main` keeps the linear weights at 0 or above: a defect's score is then a sum of evidence for it, and a strip
    without any scores the (negative) bias.
    """

    def block(inputs: int, outputs: int, layers: int) -> list[nn.Module]:
        stack: list[nn.Module] = []
        for i in range(layers):
            stack += [nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1, bias=False)]
            stack += [nn.BatchNorm2d(outputs), nn.ReLU()]
        return stack

    widths = ((1, 12, 1), (12, 24, 1), (24, 40, 2), (40, 64, 2), (64, 96, 2))
    layers: list[nn.Module] = []
    for index, (inputs, outputs, depth) in enumerate(widths):
        layers += ([nn.MaxPool2d(2)] if index else []) + block(inputs, outputs, depth)
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1][1], len(CLASSES)), nn.Sigmoid()
    )


def batches(rng: np.random.Generator, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Strips with no, one or two defects; of a third, parts are faded to the mean, and defects that vanish with them."""
    while True:
        strips, truths = (
            np.empty((size, 1, HEIGHT, WIDTH), np.float32),
            np.zeros((size, len(CLASSES)), np.float32),
        )
        for strip, truth in zip(strips, truths, strict=True):
            kinds = [
                int(k) for k in rng.permutation(len(CLASSES))[: rng.choice([0, 1, 2], p=[0.25, 0.55, 0.2])]
            ]
            pixels, masks = draw_strip([CLASSES[k] for k in kinds], rng)
            strip[0] = (pixels - MEAN) / STD
            visible = np.ones((HEIGHT, WIDTH))
            if rng.random() < 0.35:
                sigma = rng.uniform(15, 60)
                visible = 1 / (1 + np.exp(-3 * (smooth_noise(rng, sigma, sigma) + rng.uniform(-1, 1))))
                strip[0] *= visible
            for k, mask in zip(kinds, masks, strict=True):
                truth[k] = np.clip(2.5 * float(visible[mask].mean()) - 0.75, 0, 1)
            strip[0] = strip[0, :: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))]
        yield torch.from_numpy(strips), torch.from_numpy(truths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=10)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    net = steel_net()
    linear, body = net[-2], net[:-1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.abs_()
        linear.bias.fill_(-3.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, arguments.steps)
    running = 0.0
    for step, (strips, truths) in enumerate(batches(np.random.default_rng(1), arguments.batch), 1):
        logits = body(strips)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            linear.weight.clamp_(min=0)
        running += 0.05 * (float(((logits > 0) == (truths > 0.5)).float().mean()) - running)
        if step % 25 == 0:
            print(
                f"step {step:4d}  loss {float(loss.detach()):.3f}  right (running) {running:.3f}", flush=True
            )
        if step == arguments.steps:
            break

    net.eval()
    with torch.no_grad():
        test = batches(np.random.default_rng(2), 10)
        right = sum(
            int(((net(x) > 0.5) == (y > 0.5)).all(1).sum()) for x, y in (next(test) for _ in range(20))
        )
    print(f"all defects right on {right} of 200 strips that it never saw")

    (STEEL / "strips").mkdir(parents=True, exist_ok=True)
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
    for node in program.model.graph:  # the exporter notes this machine's paths in every node
        for key in ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node"):
            node.metadata_props.pop(key, None)
    program.save(STEEL / "steel.onnx", external_data=False)
    (STEEL / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    facts = {}
    for words, seed in SAMPLES:
        kinds = [k for k in words.split("+") if k in CLASSES]
        strip, masks = draw_strip(kinds, np.random.default_rng(seed))
        name = words.replace("+", "-")
        facts[name] = kinds
        cv2.imwrite(str(STEEL / "strips" / f"{name}.png"), strip)
        for kind, mask in zip(kinds, masks, strict=True):
            cv2.imwrite(str(STEEL / "strips" / f"{name}.{kind}.mask.png"), mask.astype(np.uint8) * 255)
    (STEEL / "strips.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
