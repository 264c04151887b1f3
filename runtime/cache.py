"""The cache folder: what is kept between runs on one machine, and may be deleted at any time."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from sise_ort.bundle import Manifest, bundle_digest
from sise_ort.errors import OutputError
from sise_ort.runtime.engines import record, remove_unknown


def cache_folder() -> Path:
    """$SISE_ORT_CACHE, or sise-ort in the user's cache folder, or in the temporary one where there is no home."""
    folder = os.environ.get("SISE_ORT_CACHE")
    if folder:
        return Path(folder)
    try:
        found = platformdirs.user_cache_path("sise-ort", appauthor=False)
        if found.is_absolute():  # "~/.cache" stays as it is where nobody knows the home
            return found
    except (OSError, RuntimeError, KeyError):
        pass
    return _in_temporary_folder()


def _in_temporary_folder() -> Path:
    """A folder among everybody's temporary files that only this user can write to.

    Raises
    ------
    OutputError
        Somebody else made it.
    """
    user = os.getuid() if hasattr(os, "getuid") else -1
    folder = Path(tempfile.gettempdir()) / f"sise-ort-{user}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    try:
        there = folder.lstat()
    except OSError:  # it cannot be made: whoever writes to it hears so
        return folder
    if not stat.S_ISDIR(there.st_mode) or (user >= 0 and (there.st_uid != user or there.st_mode & 0o022)):
        raise OutputError(f"'{folder}' belongs to somebody else; set SISE_ORT_CACHE to a folder of your own")
    return folder


def tensorrt_options(manifest: Manifest, onnxruntime: str) -> dict[str, str]:
    """Options of onnxruntime's TensorRT provider for `predict`: the bundle's precision, and where its engines are kept.

    Parameters
    ----------
    manifest : Manifest
        The bundle's.
    onnxruntime : str
        Version of onnxruntime.

    Notes
    -----
    Building an engine takes minutes; one is good for the same bundle, GPU, driver, TensorRT and onnxruntime only, so that
    each combination has a folder of its own. What is not as it was recorded there is removed before anything is opened.

    Raises
    ------
    OutputError
        The folder cannot be made, or a damaged engine in it cannot be removed.
    """
    parts = (bundle_digest(manifest), *gpu(), tensorrt_version(), onnxruntime)
    folder = _checked_folder("tensorrt", parts, "TensorRT's engines")
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": str(int(manifest.precision == "fp16")),
        "trt_int8_enable": str(int(manifest.precision == "int8")),
    }


def openvino_options(manifest: Manifest, build: str, device: str) -> dict[str, str]:
    """Options of onnxruntime's OpenVINO provider for `predict`: where its compiled networks are kept.

    Parameters
    ----------
    manifest : Manifest
        The bundle's.
    build : str
        Version of onnxruntime and precision.
    device : str
        As OpenVINO names it. A processor needs no cache: compiling takes 0.3 s, and OpenVINO compiles anew whatever is kept.

    Raises
    ------
    OutputError
        The folder cannot be made, or a damaged file in it cannot be removed.
    """
    if device == "CPU":
        return {}
    parts = (bundle_digest(manifest), device, platform.node(), build)
    return {"cache_dir": str(_checked_folder("openvino", parts, "OpenVINO's compiled networks"))}


def _checked_folder(kind: str, parts: tuple[str, ...], what: str) -> Path:
    """The folder of what is good for these parts only, with nothing in it but what was recorded there."""
    folder = cache_folder() / kind / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot keep {what} in '{folder}': {error.strerror or error}; SISE_ORT_CACHE names another folder"
        ) from error
    remove_unknown(folder)
    return folder


def record_engines(options: Mapping[str, str]) -> None:
    """Record the hashes of the engines that `predict` was opened with or has built, so that the next run may use them.

    Parameters
    ----------
    options : mapping
        As `tensorrt_options` or `openvino_options` gave them.
    """
    for name in ("trt_engine_cache_path", "cache_dir"):
        if name in options:
            record(Path(options[name]))


def gpu() -> tuple[str, str]:
    """Name of the first GPU and version of its driver, as CUDA tells them; "none" where there is none."""
    name, driver = ctypes.create_string_buffer(256), ctypes.c_int()
    with contextlib.suppress(OSError, AttributeError):
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        if (
            cuda.cuInit(0) == 0
            and cuda.cuDeviceGetName(name, 256, 0) == 0
            and cuda.cuDriverGetVersion(ctypes.byref(driver)) == 0
        ):
            return name.value.decode(errors="replace"), str(driver.value)
    return "none", "none"


def tensorrt_version() -> str:
    """The number of the TensorRT library that onnxruntime finds; "none" where there is none."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10")
        return str(library.getInferLibVersion())
    return "none"
