"""ONNX files as found in public repositories: each is explained in its own task, or refused with the true reason.

    python benchmarks/wild.py --data ../shared/data            # prints the table
    python benchmarks/wild.py --data ../shared/data --write    # and writes it into docs/models.md

The files are those of shared/data/wild; they are no part of this project. A file is explained if the bundle answers as
onnxruntime does on the file (`sise-ort export` compares them), and a picture of COCO gets a heat map for the question that
the table names, in 16 passes. "blocks" are found by the rule alone, unless the options name layers.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fetch_data import require

PASSES = 16
HEADING = "## Tried in the wild"
PAGE = Path(__file__).parents[1] / "docs" / "models.md"


@dataclass(frozen=True)
class Case:
    """A file, how it is exported, and what comes of it.

    Attributes
    ----------
    file : str
        Name without its ending.
    what : str
        What the network is.
    options : mapping
        Of the export, besides ``normalize="none"``.
    task : str
        What its outputs are; "" where it is refused.
    blocks : tuple of (int, int, int)
        Channels, height and width of each block.
    reason : str
        Phrase of the error, where it is refused.
    slow : bool
        Whether it takes more than some seconds.
    """

    file: str
    what: str
    options: Mapping[str, Any] = field(default_factory=dict)
    task: str = "classes"
    blocks: tuple[tuple[int, int, int], ...] = ()
    reason: str = ""
    slow: bool = False


BGR = {"color": "bgr"}
CASES = (
    Case("caelatent_mnist", "decoder from a latent vector to a digit", task="", reason="is no picture"),
    Case("cifar100edge", "classifier, Selu", blocks=((3, 30, 30), (3, 9, 9))),
    Case("deeplab_v3_tf", "DeepLabV3 on MobileNetV2, TensorFlow", {"normalize": "tf"}, "segmentation",
         ((48, 129, 129), (72, 65, 65), (160, 33, 33))),
    Case("ezkl_fr_age", "age from two streams (SSR-Net), Keras", {"output": "prob_stage_1", "task": "value", "layers": ["125", "129", "133", "155"]},
         "value", ((16, 64, 64), (16, 32, 32), (16, 16, 16), (10, 8, 8))),
    Case("light_shufflenet", "ShuffleNet, Caffe2",
         blocks=((24, 112, 112), (136, 28, 28), (272, 14, 14), (544, 7, 7))),
    Case("mesonet", "deep fakes, Keras, one sigmoid",
         blocks=((8, 256, 256), (8, 128, 128), (16, 64, 64), (16, 32, 32))),
    Case("mnist_charlie", "digits, LogSoftmax", blocks=((24, 28, 28), (48, 12, 12), (64, 6, 6), (64, 3, 3))),
    Case("mobilefacenet", "face embedding", {"task": "embedding"}, "embedding",
         ((128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7))),
    Case("mtcnn_pnet", "faces at every place, two outputs, Keras",
         {"output": "softmax", "input_size": 24, "task": "classes"}, "classes", ((10, 22, 22), (2, 7, 7))),
    Case("mtcnn_rnet", "faces, two outputs, Keras", {"output": "softmax_1"},
         blocks=((28, 22, 22), (48, 9, 9), (64, 3, 3))),
    Case("ortex_mnist", "digits, CNTK", blocks=((8, 28, 28), (16, 14, 14))),
    Case("own_sq_dynamic", "SqueezeNet 1.1, dynamic int8", {"normalize": "imagenet"},
         blocks=((64, 111, 111), (128, 55, 55), (256, 27, 27), (1000, 13, 13))),
    Case("own_sq_qoperator", "SqueezeNet 1.1, int8 as QLinear operators", {"normalize": "imagenet"},
         blocks=((64, 111, 111), (128, 55, 55), (256, 27, 27), (1000, 13, 13))),
    Case("ppocr_cls", "direction of text, Paddle, open size", {"input_size": "48x192"},
         blocks=((8, 24, 96), (24, 12, 96), (32, 6, 96), (104, 3, 96), (200, 2, 96))),
    Case("road_segmentation_adas", "road segmentation, OpenVINO through TensorFlow", BGR, "segmentation",
         ((32, 256, 448), (48, 128, 224), (48, 64, 112), (16, 16, 28)), slow=True),
    Case("seeta_eye_state", "open or closed eyes, axes without lengths", {"input_size": 96} | BGR,
         blocks=((64, 47, 47), (128, 23, 23), (256, 11, 11), (3, 5, 5))),
    Case("seeta_gender_predictor", "gender, axes without lengths", {"input_size": 108} | BGR,
         blocks=((8, 52, 52), (16, 22, 22), (24, 7, 7), (80, 4, 4))),
    Case("sign_language", "signs, without its external weights", task="",
         reason="its external weights are missing; put 'model.onnx.data' beside it"),
    Case("silero_vad", "voice activity in sound", task="",
         reason="must have one input that is a picture"),
    Case("ultraface_rfb320", "face detector", {"mean": (127,) * 3, "std": (128,) * 3, "task": "detection"}, "detection",
         ((32, 120, 160), (32, 60, 80), (64, 30, 40), (128, 15, 20), (64, 8, 10), (256, 4, 5))),
    Case("winml_candy_style", "style transfer, ImageScaler and Affine", {"task": "value"}, "value",
         ((16, 800, 800), (32, 400, 400), (64, 180, 180)), slow=True),
    Case("winml_cifar_classifier", "classifier", blocks=((12, 28, 28), (24, 10, 10))),
    Case("yolox_nano", "YOLOX detector", {"task": "detection"} | BGR, "detection",
         ((16, 208, 208), (32, 104, 104), (64, 52, 52), (128, 26, 26), (128, 13, 13))),
    Case("yunet_120x160", "YuNet face detector", {"task": "detection"} | BGR, "detection",
         ((16, 60, 80), (64, 30, 40), (64, 15, 20), (64, 7, 10), (64, 3, 5), (51, 1, 2))),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What came of a file.

    Attributes
    ----------
    task : str
        "" where it was refused.
    blocks : tuple of (int, int, int)
    asked : str
        What was explained, in the result's words.
    covered : float
        Share of the heat map that is not zero.
    reason : str
        The error, where it was refused.
    seconds : float
    """

    task: str = ""
    blocks: tuple[tuple[int, int, int], ...] = ()
    asked: str = ""
    covered: float = 0.0
    reason: str = ""
    seconds: float = 0.0


