"""One peer in its own environment, or sise-ort; peers.py starts it, and asks it for one map after the other.

    python peer_worker.py PEER job.json

job.json : model, an .onnx file with batch N; nodes, the names of the nodes that give the block outputs; pictures, an
.npz with inputs float32 [n, C, H, W] (normalised), frames uint8 [n, H, W, C] and classes int64 [n]; bundle, and
parameters of `explain`, for sise-ort. Each line on standard input is a number of a picture and a path; the map [H, W] is
saved there, and a line of JSON tells seconds and passes (inputs through the network). Of sise-ort only its own worker
imports anything, and no more than a user would.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Map = np.ndarray[Any, np.dtype[np.float32]]
Peer = Callable[[Map, int], tuple[Map, int]]
"""From an input [C, H, W] (sise-ort: a frame [H, W, C]) and a class to a map [H, W] and the passes that it took."""


def ours(job: dict[str, Any]) -> Peer:
    import sise_ort

    explainer = sise_ort.load(job["bundle"], provider="cpu")

    def explain(frame: Map, target: int) -> tuple[Map, int]:
        result = explainer.explain(frame, target, **job["parameters"])
        return result.heatmap, result.forward_passes

    return explain


def torch_network(job: dict[str, Any]) -> tuple[Any, list[Any], list[int]]:
    """The .onnx file as a torch module, the modules of its blocks, and a counter of the inputs that went through it."""
    import torch

    library = torch.library.Library("torchvision", "DEF")  # for a torchvision that is built for CUDA only
    for signature in (
        "nms(Tensor a, Tensor b, float c) -> Tensor",
        "qnms(Tensor a, Tensor b, float c) -> Tensor",
    ):
        try:
            library.define(signature)
        except RuntimeError:  # they are there
            break
    job["library"] = library  # it takes its operators along when it is deleted
    from onnx2torch import convert

    net = convert(job["model"]).eval().requires_grad_(False)
    passes = [0]
    net.register_forward_pre_hook(lambda _, inputs: passes.__setitem__(0, passes[0] + len(inputs[0])))
    modules = [net.get_submodule(name.strip("/").replace(".", "/")) for name in job["nodes"]]
    return net, modules, passes


def block_gradients(net: Any, modules: list[Any], x: Any, target: int) -> tuple[list[Any], list[Any]]:
    """Feature maps [1, N, h, w] per block and ∂p/∂maps for the class's probability."""
    import torch

    maps: list[Any] = [None] * len(modules)
    hooks = [
        module.register_forward_hook(lambda _, __, output, b=b: maps.__setitem__(b, output))
        for b, module in enumerate(modules)
    ]
    probability = net(x.clone().requires_grad_(True)).softmax(dim=1)[0, target]
    gradients = torch.autograd.grad(probability, maps)
    for hook in hooks:
        hook.remove()
    return [m.detach() for m in maps], list(gradients)


def otsu(values: Any) -> float:
    """Otsu's threshold of a map in [0, 1] over 256 bins: the centre of the first best bin."""
    histogram = np.bincount(np.minimum(255, (values * 256).astype(int)).ravel(), minlength=256).astype(float)
    below, sums = histogram.cumsum(), (histogram * np.arange(256)).cumsum()
    both = below * (below[-1] - below)
    apart = (sums * below[-1] - sums[-1] * below) ** 2 / np.where(both > 0, both, 1)
    return (float(np.argmax(np.where(both > 0, apart, -1))) + 0.5) / 256


def fused(maps: list[Any]) -> Map:
    """The paper's fusion of visualization maps, shallow to deep."""
    found: Any = None
    for values in maps:
        extent = float(np.ptp(values))
        if extent <= 0:
            continue
        values = (values - values.min()) / extent
        found = values if found is None else (found + values) * (values > otsu(values))
    assert found is not None
    result: Map = (found / max(float(found.max()), 1e-30)).astype(np.float32)
    return result


