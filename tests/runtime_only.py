"""Run by test_runtime_only.py in environments that hold the runtime alone; prints what it saw as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np

import sise_ort

bundle, frame_file, picture, out = sys.argv[1:]
result = sise_ort.load(bundle, provider="cpu").explain(np.load(frame_file))
np.save(f"{out}/heatmap.npy", result.heatmap)
loaded = [name for name in ("cv2", "click", "rich", "torch", "onnx", "onnx_ir") if name in sys.modules]
importable = [name for name in ("torch", "onnx", "onnx_ir") if importlib.util.find_spec(name)]
import onnxruntime  # noqa: E402

sise_ort.load(bundle).explain(picture).save(out, "picture")
from sise_ort.cli.explain import command  # noqa: E402

command([bundle, picture, "-o", f"{out}/cli", "--mu", "0.5"], standalone_mode=False)
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
