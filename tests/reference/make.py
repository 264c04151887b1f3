"""Write methods.npz: what other packages compute for the networks and pictures of networks.py.

    python -m venv ref && ref/bin/pip install "torch>=2.9,<2.14" "torchvision==0.28.0" grad-cam==1.5.7 captum==0.9.0 \
        onnxscript importlib_resources packaging requests pymongo && ref/bin/pip install --no-deps torchray==1.0.0.2
    ref/bin/python tests/reference/make.py

pytorch-grad-cam: Grad-CAM, Grad-CAM++, Ablation-CAM, FullGrad, and Score-CAM with its upsampling replaced by bilinear
interpolation of half-pixel centres. captum: Integrated Gradients. TorchRay, the authors' package: Extremal Perturbation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from networks import LAST, MEAN, NETWORKS, STD, network_input, pictures, steep

_LIBRARY = torch.library.Library(
    "torchvision", "DEF"
)  # torchvision's operators, where it is built for CUDA only
for _signature in (
    "nms(Tensor a, Tensor b, float c) -> Tensor",
    "qnms(Tensor a, Tensor b, float c) -> Tensor",
):
    try:
        _LIBRARY.define(_signature)
    except RuntimeError:  # they are there
        break

import pytorch_grad_cam  # noqa: E402
from captum.attr import IntegratedGradients  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from torchray.attribution.extremal_perturbation import (  # noqa: E402
    MaskGenerator,
    Perturbation,
    extremal_perturbation,
)

TARGET = 2
AREA = 0.12
RUNS = 6
STEPS = 200


class HalfPixel(torch.nn.Module):
    """Stands in for torch.nn.UpsamplingBilinear2d, which aligns corners."""

    def __init__(self, size: Any) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


def cams(name: str, x: torch.Tensor) -> dict[str, Any]:
    torch.nn.UpsamplingBilinear2d = HalfPixel  # type: ignore[misc]
    found = {}
    kinds = {
        "gradcam": "GradCAM", "gradcam++": "GradCAMPlusPlus", "ablationcam": "AblationCAM", "scorecam": "ScoreCAM",
        "fullgrad": "FullGrad",
    }  # fmt: skip
    for method, kind in kinds.items():
        steeply = method in ("gradcam++", "fullgrad") and name == "residual"
        net = steep() if steeply else NETWORKS[name]()
        layers = [] if kind == "FullGrad" else [net[LAST[name]]]  # type: ignore[index]
        with getattr(pytorch_grad_cam, kind)(model=net, target_layers=layers) as cam:
            # Ablation-CAM is divided by the class score, so that a negative one would turn it: the top class is taken.
            targets = None if method == "ablationcam" else [ClassifierOutputTarget(TARGET)]
            found[method] = cam(input_tensor=x.clone(), targets=targets)[0]
    return found


def one_step(net: Any, x: torch.Tensor) -> dict[str, Any]:
    """Loss and gradient at random mask parameters, by TorchRay's own masks and blur."""
    masks, blur = MaskGenerator(x.shape[2:], 7, 21), Perturbation(x)
    parameters = torch.from_numpy(
        np.random.default_rng(3).uniform(0.1, 0.95, (1, 1, *masks.shape_in)).astype(np.float32)
    )
    parameters.requires_grad_(True)
    shown, whole = masks.generate(parameters)
    score = net(torch.flip(blur.apply(shown), dims=(3,)))[0, TARGET]
    flat = whole.reshape(-1).sort()[0]
    reference = torch.ones_like(flat)
    reference[: int(flat.numel() * (1 - AREA))] = 0
    loss = 300 * ((flat - reference) ** 2).mean() - score
    loss.backward()
    return {
        "parameters": parameters.detach().numpy()[0, 0], "mask": shown.detach().numpy()[0, 0],
        "loss": float(loss.detach()), "gradient": parameters.grad.numpy()[0, 0],
    }  # fmt: skip


def main() -> None:
    frames = pictures(RUNS)
    arrays: dict[str, Any] = {"target": TARGET, "area": AREA}
    for name, build in NETWORKS.items():
        x = network_input(frames[0])
        for method, heatmap in cams(name, x).items():
            arrays[f"{name}/{method}"] = heatmap
        net = build()
        black = (-torch.tensor(MEAN) / torch.tensor(STD)).reshape(1, 3, 1, 1).expand_as(x)
        attributions = IntegratedGradients(net).attribute(x, baselines=black, target=TARGET, n_steps=STEPS)
        arrays[f"{name}/integrated-gradients"] = attributions.detach().numpy()[0].astype(np.float32)
        for key, value in one_step(net, x).items():
            arrays[f"{name}/one-step/{key}"] = value
        masks, energies = extremal_perturbation(net, x, TARGET, areas=[AREA], max_iter=5)
        arrays[f"{name}/five-steps/mask"], arrays[f"{name}/five-steps/energies"] = (
            masks.numpy()[0, 0],
            energies.numpy()[0],
        )
        finals = []
        for frame in frames:
            _, energies = extremal_perturbation(net, network_input(frame), TARGET, areas=[AREA])
            finals.append(energies.numpy()[0, 0, -50:].mean())
        arrays[f"{name}/final-scores"] = np.array(finals)
        print(name, np.round(finals, 2))
    np.savez_compressed(Path(__file__).with_name("methods.npz"), **arrays)


if __name__ == "__main__":
    main()
