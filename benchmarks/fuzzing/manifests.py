"""Manifests: any field changed, lost or added; any byte changed; and bundles whose files are not what it says."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from fuzzing.cases import NASTY, Place, case, judge_result

AREA = "manifests"


def bundle(place: Place, name: str = "") -> Path:
    """A copy of a sample bundle."""
    target = place.inputs / "model.sise"
    shutil.copytree(place.samples / f"{name or place.rng.choice(('tiny', 'sigmoid'))}.sise", target)
    return target


def explain(place: Place, folder: Path, **settings: Any) -> None:
    """Load it and explain a picture with it."""
    import sise_ort

    place.freeze()
    with sise_ort.load(folder, "cpu", batch_size=4, **settings) as explainer:
        judge_result(
            explainer.explain(
                place.picture() if place.rng.random() < 0.5 else place.samples / "pictures" / "strip.png"
            )
        )


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in nested JSON."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += paths(inner, (*path, key))
    return found


def jsonable(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value


@case(AREA, 5)
def field_changed(place: Place) -> None:
    folder = bundle(place)
    facts = json.loads((folder / "manifest.json").read_text())
    for _ in range(place.rng.choice((1, 1, 1, 2, 5))):
        *outer, last = place.rng.choice([p for p in paths(facts) if p])
        holder = facts
        for key in outer:
            holder = holder[key]
        change = place.rng.random()
        if change < 0.7:
            holder[last] = jsonable(place.rng.choice(NASTY))
        elif change < 0.85:
            del holder[last]
        elif isinstance(holder, dict):
            holder[place.rng.choice(("x", "", "\ud800", "a" * 10_000))] = jsonable(place.rng.choice(NASTY))
        else:
            holder.append(jsonable(place.rng.choice(NASTY)))
    (folder / "manifest.json").write_text(json.dumps(facts), encoding="utf-8", errors="surrogatepass")
    explain(place, folder)


@case(AREA, 3)
def bytes_changed(place: Place) -> None:
    folder = bundle(place)
    path = folder / place.rng.choice(
        ("manifest.json", "manifest.json", "extract.onnx", "weights.bin", "predict.onnx")
    )
    path.write_bytes(mutated(place, path.read_bytes()))
    explain(place, folder)


@case(AREA, 1)
def plausible_value(place: Place) -> None:
    """Values that could stand there but do not fit the graphs."""
    folder = bundle(place)
    facts = json.loads((folder / "manifest.json").read_text())
    change = place.rng.choice(
        ("size", "classes", "layers", "head", "mean", "dtype", "fit", "labels", "precision")
    )
    if change == "size":
        facts["input"]["height"], facts["input"]["width"] = facts["input"]["width"], facts["input"]["height"]
    elif change == "classes":
        facts["head"]["classes"], facts["labels"] = place.rng.choice((1, 3, 5, 1000)), []
    elif change == "layers":
        layer = place.rng.choice(facts["layers"])
        layer[place.rng.choice(("channels", "height", "width"))] = place.rng.choice((1, 5, 1000, 1 << 20))
        place.rng.shuffle(facts["layers"])
    elif change == "head":
        facts["head"]["kind"] = place.rng.choice(("softmax", "sigmoid", "none"))
    elif change == "mean":
        facts["preprocessing"]["std"] = [1e-30] * 3
    elif change == "dtype":
        facts["input"]["frame_dtype"] = "float32"
    elif change == "fit":
        facts["fit"] = {
            "mode": place.rng.choice(("crop", "stretch")),
            "resize": [place.rng.choice((1, 33, 9000)), 50],
            "border": [],
        }
    elif change == "labels":
        facts["labels"] = [place.rng.choice(("", "a", "\x1b[31m", "../x", "\u202e")) for _ in range(4)]
    else:
        facts["precision"] = "int8"
    (folder / "manifest.json").write_text(json.dumps(facts))
    explain(place, folder)


@case(AREA, 1)
def strange_text(place: Place) -> None:
    folder = bundle(place)
    texts: list[bytes] = [
        b"", b"null", b"[]", b"{}", b'"x"', b"{" * 100_000, b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe{}", b"\xef\xbb\xbf{}",
        b'{"format": "sise-ort bundle", "version": 1' + b"0" * 5000 + b"}", b'{"format": "sise-ort bundle", "version": 1e999}',
        b'{"format": "sise-ort bundle", "version": 2}', b'{"format": "sise-ort bundle", "version": NaN}', b"\0" * 1000,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n",
    ]  # fmt: skip
    (folder / "manifest.json").write_bytes(place.rng.choice(texts))
    explain(place, folder)


@case(AREA, 1)
def strange_file(place: Place) -> None:
    """What stands in a file's place is a folder, a pipe, a link, a giant or nothing."""
    folder = bundle(place)
    path = folder / place.rng.choice(("manifest.json", "extract.onnx", "weights.bin", "mask.onnx"))
    content = path.read_bytes()
    path.unlink()
    kind = place.rng.choice(("nothing", "folder", "fifo", "link", "loop", "device", "sparse"))
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        (place.inputs / "elsewhere").write_bytes(content)
        path.symlink_to(place.inputs / "elsewhere")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "sparse":
        with path.open("wb") as file:
            file.write(content)
            file.truncate(20 << 30)
    explain(place, folder)


@case(AREA, 1)
def swapped_graphs(place: Place) -> None:
    """Two graphs in one another's place, with hashes that fit."""
    folder = bundle(place)
    first, second = place.rng.sample(sorted(p.name for p in folder.glob("*.onnx")), 2)
    one, other = (folder / first).read_bytes(), (folder / second).read_bytes()
    (folder / first).write_bytes(other)
    (folder / second).write_bytes(one)
    rehash(folder)
    explain(place, folder)


def rehash(folder: Path) -> None:
    """Write the hashes of the files as they are into the manifest, as an attacker would."""
    facts = json.loads((folder / "manifest.json").read_text())
    for name in facts["files"]:
        facts["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(facts))


def mutated(place: Place, content: bytes) -> bytes:
    """Some bytes changed, or a part cut off, lost, doubled or zeroed."""
    data, rng = bytearray(content), place.rng
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        change, at = rng.randrange(6), rng.randrange(max(len(data), 1))
        end = min(len(data), at + rng.choice((1, 4, 64, 1024)))
        if change < 2 and data:
            data[at % len(data)] = rng.randrange(256)
        elif change == 2:
            del data[at:end]
        elif change == 3:
            data[at:at] = data[at:end]
        elif change == 4:
            data[at:end] = rng.choice((b"\0", b"\xff")) * (end - at)
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)
