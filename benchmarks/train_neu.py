"""Train a torchvision classifier on NEU surface defects, for the table of docs/results.md.

    python benchmarks/train_neu.py ../shared/data --model resnet18 --epochs 7 -o neu_resnet18.pth
    sise-ort export resnet18 --weights neu_resnet18.pth --classes 6 --input-size 200 --fit stretch --normalize imagenet

The folder holds neu_det/images (Song and Yan, Appl. Surf. Sci. 285, 2013): 300 pictures of each of six defects. The
split is fixed: numbers 251 to 300 of every defect are for testing and are never trained on. From random weights.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fetch_data import require

from sise_ort.exporter.sources.torch_model import torchvision_package
from sise_ort.frame import read_frame

CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
FIRST_OF_TEST = 251
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def split(data: Path) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """Pictures with their class, for training and for testing."""
    parts: tuple[list[tuple[Path, int]], list[tuple[Path, int]]] = ([], [])
    require(data, "neu_det/images")
    for path in sorted((data / "neu_det" / "images").iterdir()):
        found = re.fullmatch(r"(.+)_(\d+)", path.stem)
        if found and found[1] in CLASSES:
            parts[int(found[2]) >= FIRST_OF_TEST].append((path, CLASSES.index(found[1])))
    return parts


def tensors(pictures: list[tuple[Path, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [n, 1, 200, 200] and classes [n]."""
    frames = [read_frame(path)[:, :, :1].transpose(2, 0, 1) for path, _ in pictures]
    return torch.from_numpy(np.stack(frames)), torch.tensor([label for _, label in pictures])


def prepared(frames: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    return ((frames.expand(-1, 3, -1, -1) - mean) / std).contiguous(memory_format=torch.channels_last)


def accuracy(net: Any, frames: torch.Tensor, labels: torch.Tensor) -> float:
    net.eval()
    with torch.inference_mode():
        right = sum(
            int((net(prepared(frames[i : i + 32])).argmax(1) == labels[i : i + 32]).sum())
            for i in range(0, len(frames), 32)
        )
    return right / len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--crop", type=int, default=128, help="side of the crops; the last epoch takes 200")
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    training, testing = split(arguments.data)
    frames, labels = tensors(training)
    net = torchvision_package().models.get_model(arguments.model, weights=None, num_classes=len(CLASSES))
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    batches = len(frames) // 32
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=arguments.epochs * batches)
    for epoch in range(arguments.epochs):
        net.train()
        order = rng.permutation(len(frames))
        side = 200 if epoch == arguments.epochs - 1 else arguments.crop
        total = 0.0
        for i in range(batches):
            chosen = order[32 * i : 32 * (i + 1)]
            y, x = rng.integers(0, 201 - side, 2)
            part = frames[chosen, :, y : y + side, x : x + side]
            part = part.flip([axis for axis in (2, 3) if rng.random() < 0.5])
            loss = torch.nn.functional.cross_entropy(
                net(prepared(part)), labels[chosen], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total / batches:.3f}", flush=True)
    print(f"accuracy on {len(testing)} test pictures: {accuracy(net, *tensors(testing)):.3f}")
    torch.save(net.state_dict(), arguments.out)


if __name__ == "__main__":
    main()
