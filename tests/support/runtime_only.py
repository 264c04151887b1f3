"""Run by test_runtime_only.py in environments that hold the runtime alone; prints what it saw as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

import sise_ort

bundle, frame_file, picture, out = sys.argv[1:]
explainer = sise_ort.load(bundle, provider="cpu")
fast = {"rise": {"masks": 20}, "extremal-perturbation": {"iterations": 3}}
maps = {
    m: explainer.explain(np.load(frame_file), method=m, **fast.get(m, {})).heatmap for m in explainer.methods
}
np.savez(f"{out}/heatmaps.npz", **maps)
loaded = [name for name in ("cv2", "click", "rich", "torch", "onnx", "onnx_ir") if name in sys.modules]
importable = [name for name in ("torch", "onnx", "onnx_ir") if importlib.util.find_spec(name)]
import onnxruntime  # noqa: E402

sise_ort.load(bundle).explain(picture).save(out, "picture")
from sise_ort.cli.explain import command  # noqa: E402

command([bundle, picture, "-o", f"{out}/cli", "--mu", "0.5"], standalone_mode=False)
from sise_ort.cli.evaluate import command as evaluate  # noqa: E402

words = [
    bundle,
    "--dataset",
    "folder",
    str(Path(picture).parent),
    "--methods",
    "sise,rise",
    "--set",
    "rise.masks=9",
]
evaluate([*words, "--steps", "3", "-o", f"{out}/evaluated"], standalone_mode=False)
message = ""
try:
    sise_ort.export("model.onnx")
except sise_ort.MissingDependencyError as error:
    message = str(error)
print(
    json.dumps(
        {
            "loaded": loaded,
            "importable": importable,
            "onnxruntime": onnxruntime.__version__,
            "from": sise_ort.__file__,
            "export": message,
        }
    )
)
