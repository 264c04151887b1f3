"""Fetch what may be fetched of the data behind our figures; docs/data.md says what else belongs there.

    python benchmarks/fetch_data.py ../data              # everything that has a public address
    python benchmarks/fetch_data.py ../data --part coco  # one part: models, coco or wild
    python benchmarks/fetch_data.py ../data --list       # addresses and licences, nothing is fetched

Files that are there are left alone. A file whose content is known is compared with its SHA-256 before it gets its name.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

GITHUB = "https://github.com"
COCO = "http://images.cocodataset.org"
COCO_PICTURES = 79
SECONDS = 60.0


@dataclass(frozen=True)
class Item:
    """One file that has a public address.

    Attributes
    ----------
    part : str
        "models" or "wild".
    path : str
        Where it lies in DATA.
    address : str
        Where it is fetched from.
    licence : str
    sha256 : str
        Of the content that was measured with; empty where the public file is another form of it.
    """

    part: str
    path: str
    address: str
    licence: str
    sha256: str = ""


ITEMS = (
    Item(
        "models",
        "models/squeezenet1.1_fp32.onnx",
        f"{GITHUB}/onnx/models/raw/main/validated/vision/classification/squeezenet/model/squeezenet1.1-7.onnx",
        "Apache-2.0",
    ),
    Item(
        "wild",
        "wild/yolox_nano.onnx",
        f"{GITHUB}/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_nano.onnx",
        "Apache-2.0",
        "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
    ),
    Item(
        "wild",
        "wild/ultraface_rfb320.onnx",
        f"{GITHUB}/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB/raw/master/models/onnx/version-RFB-320.onnx",
        "MIT",
        "34cd7e60aeff28744c657de7a3dc64e872d506741de66987f3426f2b79f88017",
    ),
    Item(
        "wild",
        "wild/silero_vad.onnx",
        f"{GITHUB}/snakers4/silero-vad/raw/v5.1.2/src/silero_vad/data/silero_vad.onnx",
        "MIT",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    ),
)


def require(data: Path, *parts: str) -> None:
    """Stop with one sentence where DATA lacks a part.

    Parameters
    ----------
    data : Path
        The folder DATA of docs/data.md.
    *parts : str
        Files or folders in it, such as "models" or "imagenet_val400/boxes.csv".

    Raises
    ------
    SystemExit
    """
    missing = [part for part in parts if not (data / part).exists()]
    if missing:
        raise SystemExit(
            f"'{data}' lacks {' and '.join(missing)}: docs/data.md says what it is and where it comes from; "
            "`python benchmarks/fetch_data.py DATA` fetches what may be fetched"
        )


def fetch(item: Item, data: Path) -> str:
    """Fetch one file into DATA, and say what happened.

    Raises
    ------
    OSError
        The address cannot be reached.
    ValueError
        What lies there is not the file that was measured with.
    """
    target = data / item.path
    if target.exists():
        return "is there already"
    content = read(item.address)
    found = hashlib.sha256(content).hexdigest()
    if item.sha256 and found != item.sha256:
        raise ValueError(f"has other content than the file that was measured with (SHA-256 {found})")
    _write(target, content)
    return f"{len(content) / 1e6:.1f} MB from {item.address}"


def fetch_coco(data: Path, count: int = COCO_PICTURES, address: str = COCO) -> str:
    """Fetch the pictures of val2017 with the lowest numbers, and their part of the annotations."""
    folder = data / "coco_val79"
    annotations = folder / "annotations" / "instances_val2017.json"
    if annotations.exists():
        return "is there already"
    with zipfile.ZipFile(io.BytesIO(read(f"{address}/annotations/annotations_trainval2017.zip"))) as archive:
        whole = json.loads(archive.read("annotations/instances_val2017.json"))
    images = sorted(whole["images"], key=lambda image: image["id"])[:count]
    taken = {image["id"] for image in images}
    for image in images:
        target = folder / "val2017" / image["file_name"]
        if not target.exists():
            _write(target, read(f"{address}/val2017/{image['file_name']}"))
    masks = [one for one in whole["annotations"] if one["image_id"] in taken]
    _write(annotations, json.dumps({**whole, "images": images, "annotations": masks}).encode())
    return f"{len(images)} pictures, {len(masks)} masks"


def read(address: str) -> bytes:
    """The content of an address."""
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        content: bytes = answer.read()
    return content


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(content)
    shutil.move(part, target)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder to write, the DATA of docs/data.md")
    parser.add_argument(
        "--part", action="append", choices=("models", "coco", "wild"), help="repeatable [all]"
    )
    parser.add_argument("--list", action="store_true", help="print addresses and licences, fetch nothing")
    arguments = parser.parse_args()
    parts = arguments.part or ["models", "coco", "wild"]
    items = [item for item in ITEMS if item.part in parts]
    if arguments.list:
        for item in items:
            print(f"{item.path}: {item.licence}, {item.address}")
        if "coco" in parts:
            print(
                f"coco_val79: annotations CC BY 4.0, pictures as each one's licence in them says, {COCO} (241 MB)"
            )
        return
    failed = 0
    jobs = [(item.path, lambda item=item: fetch(item, arguments.data)) for item in items]
    if "coco" in parts:
        jobs.append(("coco_val79", lambda: fetch_coco(arguments.data)))
    for name, job in jobs:
        try:
            print(f"{name}: {job()}")
        except urllib.error.HTTPError as error:
            failed += 1
            print(
                f"{name}: the server answers {error.code}; it may have moved (docs/data.md says where it comes from)"
            )
        except OSError as error:
            raise SystemExit(
                f"{name}: there is no network, or its server cannot be reached ({getattr(error, 'reason', error)}); "
                "what was fetched before stays"
            ) from error
        except ValueError as error:
            failed += 1
            print(f"{name}: not kept; it {error}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
