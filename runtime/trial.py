"""Trying an untrusted bundle in a process of its own, with limits of memory and time, before it is opened here.

That process prints a JSON object.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import sise_ort
from sise_ort.bundle import Bundle, bundle_digest
from sise_ort.errors import BundleError, SiseError, first_line
from sise_ort.runtime.limits import Limits

THREADS = 2
"""CPU threads of the process."""
BASE = 2 << 30
"""Bytes that the process may take besides eight times the bundle's files, unless the limits say otherwise."""

BEGIN = "import sys; sys.path[:] = [*filter(None, sys.path), sys.argv[1]]; from sise_ort.runtime.trial import main; main()"
"""What the process runs: nothing from the working folder, which may hold modules of the bundle's maker."""


def require_harmless(bundle: Bundle, limits: Limits) -> None:
    """Open a bundle and run each of its graphs once in another process.

    Parameters
    ----------
    bundle : Bundle
        What was read; the process reads the folder again, and refuses anything else.
    limits : Limits
        `load_seconds` bounds the process's time, `load_memory` its memory.

    Raises
    ------
    BundleError
        A graph fails, or takes more time or memory.
    """
    files = sum(map(len, bundle.contents.values()))
    memory = limits.load_memory or min(limits.bytes, BASE + 8 * files)
    asked = {
        "folder": str(bundle.folder.absolute()),
        "digest": bundle_digest(bundle.manifest),
        "memory": memory,
        "seconds": limits.load_seconds,
        "run": limits.run_seconds,
    }
    words = [sys.executable, "-c", BEGIN, str(Path(sise_ort.__file__).parent.parent)]
    seconds = limits.load_seconds if math.isfinite(limits.load_seconds) else None
    try:
        done = subprocess.run(words, input=json.dumps(asked).encode(), capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise BundleError(
            f"bundle '{bundle.folder}': trying it took more than {limits.load_seconds:g} s; it is not opened"
        ) from error
    except OSError as error:
        raise BundleError(
            f"bundle '{bundle.folder}' cannot be tried in a process of its own: {error}"
        ) from error
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"error": _ending(done.returncode, memory)}
    if answer.get("error"):
        raise BundleError(f"bundle '{bundle.folder}' failed when it was tried: {answer['error']}")


def _ending(code: int, memory: int) -> str:
    """How a process that said nothing has ended, in words."""
    if code >= 0:
        return f"the process ended with {code}, perhaps since it needed more than {memory >> 20} MiB"
    with contextlib.suppress(ValueError):
        return f"the process was ended by {signal.Signals(-code).name}, perhaps since it needed more than {memory >> 20} MiB"
    return f"the process was ended by signal {-code}"


def run_once(bundle: Bundle, limits: Limits) -> None:
    """Open a bundle on the CPU and run each of its graphs once, on a gray frame."""
    from sise_ort.runtime.answers import example
    from sise_ort.runtime.model import BundleModel

    model = BundleModel(bundle, "cpu", batch_size=1, threads=THREADS, limits=limits)
    spec = model.manifest.input
    image = model.upload(np.full((spec.height, spec.width, spec.channels), 128, spec.frame_dtype))
    found = model.extract(image, [example(model.manifest)], 1.0)
    asked = found.questions
    index = np.zeros(1, np.int64)
    for maps in found.features:
        model.masks(maps, index)
    inputs = model.network_input(image)
    model.answers(asked, inputs)
    model.fuse(found.features, [np.ones_like(alpha) for alpha in found.pooled_gradients])
    model.sketch(found.features, [index for _ in found.features], found.pooled_gradients[-1])
    if model.manifest.has("head"):
        model.answers(asked, found.features[-1].numpy(), phase="head")
    if model.manifest.has("image_gradient"):
        model.image_gradient(inputs, asked[0])
    if model.manifest.has("full_gradient"):
        model.full_gradient(image, asked)


def _limit_memory(count: int) -> None:
    """Limit the bytes that this process may allocate, where the system can."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    with contextlib.suppress(OSError, ValueError):
        most = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (count if most < 0 else min(count, most), most))


def main() -> None:
    """Read what is asked as JSON from the standard input, try it, and print how it ended."""
    asked: dict[str, Any] = json.loads(sys.stdin.read())
    _limit_memory(asked["memory"])
    error = ""
    try:
        from sise_ort.bundle import open_bundle

        bundle = open_bundle(asked["folder"], asked["memory"])
        if bundle_digest(bundle.manifest) != asked["digest"]:
            raise BundleError("it was replaced meanwhile")
        run_once(bundle, Limits(asked["seconds"], asked["memory"], asked["run"]))
    except SiseError as failed:
        error = first_line(failed)
    except MemoryError:
        error = f"it needs more than {asked['memory'] >> 20} MiB"
    except Exception as failed:  # noqa: BLE001 - whatever it is, the bundle is refused
        error = f"{type(failed).__name__}: {first_line(failed)}"
    print(json.dumps({"error": error}))
