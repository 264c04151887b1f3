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
from strips import CLASSES, HEIGHT, WIDTH, draw_strip
from torch import Tensor, nn

STEEL = Path(__file__).resolve().parents[2] / "cli" / "steel"
MEAN, STD = 128.0, 64.0
SAMPLES = (("scratch", 101), ("pitting", 202), ("patch", 303), ("crack", 404), ("sound", 505), ("crack", 606))


def steel_net() -> nn.Sequential:
    """Five convolutional blocks, 1/1 to 1/16 of the strip's size, and a linear classifier."""

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
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1][1], len(CLASSES)))


def batches(rng: np.random.Generator, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        labels = rng.integers(0, len(CLASSES), size)
        strips = np.stack([draw_strip(CLASSES[k], rng)[0] for k in labels])
        strips = np.stack([s[:: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))] for s in strips])
        yield torch.from_numpy((strips[:, None].astype(np.float32) - MEAN) / STD), torch.from_numpy(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=10)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    net = steel_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, arguments.steps)
    running = 0.0
    for step, (strips, labels) in enumerate(batches(np.random.default_rng(1), arguments.batch), 1):
        logits = net(strips)
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        running += 0.05 * (float((logits.argmax(1) == labels).float().mean()) - running)
        if step % 25 == 0:
            print(f"step {step:4d}  loss {float(loss.detach()):.3f}  accuracy (running) {running:.3f}", flush=True)
        if step == arguments.steps:
            break

    net.eval()
    with torch.no_grad():
        test = batches(np.random.default_rng(2), 10)
        right = sum(int((net(x).argmax(1) == y).sum()) for x, y in (next(test) for _ in range(20)))
    print(f"test accuracy {right / 200:.3f} on 200 strips that it never saw")

    (STEEL / "strips").mkdir(parents=True, exist_ok=True)
    program = torch.onnx.export(
        net,
        (torch.zeros(2, 1, HEIGHT, WIDTH),),
        input_names=["strip"],
        output_names=["logits"],
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
    for kind, seed in SAMPLES:
        strip, mask = draw_strip(kind, np.random.default_rng(seed))
        name = f"{kind}-{seed}"
        facts[name] = kind
        cv2.imwrite(str(STEEL / "strips" / f"{name}.png"), strip)
        cv2.imwrite(str(STEEL / "strips" / f"{name}.mask.png"), mask.astype(np.uint8) * 255)
    (STEEL / "strips.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