def naive_sise(job: dict[str, Any]) -> Peer:
    """The paper's text as one would first write it: one mask after the other, each added at full size."""
    import torch

    net, modules, passes = torch_network(job)

    def explain(x: Map, target: int) -> tuple[Map, int]:
        passes[0], picture = 0, torch.from_numpy(x)[None]
        features, gradients = block_gradients(net, modules, picture, target)
        maps = []
        for feature, gradient in zip(features, gradients, strict=True):
            weights = gradient.sum(dim=(2, 3))[0]
            total = torch.zeros(x.shape[1:])
            for k in torch.nonzero(weights > 0)[:, 0]:
                mask = torch.nn.functional.interpolate(
                    feature[:, k : k + 1], size=x.shape[1:], mode="bilinear", align_corners=False
                )
                extent = mask.max() - mask.min()
                if extent <= 1e-5 * mask.abs().max():
                    continue
                mask = (mask - mask.min()) / extent
                with torch.no_grad():
                    score = net(picture * mask).softmax(dim=1)[0, target]
                total += score * mask[0, 0] / mask.sum()
            maps.append(total.numpy())
        return fused(maps), passes[0]

    return explain


def careful_sise(job: dict[str, Any]) -> Peer:
    """As a good engineer would write it in torch: batches, inference mode, channels last, sums at the size of the feature
    maps. (Not compiled: a compiler is not part of torch, and this is for CPUs; gpu.py compiles.)"""
    import torch

    net, modules, passes = torch_network(job)
    fast = net.to(memory_format=torch.channels_last)
    size = 16

    def explain(x: Map, target: int) -> tuple[Map, int]:
        passes[0], picture = 0, torch.from_numpy(x)[None].contiguous(memory_format=torch.channels_last)
        features, gradients = block_gradients(net, modules, picture, target)
        maps, scored = [], 1
        for feature, gradient in zip(features, gradients, strict=True):
            flat = feature.amax((2, 3)) - feature.amin((2, 3)) <= 1e-5 * feature.abs().amax((2, 3))
            chosen = torch.nonzero((gradient.sum(dim=(2, 3)) > 0) & ~flat)[:, 1]
            total = torch.zeros(feature.shape[2:])
            with torch.inference_mode():
                for part in chosen.split(size):
                    own = feature[0, part]
                    wide = torch.nn.functional.interpolate(
                        own[:, None], size=x.shape[1:], mode="bilinear", align_corners=False
                    )
                    least, most = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
                    masks = (wide - least) / (most - least)
                    inputs = (picture * masks).contiguous(memory_format=torch.channels_last)
                    scores = fast(inputs).softmax(dim=1)[:, target]
                    weights = scores / ((most - least)[:, 0, 0, 0] * masks.sum((1, 2, 3)))
                    total += torch.tensordot(weights, own - own.mean((1, 2), keepdim=True), 1)
                    scored += len(part)
            wide = torch.nn.functional.interpolate(
                total[None, None], size=x.shape[1:], mode="bilinear", align_corners=False
            )
            maps.append(wide[0, 0].numpy())
        return fused(maps), scored

    return explain


def score_cam(job: dict[str, Any]) -> Peer:
    """pytorch-grad-cam's Score-CAM on the last block."""
    import torch

    net, modules, passes = torch_network(job)
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = ScoreCAM(net, [modules[-1]])
    cam.batch_size = 16

    def explain(x: Map, target: int) -> tuple[Map, int]:
        passes[0] = 0
        found = cam(input_tensor=torch.from_numpy(x)[None], targets=[ClassifierOutputTarget(target)])
        return found[0], passes[0]

    return explain


