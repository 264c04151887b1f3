"""OpenVINO on Intel's and AMD's processors, Intel's GPUs and NPUs: `predict` runs there, the other phases on the CPU provider.

"openvino" is the processor; "openvino:GPU", "openvino:GPU.1", "openvino:NPU" and "openvino:AUTO" name other devices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from sise_ort.errors import ParameterError, ProviderError, option, shown
from sise_ort.runtime.cache import openvino_options, record_engines
from sise_ort.runtime.providers.spec import ProviderSpec, Wishes

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""How OpenVINO spells our precisions."""
OURS = {
    "device_type": "provider='openvino:GPU' names the device",
    "precision": "precision='bf16' says it",
    "cache_dir": "SISE_ORT_CACHE names the folder",
    "num_of_threads": "threads= says it",
}
"""Options of onnxruntime's provider that follow from ours, with what to say instead."""
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}
"""How Linux names the instructions of a processor that computes in bf16."""


def on_device(words: str) -> ProviderSpec:
    """The provider on one of OpenVINO's devices.

    Parameters
    ----------
    words : str
        "CPU", "GPU" (or "GPU.1"), "NPU" or "AUTO"; upper or lower case.

    Raises
    ------
    ParameterError
        There is no such device.
    """
    device = words.upper()
    if not re.fullmatch(r"CPU|NPU|AUTO|GPU(\.\d+)?", device):
        raise ParameterError(
            f"{option('provider')} is {shown('openvino:' + words)}; OpenVINO's devices are CPU, GPU (GPU.1 is a second one), "
            "NPU and AUTO"
        )
    compiles = device != "CPU"  # for seconds to minutes, and anew for every shape
    return ProviderSpec(
        name=f"openvino:{device}" if compiles else "openvino",
        onnxruntime="OpenVINOExecutionProvider",
        device="cpu",
        batch_pixels=(64 if device.startswith("GPU") else 8) * 224 * 224,
        pads=compiles,
        install="'sise-ort[openvino]' (and uninstall onnxruntime first)",
        library="libonnxruntime_providers_openvino.so",
        beside="cpu",
        bounded=not compiles,
        placed=True,
        bundle_options=partial(openvino_options, device=device),
        wished=partial(_wished, device),
        computes=partial(_computes, device),
        after_building=record_engines,
        named=on_device,
    )


def _computes(device: str, precision: str) -> str:
    """The precision that `predict` must compute in on a device, where "auto", "fp32", "bf16" or "fp16" is wished.

    Raises
    ------
    ParameterError, ProviderError
        The device or this processor has no such precision.
    """
    asked = f"{option('precision')} is '{precision}', but"
    if device == "NPU":
        if precision != "fp16":
            raise ParameterError(
                f"{asked} an NPU computes in fp16 only: {option('precision', 'fp16')} accepts that"
            )
    elif precision == "fp16" and not device.startswith("GPU"):
        raise ParameterError(
            f"{asked} OpenVINO computes fp16 on a GPU or an NPU only (provider openvino:GPU); a processor has bf16"
        )
    elif precision == "bf16":
        if device != "CPU":
            raise ParameterError(f"{asked} OpenVINO computes bf16 on a processor only: provider openvino")
        flags = processor_flags()
        if flags and not flags & BF16_FLAGS:
            raise ProviderError(
                f"{asked} this processor has no instructions for it (AVX512_BF16, AMX): OpenVINO ignores it there, or "
                "emulates it at half of float32's speed; leave it out"
            )
    return "fp32" if precision == "auto" else precision


def _wished(device: str, wishes: Wishes) -> Mapping[str, str]:
    """onnxruntime's options for `predict`: device, precision, threads; then the user's own.

    Notes
    -----
    The precision is always said: OpenVINO alone takes bf16 or fp16 wherever that is faster.

    Raises
    ------
    ParameterError
        An option is given that follows from others.
    ProviderError
        This machine has no such device.
    """
    for name in wishes.options:
        if name in OURS:
            raise ParameterError(f"{option('provider_options')} has '{name}'; leave it out: {OURS[name]}")
    there = [d for d in wishes.devices if _is(device, d)]
    if not there:
        raise ProviderError(
            f"provider openvino:{device} was asked for, but OpenVINO finds no {device} here: it has "
            f"{', '.join(wishes.devices) or 'nothing'}; a GPU or an NPU needs its driver; `sise-ort doctor` tells more"
        )
    hint = HINTS[_computes(device, wishes.precision)]
    config = _config(wishes.options.get("load_config"))
    for kind in dict.fromkeys(d.split(".")[0] for d in there):
        config[kind] = {**config.get(kind, {}), "INFERENCE_PRECISION_HINT": hint}
    found = wishes.texts()
    found["device_type"] = f"AUTO:{','.join(there)}" if device == "AUTO" else device
    found["load_config"] = json.dumps(config)
    if wishes.threads and device in ("CPU", "AUTO"):
        found["num_of_threads"] = str(wishes.threads)
    return found


def _is(device: str, there: str) -> bool:
    """Whether a device that is there is meant; AUTO means all but NPUs, which have no float32."""
    if device == "AUTO":
        return not there.startswith("NPU")
    return there == device or there.startswith(f"{device}.")


def _config(given: object) -> dict[str, dict[str, object]]:
    """The user's own `load_config`, a mapping or JSON: device -> property -> value."""
    try:
        found = json.loads(given) if isinstance(given, str) else dict(given or {})  # type: ignore[call-overload]
        config = {str(device): dict(values) for device, values in found.items()}
        json.dumps(config)
    except (TypeError, ValueError, AttributeError) as error:
        raise ParameterError(
            f"{option('provider_options')} has load_config {shown(given)}; OpenVINO's properties by device are needed, such "
            "as {'CPU': {'SCHEDULING_CORE_TYPE': 'PCORE_ONLY'}}"
        ) from error
    if any("INFERENCE_PRECISION_HINT" in values for values in config.values()):
        raise ParameterError(
            f"{option('provider_options')} has INFERENCE_PRECISION_HINT; leave it out: {option('precision')} says it"
        )
    return config


def processor_flags(file: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Names of the instructions that this processor has, as Linux lists them; empty elsewhere."""
    try:
        lines: Sequence[str] = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    for line in lines:
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(words.split())
    return set()


SPEC = on_device("CPU")
