"""Every CNN of torchvision and one or two of each family of timm: export, explain, and check against torch.

    python benchmarks/zoo.py --folder zoo-out               # goes on where it stopped; --only NAME … for some
    python benchmarks/zoo.py --folder zoo-out --write       # and write docs/models.md from what is there
    python benchmarks/zoo.py --only timm:NAME … --add       # and add these alone to docs/models.md

Each model runs in a process of its own, with random weights (seed 0). "Gradient error" compares the gradient of
class 7's score (of a segmentation its mean over all places, of a detector its best candidate's) with respect to every block, as extract.onnx computes it, with torch autograd on the exported
program: both in float64 and relative in the L2 norm, so that it shows wrong rules and not float32's noise (deep
networks with random weights amplify that beyond measure). torch folds batch normalisation into weights and rounds
those to float32; where that alone may have turned a Relu, the model is exported once more without folding and
judged by that. Scores are compared as onnxruntime computes them in float32, relative to the largest.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wild

TARGET = 7
LIMIT = 1e-5
"""Largest gradient error in float64 that passes."""
SECONDS = 1800
CLASSIFIERS, SECTION_OF_PLACES = "torchvision", "torchvision, segmentations and detectors"
HEADING = (
    "| model | parameters | blocks | gradient | scores | export | verdict |",
    "|---|---|---|---|---|---|---|",
)
TRANSFORMERS = ("maxvit", "swin", "vit_")
PLACES = {
    "fcn_resnet50": 64, "deeplabv3_resnet50": 64, "deeplabv3_mobilenet_v3_large": 64, "lraspp_mobilenet_v3_large": 64,
    "ssdlite320_mobilenet_v3_large": 96, "ssd300_vgg16": 300, "retinanet_resnet50_fpn": 96, "fcos_resnet50_fpn": 96,
}  # fmt: skip
"""torchvision's segmentation networks and detectors, with sides of pictures that float64 can check in seconds."""
SIZES = {**PLACES, "inception_v3": 299, "regnet_y_128gf": 96}  # 128gf: what 24 GB can check in float64
# One or two of each family; every name is timm's.
TIMM = """resnet18d resnetrs50 res2net50_26w_4s res2next50 resnest14d seresnet18 legacy_seresnet18 ecaresnet26t
skresnet18 resnext26ts gcresnet33ts resnetv2_50 resnetblur50 cspdarknet53 cspresnet50 dla34 hrnet_w18_small ghostnet_100
ghostnetv2_100 repghostnet_050 repvgg_a0 mobileone_s0 mobilenetv4_conv_small mobilenetv3_rw efficientnet_lite0
efficientnetv2_rw_t tinynet_a lcnet_050 mixnet_s fbnetc_100 hardcorenas_a rexnet_100 tresnet_m nf_regnet_b0 dm_nfnet_f0
eca_nfnet_l0 regnetz_b16 gernet_s convnext_atto convnextv2_atto hgnet_tiny hgnetv2_b0 xception41 inception_resnet_v2
inception_v4 dpn68 ese_vovnet19b_dw selecsls42 densenetblur121d pnasnet5large nasnetalarge starnet_s1 rdnet_tiny
inception_next_tiny convmixer_768_32 fastvit_t8 poolformer_s12 edgenext_xx_small mobilevitv2_050""".split()


def torchvision_names() -> list[str]:
    from sise_ort.exporter.sources.torch_model import torchvision_package

    models = torchvision_package().models
    return [str(name) for name in models.list_models(module=models)]


def size_of(name: str) -> int:
    return SIZES.get(name, 224)


# One model, in its own process -----------------------------------------------------------------------


@contextmanager
def exported_programs(fold: bool) -> Iterator[list[Any]]:
    """The programs that torch.onnx.export exports meanwhile, batch normalisation folded or not."""
    import torch

    programs: list[Any] = []
    export = torch.onnx.export

    def keep(*arguments: Any, **options: Any) -> Any:
        programs.append(export(*arguments, **options, optimize=fold))
        return programs[-1]

    torch.onnx.export = keep
    try:
        yield programs
    finally:
        torch.onnx.export = export


