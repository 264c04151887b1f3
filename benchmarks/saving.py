"""Seconds and bytes of a saved result, beside plain PNG and JPEG files of the same picture.

    python benchmarks/saving.py BUNDLE PICTURE [--size 4096x3000] [--noise 2] [--rounds 7]

The picture is enlarged to the size, width first, and noise of a camera is added, since a smooth picture is small in any format.
All rows take turns in one process; the table shows medians, and ratios to writing the plain picture as JPEG.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import sise_ort
from sise_ort.drawing import captioned, encode_jpeg, encode_png
from sise_ort.files import write_file


def enlarged(picture: str, size: tuple[int, int], noise: float) -> np.ndarray:
    """The picture at that width and height with noise, uint8 [H, W, 3], RGB."""
    read = cv2.imread(picture)
    if read is None:
        raise SystemExit(f"{picture} is no picture that OpenCV reads")
    large = cv2.resize(read[:, :, ::-1], size, interpolation=cv2.INTER_CUBIC)
    shaken = large + np.random.default_rng(0).normal(0, noise, large.shape)
    return np.clip(np.rint(shaken), 0, 255).astype(np.uint8)


def measure(work: dict[str, Callable[[Path], object]], rounds: int) -> dict[str, tuple[list[float], int]]:
    """Per row, seconds of each round, and bytes written."""
    found: dict[str, tuple[list[float], int]] = {name: ([], 0) for name in work}
    for _ in range(rounds):
        for name, do in work.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                do(Path(folder))
                found[name][0].append(time.perf_counter() - began)
                found[name] = found[name][0], sum(f.stat().st_size for f in Path(folder).iterdir())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("picture")
    parser.add_argument("--size", default="4096x3000", help="width x height")
    parser.add_argument("--noise", type=float, default=2.0, help="standard deviation of the noise, of 255")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    frame = enlarged(arguments.picture, (width, height), arguments.noise)
    with sise_ort.load(arguments.bundle, "cpu") as explainer:
        result = explainer.explain(frame, method="refine")

    def anew() -> sise_ort.Explanation:
        result.__dict__.pop("frame_heatmap", None)  # made once for each result
        return result

    work: dict[str, Callable[[Path], object]] = {
        "plain JPEG, quality 90": lambda out: write_file(out / "x.jpg", encode_jpeg(frame, 90)),
        "plain PNG": lambda out: write_file(out / "x.png", encode_png(frame)),
        "save": lambda out: anew().save(out, "x"),
        "save, formats=[png, npy]": lambda out: anew().save(out, "x", formats=["png", "npy"]),
        "save, formats=[npz]": lambda out: anew().save(out, "x", formats=["npz"]),
        "of save: heat map at frame size": lambda _: anew().frame_heatmap,
        "of save: overlay, caption": lambda _: captioned(result.overlay(), result.caption),
        "of save: identity": lambda _: result.identity(),
    }
    measure(work, 1)
    found = measure(work, arguments.rounds)
    print(
        f"{width} × {height} pixels, {platform.processor() or platform.machine()}, "
        f"OpenCV {cv2.__version__}, {cv2.getNumThreads()} threads, {arguments.rounds} rounds\n"
    )
    print("| | seconds | ratio | MB |\n|---|---|---|---|")
    base = found["plain JPEG, quality 90"][0]
    for name, (seconds, size) in found.items():
        ratio = np.median(np.divide(seconds, base))
        print(f"| {name} | {np.median(seconds):.3f} | {ratio:.2f} | {size / 1e6:.2f} |")


if __name__ == "__main__":
    main()
