"""How many damaged JPEG files are refused, and what checking costs.

python benchmarks/damaged_jpegs.py FOLDER [--pictures 200]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from sise_ort import FrameError
from sise_ort.pictures.jpeg import check_jpeg, require_undamaged


def zeroed(data: bytearray, place: int) -> None:
    data[place : place + 512] = bytes(512)


def cut(data: bytearray, place: int) -> None:
    del data[place : place + 100]


def eight_bytes(data: bytearray, place: int) -> None:
    data[place : place + 8] = random.randbytes(8)


def one_byte(data: bytearray, place: int) -> None:
    data[place] ^= random.randrange(1, 256)


def one_bit(data: bytearray, place: int) -> None:
    data[place] ^= 1 << random.randrange(8)


DAMAGES: dict[str, Callable[[bytearray, int], None]] = {
    "512 bytes zeroed": zeroed,
    "100 bytes cut out": cut,
    "8 random bytes": eight_bytes,
    "one wrong byte": one_byte,
    "one wrong bit": one_bit,
}


def refused(data: bytes) -> bool:
    try:
        require_undamaged(data[: check_jpeg(data, "picture").scan_end], "picture")
    except FrameError:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="folder with JPEG files, searched with all folders in it")
    parser.add_argument("--pictures", type=int, default=200, help="number of files to damage")
    options = parser.parse_args()
    files = sorted(p for p in options.folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    print(f"{len(files)} files, {sum(refused(p.read_bytes()) for p in files)} refused as they are")
    random.seed(0)
    pictures = [p.read_bytes() for p in files[: options.pictures]]
    checking, decoding = [], []
    for data in pictures:
        started = time.perf_counter()
        refused(data)
        between = time.perf_counter()
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        checking.append(between - started)
        decoding.append(time.perf_counter() - between)
    size = statistics.median(map(len, pictures)) / 1e3
    print(
        f"median of {len(pictures)} files ({size:.0f} kB): {1e3 * statistics.median(checking):.2f} ms to check, "
        f"{1e3 * statistics.median(decoding):.2f} ms to decode"
    )
    for words, damage in DAMAGES.items():
        found = 0
        for data in pictures:
            changed = bytearray(data)
            start = data.rindex(b"\xff\xda") + 14
            damage(changed, random.randrange(start, len(data) - 520))
            found += refused(bytes(changed))
        print(f"{words}: {100 * found / len(pictures):.0f} % refused")


if __name__ == "__main__":
    main()