def export(name: str, bundle: Path, *, fold: bool = True) -> tuple[Any, Any]:
    """Export with random weights (seed 0): the manifest, and the program that torch exported."""
    import torch

    import sise_ort

    torch.manual_seed(0)
    with exported_programs(fold) as programs:
        manifest = sise_ort.export(name, bundle, weights="NONE", input_size=size_of(name), force=True)
    return manifest, programs[-1].exported_program


def measure(name: str) -> dict[str, Any]:
    """The row of one model."""
    import numpy as np

    import sise_ort
    from sise_ort.readouts import Question

    size = size_of(name)
    row: dict[str, Any] = {"name": name, "size": size, "date": time.strftime("%Y-%m-%d")}
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "model.sise"
        start = time.perf_counter()
        try:
            manifest, program = export(name, bundle)
        except sise_ort.SiseError as error:
            verdict = "refused" if "mixes all places" in str(error) else "fails"
            return row | {"verdict": verdict, "reason": f"{type(error).__name__}: {error}"}
        row["export_seconds"] = time.perf_counter() - start
        row["export_gigabytes"] = high_water()
        explainer = sise_ort.load(bundle, provider="cpu", batch_size=2)
        frame = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        asked = Question(TARGET, {k: v[0] for k, v in tensors_of(manifest).items() if k != "class"})
        result = explainer.explain(frame, target_of(explainer, frame), mu=0.95)
        row["masks"] = sum(result.mask_counts)
        row["explained"] = bool(np.isfinite(result.heatmap).all()) and row["masks"] > 0
        upload = explainer.model.upload(frame)
        extracted = explainer.model.extract(upload, [asked], 0.0)
        single = [g.numpy() for g in extracted.gradients]
        scores = explainer.model.whole(upload)["scores"]
        del explainer
        row |= compare(bundle, manifest, program, frame, scores, single)
        if max(row["gradient_errors"]) >= LIMIT:
            unfolded = compare(bundle, *export(name, bundle, fold=False), frame, scores, single)
            row |= {
                "gradient_errors_folded": row["gradient_errors"],
                "gradient_errors": unfolded["gradient_errors"],
            }
    passed = row["explained"] and max(row["gradient_errors"]) < LIMIT and row["score_error"] < 1e-3
    row["verdict"] = "passes" if passed else "fails"
    row["peak_gigabytes"] = high_water()
    return row