def pictures_of(data: Path) -> list[Path]:
    """The pictures of COCO."""
    return sorted((data / "coco_val79" / "val2017").glob("*.jpg"))


def measure(case: Case, data: Path) -> Row:
    """Export a file, and explain a picture with it.

    Parameters
    ----------
    case : Case
    data : Path
        The folder that holds wild and coco_val79.
    """
    import sise_ort

    started = time.monotonic()
    options = dict(case.options) if "mean" in case.options else {"normalize": "none", **case.options}
    require(data, f"wild/{case.file}.onnx", "coco_val79/val2017")
    source = data / "wild" / f"{case.file}.onnx"
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / f"{case.file}.sise"
        try:
            manifest = sise_ort.export(source, bundle, **options)
        except sise_ort.ExportError as error:
            text = str(error).replace(f"{source.parent}/", "")
            return Row(reason=text, seconds=time.monotonic() - started)
        blocks = tuple((b.channels, b.height, b.width) for b in manifest.layers)
        with sise_ort.load(bundle, provider="cpu") as explainer:
            pictures = pictures_of(data)
            if case.task == "detection":  # the first picture on which something is found
                pictures = [next(picture for picture in pictures if explainer.detections(picture))]
            result = explainer.explain(pictures[0], target=question(case.task, data), passes=PASSES)
        assert np.isfinite(result.heatmap).all()
        return Row(
            manifest.task.name,
            blocks,
            result.label.replace(f"{data}/", ""),
            float((result.heatmap > 0).mean()),
            seconds=time.monotonic() - started,
        )


def question(task: str, data: Path) -> Any:
    """What is explained of a picture."""
    from sise_ort import targets

    if task == "segmentation":
        return targets.Region(1, box=(100, 100, 300, 300))
    if task == "embedding":
        return targets.LikenessTo(pictures_of(data)[1])
    return {"value": targets.Value(), "detection": targets.Detection(0)}.get(task)


def section(rows: Mapping[str, Row]) -> str:
    """The table as Markdown, with its heading."""
    explained = sum(bool(row.task) for row in rows.values())
    lines = [
        f"{HEADING}: {len(rows)}",
        "",
        f"Files as found in public repositories, by `python benchmarks/wild.py`: {explained} are explained in their own task, "
        f"{len(rows) - explained} are refused with the true reason.",
        "",
        "| file | what it is | options | task | blocks | result |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        if (row := rows.get(case.file)) is None:
            continue
        options = ", ".join(f"`{name}={value}`" for name, value in case.options.items())
        blocks = ", ".join(f"{c}×{h}" + ("" if h == w else f"×{w}") for c, h, w in row.blocks)
        found = f"explained: {row.asked}" if row.task else f"refused: {row.reason}"
        lines.append(f"| {case.file} | {case.what} | {options} | {row.task} | {blocks} | {found} |")
    return "\n".join(lines) + "\n"


def replaced(page: str, new: str) -> str:
    """A page with its section on these files in place of the one before, or at its end."""
    kept = re.sub(rf"\n*{HEADING}.*?(?=\n## |\Z)", "", page, flags=re.DOTALL)
    return f"{kept.rstrip()}\n\n{new}"


def section_of(page: str) -> str:
    """The section on these files as a page has it, "" where it has none."""
    found = re.search(rf"^{HEADING}.*?(?=\n## |\Z)", page, re.DOTALL | re.MULTILINE)
    return f"{found[0].rstrip()}\n" if found else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds wild and coco_val79")
    parser.add_argument("--only", nargs="*", default=None, help="these files alone")
    parser.add_argument("--write", action="store_true", help="write the table into docs/models.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = {}
    for case in CASES:
        if arguments.only is None or case.file in arguments.only:
            row = rows[case.file] = measure(case, arguments.data)
            print(
                f"{case.file}: {row.task or 'refused'} {row.blocks or ''} {row.asked}{row.reason} {row.covered:.0%} {row.seconds:.1f} s",
                flush=True,
            )
    if arguments.write:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), section(rows)), encoding="utf-8")
    else:
        print(section(rows))


if __name__ == "__main__":
    main()
