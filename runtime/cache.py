"""What is worth keeping between runs on one machine: a folder that may be deleted at any time, and what it depends on."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
from pathlib import Path

from sise_ort.bundle import Manifest, bundle_digest
from sise_ort.errors import OutputError
from sise_ort.runtime.providers import version


def cache_folder() -> Path:
    """$SISE_ORT_CACHE, or sise-ort in the user's cache folder."""
    folder = os.environ.get("SISE_ORT_CACHE")
    if not folder:
        folder = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sise-ort")
    return Path(folder)


def tensorrt_options(manifest: Manifest) -> dict[str, str]:
    """Options of onnxruntime's TensorRT provider for `predict`: the bundle's precision, and where its engines are kept.

    Building an engine takes minutes; one is good for the same bundle, GPU, driver, TensorRT and onnxruntime only, so that
    each combination has a folder of its own.

    Raises
    ------
    OutputError : the folder cannot be made.
    """
    parts = (bundle_digest(manifest), *gpu(), tensorrt_version(), version())
    folder = cache_folder() / "tensorrt" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot keep TensorRT's engines in '{folder}': {error.strerror or error}; SISE_ORT_CACHE names another folder"
        ) from error
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": str(int(manifest.precision == "fp16")),
        "trt_int8_enable": str(int(manifest.precision == "int8")),
    }


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
