"""sise-ort layers: a report on any network, and on bundles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from click.testing import CliRunner, Result
from tiny import tiny_model

from sise_ort.cli.main import main


def layers(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["layers", *map(str, arguments)])


def test_a_classifier(tiny_onnx: Path) -> None:
    result = layers(tiny_onnx)
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    chosen = [line.split() for line in lines if line.startswith("block")]
    assert [(row[1], row[2]) for row in chosen] == [("1", "r1"), ("2", "r2"), ("3", "r3")]
    assert chosen[2][3:6] == ["16", "8", "×"] and chosen[2][6] == "12"
    rows = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert rows["p1"].endswith("only pooled") and rows["x"].endswith("before the first layer")
    assert "a colour picture, 32 × 48" in result.stdout
    assert "class scores of 4 classes before their activation" in result.stdout
    assert "Nothing stands in the way of an export" in result.stdout
    assert lines[-1].endswith("give export --normalize, or --mean and --std.")
    assert "Operators without" not in result.stdout


def test_named_layers(tiny_onnx: Path) -> None:
    result = layers(tiny_onnx, "--layers", "c2,r3")
    chosen = [line.split()[2] for line in result.stdout.splitlines() if line.startswith("block")]
    assert chosen == ["c2", "r3"]
    result = layers(tiny_onnx, "--layers", "nothing")
    assert result.exit_code == 0
    assert "In the way of an export" in result.stdout and "no tensor or module 'nothing'" in result.stdout


def test_an_operator_without_a_rule(tmp_path: Path) -> None:
    model = tiny_model()
    next(n for n in model.graph.node if n.output[0] == "r2").op_type = "Atan"
    onnx.save(model, tmp_path / "atan.onnx")
    result = layers(tmp_path / "atan.onnx")
    assert result.exit_code == 0
    after = result.stdout.split("Operators without a gradient rule")[1]
    assert after.splitlines()[2].split() == ["Atan", "1"]
    assert "- there is no gradient rule for operator Atan" in after
    assert "- --layers r2,r3" in after.split("What helps")[1]  # gradients need not pass through it
    assert layers(tmp_path / "atan.onnx", "--layers", "r2,r3").stdout.count("Nothing stands in the way") == 1


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    """Two branches of four convolutions side by side: none lies on every path."""
    lines = ["a = Conv<pads=[1,1,1,1]>(picture, w)"]
    for branch in "bc":
        lines.append(f"{branch}0 = Conv<pads=[1,1,1,1]>(a, v)")
        lines += [f"{branch}{i} = Conv<pads=[1,1,1,1]>({branch}{i - 1}, v)" for i in range(1, 4)]
    lines.append("s = Add(b3, c3)\n g = GlobalAveragePool(s)\n scores = Flatten(g)")
    text = f'<ir_version: 8, opset_import: ["" : 20]> t (float[n,3,16,16] picture) => (float[n,4] scores) {{ {" ".join(lines)} }}'
    model = onnx.parser.parse_model(text)
    for name, inputs in (("w", 3), ("v", 4)):
        model.graph.initializer.append(
            onnx.helper.make_tensor(name, 1, (4, inputs, 3, 3), [0.1] * (36 * inputs))
        )
    onnx.save(model, tmp_path / "branches.onnx")
    further = layers(tmp_path / "branches.onnx").stdout.split("whose names --layers takes")[1]
    assert [line.split()[0] for line in further.splitlines()[2:5]] == ["c1", "c2", "c3"]
    assert further.splitlines()[5] == "and 5 more (--all)"
    everything = layers(tmp_path / "branches.onnx", "--all").stdout.split("whose names --layers takes")[1]
    assert [line.split()[0] for line in everything.splitlines()[2:10]] == [
        f"{b}{i}" for b in "bc" for i in range(4)
    ]


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello\x1b[31m")
    result = layers(tmp_path / "text.onnx")
    assert result.exit_code == 1 and "In the way of an export\n- " in result.stdout
    assert "not an ONNX model" in result.stdout and result.stderr == ""
    result = layers(tmp_path / "missing.onnx")
    assert result.exit_code == 1 and "there is no model file" in result.stderr and result.stdout == ""
    (tmp_path / "empty.sise").mkdir()
    result = layers(tmp_path / "empty.sise")
    assert result.exit_code == 1 and "has no manifest.json" in result.stderr


def test_a_bundle(tiny_bundle: Path) -> None:
    result = layers(tiny_bundle)
    assert result.exit_code == 0
    facts = dict(line.split("  ", 1) for line in result.stdout.split("\n\n")[0].splitlines())
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    assert facts["made from"] == "onnx tiny.onnx"
    assert facts["frames"] == "32 × 48 × 3, uint8; network inputs any number at a time"
    assert facts["pixels"] == "rgb, mean 127.5, 127.5, 127.5, std 127.5, 127.5, 127.5; masks hide with mean"
    assert facts["fit"] == "stretch to 32 × 48"
    assert "4 classes, 4 of them named" in facts["head"] and facts["precision"] == "fp32"
    assert set(facts["graphs"].split(", ")) == {"extract", "mask", "apply", "predict", "fuse", "sketch"}
    assert [line.split()[2] for line in result.stdout.splitlines() if line.startswith("block ")] == [
        "r1",
        "r2",
        "r3",
    ]


def test_a_bundle_needs_no_onnx(tiny_bundle: Path) -> None:
    code = (
        "import sys\nfor name in ('onnx', 'onnx_ir', 'torch', 'onnxruntime'): sys.modules[name] = None\n"
        "from sise_ort.cli.main import main; main()"
    )

    def run(source: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, "layers", source], capture_output=True, text=True)

    done = run(tiny_bundle)
    assert done.returncode == 0 and "block 3" in done.stdout, done.stderr
    done = run(tiny_bundle / "extract.onnx")
    assert done.returncode == 1 and "pip install 'sise-ort[cpu,export]'" in done.stderr


@pytest.mark.parametrize("flag", ["--head", "--color"])
def test_wrong_usage_stays_wrong_usage(tiny_onnx: Path, flag: str) -> None:
    assert layers(tiny_onnx, flag, "nothing").exit_code == 2


def test_any_tensor_as_output(tiny_onnx: Path) -> None:
    result = layers(tiny_onnx, "--output", "g")
    assert result.exit_code == 0
    assert "class scores of 16 classes" in result.stdout and "Nothing stands in the way" in result.stdout


def segmentation() -> onnx.ModelProto:
    text = (
        '<ir_version: 8, opset_import: ["" : 20]> t (float[n,3,32,48] picture) => (float[n,2,32,48] map)\n'
        "{ a = Conv<pads=[1,1,1,1]>(picture, w)\n r = Relu(a)\n p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)\n"
        'b = Conv<pads=[1,1,1,1]>(p, v)\n s = Relu(b)\n u = Resize<mode="linear">(s, , scales)\n c = Concat<axis=1>(r, u)\n'
        "d = Conv(c, k)\n map = Softmax<axis=1>(d) }"
    )
    model = onnx.parser.parse_model(text)
    for name, dims in (("w", (4, 3, 3, 3)), ("v", (4, 4, 3, 3)), ("k", (2, 8, 1, 1))):
        array = np.random.default_rng(1).normal(0, 0.3, dims).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    scales = np.array([1, 1, 2, 2], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(scales, "scales"))
    return model


def test_a_segmentation_and_its_bundle(tmp_path: Path) -> None:
    """The report says what an export takes it for, with the flags of the command line; the bundle says the same."""
    onnx.save(segmentation(), tmp_path / "s.onnx")
    result = layers(tmp_path / "s.onnx")
    assert "An export takes the outputs for: segmentation\n- " in result.stdout
    assert "--task" in result.stdout and "\\x02" not in result.stdout
    assert [line.split()[2] for line in result.stdout.splitlines() if line.startswith("block ")] == ["r", "s"]
    done = CliRunner().invoke(
        main,
        ["export", str(tmp_path / "s.onnx"), "-o", str(tmp_path / "s.sise"), "--normalize", "none"],
    )
    assert done.exit_code == 0, done.stderr
    assert "it is taken for a segmentation; if it is none, pass --task classes" in done.stderr
    assert "task       segmentation, height 32, width 48\n" in layers(tmp_path / "s.sise").stdout