def gradient_cam(job: dict[str, Any], refine: bool) -> Peer:
    """pytorch-grad-cam's LayerCAM on the last block, or its RefineCAM (on its default, Grad-CAM++) on the last four."""
    import torch

    net, modules, passes = torch_network(job)
    net.requires_grad_(True)
    from pytorch_grad_cam import LayerCAM
    from pytorch_grad_cam.refine_cam import RefineCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = RefineCAM(net, modules[-4:]) if refine else LayerCAM(net, [modules[-1]])

    def explain(x: Map, target: int) -> tuple[Map, int]:
        passes[0] = 0
        found = cam(input_tensor=torch.from_numpy(x)[None], targets=[ClassifierOutputTarget(target)])
        return found[0], passes[0]

    return explain


def dianna_rise(job: dict[str, Any]) -> Peer:
    """DIANNA's RISE on the .onnx file with its defaults: 1000 masks, and p_keep tuned over nine values."""
    import dianna
    import onnxruntime

    passes = [0]
    run = onnxruntime.InferenceSession.run

    def counted(self: Any, names: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        passes[0] += len(next(iter(inputs.values())))
        return run(self, names, inputs, *rest)

    onnxruntime.InferenceSession.run = counted

    def explain(x: Map, target: int) -> tuple[Map, int]:
        passes[0] = 0
        np.random.seed(0)  # noqa: NPY002  (DIANNA draws from it)
        found = dianna.explain_image(
            job["model"], x, "RISE", labels=[target], axis_labels={0: "channels"}, n_masks=1000
        )
        return np.asarray(found[0], np.float32), passes[0]

    return explain


def openvino(job: dict[str, Any], white_box: bool) -> Peer:
    """OpenVINO XAI on the .onnx file with its defaults; its scores are made probabilities for the black box."""
    import openvino_xai as xai
    from openvino_xai.explainer import ExplainMode

    passes = [0]

    def probabilities(outputs: Any) -> Map:
        passes[0] += 1
        scores = np.asarray(outputs[0] if not isinstance(outputs, np.ndarray) else outputs)
        shares: Map = np.exp(scores - scores.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    mode = ExplainMode.WHITEBOX if white_box else ExplainMode.BLACKBOX
    explainer = xai.Explainer(
        job["model"],
        task=xai.Task.CLASSIFICATION,
        preprocess_fn=lambda array: array,
        explain_mode=mode,
        **({} if white_box else {"postprocess_fn": probabilities}),
    )

    def explain(x: Map, target: int) -> tuple[Map, int]:
        passes[0] = 0
        found = explainer(x[None], targets=[target], resize=False, colormap=False)
        values = np.asarray(next(iter(found.saliency_map.values())), np.float32)
        return values, passes[0] or 1

    return explain


PEERS: dict[str, Callable[[dict[str, Any]], Peer]] = {
    "sise-ort": ours,
    "torch-naive": naive_sise,
    "torch-careful": careful_sise,
    "torch-scorecam": score_cam,
    "torch-layercam": lambda job: gradient_cam(job, refine=False),
    "torch-refinecam": lambda job: gradient_cam(job, refine=True),
    "dianna-rise": dianna_rise,
    "openvino-aise": lambda job: openvino(job, white_box=False),
    "openvino-reciprocam": lambda job: openvino(job, white_box=True),
}


def memory() -> float:
    """Peak resident memory of this process, MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # what the packages print goes to standard error
    os.dup2(2, 1)
    name, path = sys.argv[1:]
    job = json.loads(Path(path).read_text())
    explain = PEERS[name](job)
    pictures = np.load(job["pictures"])
    inputs, classes = pictures["frames" if name == "sise-ort" else "inputs"], pictures["classes"]
    explain(inputs[0], int(classes[0]))  # warms up
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        number, target = line.split(maxsplit=1)
        began = time.perf_counter()
        found, passes = explain(inputs[int(number)], int(classes[int(number)]))
        seconds = time.perf_counter() - began
        np.save(target.strip(), np.asarray(found, np.float32))
        print(
            json.dumps({"seconds": seconds, "passes": passes, "memory": memory()}), file=answers, flush=True
        )


if __name__ == "__main__":
    main()