def target_of(explainer: Any, frame: Any) -> Any:
    """What is explained: class 7, over the whole of a segmentation, at a candidate of a detector; random weights see nothing."""
    import sise_ort

    task = explainer.manifest.task.name
    if task == "segmentation":
        return sise_ort.Region(TARGET, box=(0, 0, frame.shape[1], frame.shape[0]))
    if task == "detection":
        boxes = explainer.model.whole(explainer.model.upload(frame))["boxes"]
        return sise_ort.Detection(TARGET, box=tuple(boxes[len(boxes) // 2]))
    return TARGET


def tensors_of(manifest: Any) -> dict[str, Any]:
    """Class 7, without another class, over all places or among all candidates, as the graphs take it."""
    import numpy as np

    given = {"class": np.array([TARGET])}
    for name, (_, lengths) in manifest.task.given(manifest.head).items():
        if name == "other":
            given[name] = np.array([-1])
        elif name != "class":
            weight = 1 / np.prod(lengths) if name == "region" else 1.0
            given[name] = np.full((1, *lengths), weight, np.float32)
    return given


def explained(task: str, outputs: list[Any]) -> tuple[Any, Any]:
    """The number that contrast 0 differentiates, and the scores, from the program's outputs."""
    import torch

    scores = outputs[0][0]
    if task == "classes":
        return scores[TARGET], scores
    if task == "segmentation":
        return scores[TARGET].mean(), scores
    number = scores[:, TARGET]
    if len(outputs) > 2:  # an objectness
        there = outputs[2][0].reshape(-1)
        number = number + there
        scores = torch.cat([scores, there[:, None]], 1)
    return number.max(), scores


def compare(
    bundle: Path, manifest: Any, program: Any, frame: Any, scores: Any, single: Any
) -> dict[str, Any]:
    """The bundle's graph against the exported program under torch autograd."""
    import numpy as np
    import torch
    from float64 import run_float64

    facts = manifest.preprocessing
    mean, std = (np.float64(np.array(v, np.float32)) for v in (facts.mean, facts.std))  # as in the graph
    x = ((frame - mean) / std).transpose(2, 0, 1)[None]
    feeds = {"image": frame[None], **tensors_of(manifest), "contrast": np.array(0.0, np.float32)}
    ours = run_float64(bundle / "extract.onnx", feeds)

    values, outputs = run_program(program, torch.tensor(x, requires_grad=True))
    number, theirs = explained(manifest.task.name, outputs)
    found = [
        locate(layer.tensor, ours[f"features_{b}"], values) for b, layer in enumerate(manifest.layers, 1)
    ]
    tensors = [tensor for tensor, _ in found]
    gradients = torch.autograd.grad(number, tensors)
    errors, single_errors = [], []
    for b, ((_, last), gradient) in enumerate(zip(found, gradients, strict=True)):
        truth = gradient.numpy().transpose(0, 3, 1, 2) if last else gradient.numpy()
        errors.append(relative(ours[f"gradients_{b + 1}"], truth))
        single_errors.append(relative(single[b], truth))
    theirs = theirs.detach().numpy()
    return {
        "parameters": sum(p.numel() for _, p in program.named_parameters()),
        "blocks": [[layer.channels, layer.height, layer.width] for layer in manifest.layers],
        "gradient_errors": errors,
        "gradient_errors_float32": single_errors,
        "score_error": float(np.abs(scores - theirs).max() / np.abs(theirs).max()),
    }


def relative(a: Any, b: Any) -> float:
    import numpy as np

    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300))


def run_program(program: Any, x: Any) -> tuple[dict[str, Any], list[Any]]:
    """Every tensor of an exported program by name, in float64 under autograd, and its outputs."""
    import torch

    values: dict[str, Any] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> Any:
            value = super().run_node(node)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                values[node.name] = value
            return value

        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            if kwargs.get("dtype") is torch.float32:
                kwargs = {**kwargs, "dtype": torch.float64}
            return super().call_function(target, args, kwargs)

    signature = program.graph_signature
    state = {**program.state_dict, **program.constants}
    targets = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    inputs = []
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in targets:
            tensor = state[targets[node.name]].detach()
            inputs.append(tensor.double() if tensor.is_floating_point() else tensor)
        else:
            inputs.append(x)
    outputs = Recorder(program.graph_module).run(*inputs)
    names = [spec.arg.name for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    places = [spec.arg.name for spec in signature.output_specs]
    return values, [outputs[places.index(name)] for name in names]


def locate(name: str, features: Any, values: dict[str, Any]) -> tuple[Any, bool]:
    """The torch tensor that holds these features (by name, else by value), and whether its channels lie last."""
    best: tuple[float, Any, bool] = (1.0, None, False)
    for node, value in values.items():
        for last in (False, True):
            wanted = features.transpose(0, 2, 3, 1) if last else features
            if tuple(value.shape) != wanted.shape or not value.requires_grad:
                continue
            error = relative(value.detach().numpy(), wanted)
            if node == name and error < 1e-3:
                return value, last
            if error < best[0]:
                best = (error, value, last)
    if best[0] > 1e-3:
        raise SystemExit(f"no tensor of the program holds the features '{name}' (nearest: {best[0]:.1e})")
    return best[1], best[2]


def high_water() -> float:
    """Peak resident memory of this process so far, GB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


# All models ------------------------------------------------------------------------------------------


def run_one(name: str, result: Path) -> None:
    command = [sys.executable, __file__, "--one", name, "--result", str(result)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        reason = "" if result.is_file() else (done.stderr.strip().splitlines() or ["no message"])[-1]
        if done.returncode < 0:
            reason = f"killed by signal {-done.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"took more than {SECONDS} s"
    if not result.is_file():
        result.write_text(
            json.dumps({"name": name, "size": size_of(name), "verdict": "fails", "reason": reason})
        )


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(':', '-')}.json"


def markdown(rows: list[dict[str, Any]], workers: int) -> str:
    import os

    import onnxruntime
    import torch

    good = [r for r in rows if r["verdict"] == "passes"]
    bad = [r for r in rows if r["verdict"] == "fails"]
    refused = [r for r in rows if r["verdict"] == "refused"]
    from importlib.metadata import version

    versions = f"torch {torch.__version__}, timm {version('timm')}, onnxruntime {onnxruntime.__version__}"
    dates = sorted({r["date"] for r in rows if "date" in r})
    lines = [
        "# Models",
        "",
        "Written by `python benchmarks/zoo.py --folder zoo-out --write`; do not edit.",
        "",
        f"{len(good)} networks pass, {len(bad)} fail, {len(refused)} are refused. Random weights, 224×224 unless the name says "
        f"otherwise. {os.cpu_count()} cores, {platform.machine()}, {versions}, {' to '.join(sorted({dates[0], dates[-1]}))}.",
        "",
        "- *blocks*: channels × side of every block's feature maps, found by the rule alone, shallow to deep.",
        "- *gradient*: relative L2 error of every block's gradient against torch autograd, both in float64; a network passes "
        f"below {LIMIT:.0e}. What is left is float32's rounding of the weights that torch folds batch normalisations into; "
        "where that turns a Relu, the network is judged without folding (\\*).",
        "- Of a segmentation the mean score of class 7 over all places is differentiated, of a detector the score of its best "
        "candidate for class 7 (with its objectness).",
        "- *scores*: largest difference of the class scores in float32 from torch's in float64, relative to the largest score.",
        "- *export*: seconds and peak memory of `sise-ort export`, torch's own conversion included; models ran "
        f"{workers} at a time.",
        "",
    ]
    for title in (CLASSIFIERS, SECTION_OF_PLACES, "timm"):
        chosen = [r for r in good if section_of(r["name"]) == title]
        lines += [
            f"## {title}: {len(chosen)}",
            "",
            *HEADING,
        ]
        lines += [_line(r) for r in chosen] + [""]
    lines += [f"## What fails: {len(bad)}", ""]
    lines += [f"- `{r['name']}`: {_why(r)}" for r in bad] or ["Nothing in this list."]
    lines += ["", f"## What is refused: {len(refused)}", ""]
    reasons: dict[str, list[str]] = {}
    for r in refused:
        reasons.setdefault(r["reason"].split(" (")[0].split(": ", 1)[1], []).append(f"`{r['name']}`")
    lines += [f"- {', '.join(names)}: {reason}." for reason, names in reasons.items()]
    return "\n".join(lines) + "\n"


def with_rows(page: str, rows: list[dict[str, Any]]) -> str:
    """The published page with further networks, or newly measured ones, each at the end of its table.

    Networks that do not pass are left out: only --write lists them.
    """
    lines = page.splitlines()
    for row in rows:
        if row["verdict"] != "passes":
            continue
        lines = [line for line in lines if not re.match(rf"\| {re.escape(row['name'])}( \(\d+\))? \|", line)]
        title = f"## {section_of(row['name'])}: "
        if not any(line.startswith(title) for line in lines):
            place = next(i for i, line in enumerate(lines) if line.startswith("## timm: "))
            lines[place:place] = [f"{title}0", "", *HEADING, ""]
        start = next(i for i, line in enumerate(lines) if line.startswith(title))
        lines.insert(lines.index("", start + 2), _line(row))
        lines = [
            re.sub(r"(, \d{4}-\d\d-\d\d)(?: to [\d-]+)?\.$", rf"\1 to {row['date']}.", line) for line in lines
        ]
    counts = {CLASSIFIERS: 0, SECTION_OF_PLACES: 0, "timm": 0}
    for line in lines:
        if line.endswith("| passes |"):
            counts[section_of(line.split()[1])] += 1
    text = "\n".join(lines) + "\n"
    for title, count in counts.items():
        text = re.sub(rf"(?m)^## {title}: \d+$", f"## {title}: {count}", text)
    return re.sub(r"(?m)^\d+ networks pass", f"{sum(counts.values())} networks pass", text)


def section_of(name: str) -> str:
    """The part of docs/models.md where a network stands."""
    if name in PLACES:
        return SECTION_OF_PLACES
    return "timm" if name.startswith("timm:") else CLASSIFIERS


def _line(r: dict[str, Any]) -> str:
    side = f" ({r['size']})" if r["size"] != 224 else ""
    errors = " ".join(f"{e:.0e}" for e in r["gradient_errors"])
    errors += " \\*" if "gradient_errors_folded" in r else ""
    return (
        f"| {r['name']}{side} | {r['parameters'] / 1e6:.1f} M | {blocks_in_words(r)} | {errors} | {r['score_error']:.0e} "
        f"| {r['export_seconds']:.0f} s, {r['export_gigabytes']:.1f} GB | {r['verdict']} |"
    )


def blocks_in_words(r: dict[str, Any]) -> str:
    return ", ".join(f"{c}×{h}" if h == w else f"{c}×{h}×{w}" for c, h, w in r["blocks"])


def _why(r: dict[str, Any]) -> str:
    if "reason" in r:
        return str(r["reason"])
    errors = " ".join(f"{e:.0e}" for e in r["gradient_errors"])
    return (
        f"gradient {errors}, scores {r['score_error']:.0e}, {r['masks']} masks, explained: {r['explained']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("zoo-out"), help="where results are kept")
    parser.add_argument("--only", nargs="*", default=None, help="these models alone, anew")
    parser.add_argument("--write", action="store_true", help="write docs/models.md")
    parser.add_argument("--add", action="store_true", help="add these models to docs/models.md")
    parser.add_argument("--workers", type=int, default=1, help="models at once; times are then longer")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.one:
        row = measure(arguments.one)
        arguments.result.write_text(json.dumps(row, indent=1))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    arguments.folder.mkdir(parents=True, exist_ok=True)
    page = Path(__file__).parents[1] / "docs" / "models.md"
    names = torchvision_names() + list(PLACES) + [f"timm:{name}" for name in TIMM]
    wanted = names if arguments.only is None else arguments.only
    waiting = [n for n in wanted if arguments.only is not None or not file_of(arguments.folder, n).is_file()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=len(waiting))

        def one(name: str) -> None:
            progress.update(task, description=name)
            path = file_of(arguments.folder, name)
            path.unlink(missing_ok=True)
            run_one(name, path)
            row = json.loads(path.read_text())
            progress.console.print(
                f"{name}: {row['verdict']}{' ' + _why(row) if row['verdict'] == 'fails' else ''}"
            )
            progress.advance(task)

        with ThreadPoolExecutor(arguments.workers) as pool:
            list(pool.map(one, waiting))
    if arguments.write:
        files = [file_of(arguments.folder, name) for name in names]
        rows = [json.loads(path.read_text()) for path in files if path.is_file()]
        kept = wild.section_of(page.read_text(encoding="utf-8"))
        page.write_text(wild.replaced(markdown(rows, arguments.workers), kept), encoding="utf-8")
    elif arguments.add:
        rows = [json.loads(file_of(arguments.folder, name).read_text()) for name in wanted]
        page.write_text(with_rows(page.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main()
