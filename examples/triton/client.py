"""Ask a Triton server for a heat map: python client.py localhost:8000 resnet50 picture.png out.png

The server runs `tritonserver --model-repository model_repository`, which `sise-ort triton resnet50.sise` wrote.
Needs: pip install 'tritonclient[http]' opencv-python-headless
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import tritonclient.http as triton


def explain(
    client: triton.InferenceServerClient, model: str, frame: np.ndarray, passes: int = 64
) -> dict[str, np.ndarray]:
    """The answer to an RGB frame of network size: heatmap, confidence, class…"""
    asked = {
        "image": frame,
        "target": np.array([-1]),  # the top class
        "mu": np.zeros(1, np.float32),
        "passes": np.array([passes]),
    }
    inputs = []
    for name, array in asked.items():
        inputs.append(triton.InferInput(name, array.shape, triton.np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    answer = client.infer(model, inputs)
    return {name: answer.as_numpy(name) for name in ("heatmap", "confidence", "class", "masks")}


def main(address: str, name: str, picture: str, out: str) -> None:
    client = triton.InferenceServerClient(address)
    model = f"{name}_explain"
    facts = client.get_model_metadata(model)
    height, width, _ = next(tensor["shape"] for tensor in facts["inputs"] if tensor["name"] == "image")
    frame = cv2.resize(cv2.imread(picture)[..., ::-1], (width, height), interpolation=cv2.INTER_AREA)
    found = explain(client, model, np.ascontiguousarray(frame))
    index = int(found["class"][0])
    print(f"class {index}, confidence {found['confidence'][index]:.3f}, {found['masks'].sum()} masks")
    heat = found["heatmap"][..., None]
    red = np.array([255, 40, 0])
    cv2.imwrite(out, (frame * (1 - 0.7 * heat) + red * 0.7 * heat)[..., ::-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
