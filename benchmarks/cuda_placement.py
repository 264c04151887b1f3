"""Where onnxruntime places the nodes of a bundle's graphs on a GPU, as it says itself; also where there is no GPU.

    python benchmarks/cuda_placement.py model.sise                  # on a machine with a GPU
    python benchmarks/cuda_placement.py model.sise --without-gpu    # on any other (Linux, gcc)

Needs onnxruntime-gpu with CUDA's and cuDNN's libraries (the extra `gpu`). onnxruntime decides where nodes run, and where
tensors must be copied for it, when it opens a session, before it computes anything. Without a GPU, a small library
(no_gpu.c) answers the calls that come before, as an empty GPU of compute capability 9.0 would; what comes after fails, and
is of no interest here.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

OPEN = """
import sys, onnxruntime
onnxruntime.preload_dlls()
onnxruntime.set_default_logger_severity(0)
options = onnxruntime.SessionOptions()
options.log_severity_level = 0
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CUDAExecutionProvider"], enable_fallback=0)
"""


@dataclass(frozen=True)
class Placement:
    """Nodes of one graph on the GPU, those on the CPU by operator, and copies between the two."""

    gpu: int
    cpu: Counter[str]
    copies: int


def placement(graph: Path, variables: dict[str, str]) -> Placement:
    """What onnxruntime says when it opens a graph.

    Raises
    ------
    RuntimeError : it says nothing.
    """
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(graph)], env=os.environ | variables, capture_output=True, text=True
    )
    nodes: Counter[tuple[str, str]] = Counter()
    provider = ""
    for line in (done.stdout + done.stderr).splitlines():
        words = line.rsplit("VerifyEachNodeIsAssignedToAnEp]", 1)
        if len(words) < 2:
            continue
        told = words[1].strip()
        if whole := re.match(r"All nodes placed on \[(\w+)\]\. Number of nodes: (\d+)", told):
            nodes[whole[1], "?"] += int(whole[2])
        elif part := re.match(r"Node\(s\) placed on \[(\w+)\]", told):
            provider = part[1]
        elif node := re.match(r"(\w+) \(.*\)", told):
            nodes[provider, node[1]] += 1
    if not nodes:
        raise RuntimeError(f"onnxruntime did not come to place the nodes of {graph}:\n{done.stderr[-2000:]}")
    gpu = sum(n for (where, _), n in nodes.items() if where == "CUDAExecutionProvider")
    copies = sum(n for (_, kind), n in nodes.items() if kind.startswith("Memcpy"))
    cpu = Counter({kind: n for (where, kind), n in nodes.items() if where == "CPUExecutionProvider"})
    return Placement(gpu - copies, cpu, copies)


def stand_in(folder: Path) -> dict[str, str]:
    """Builds the library that answers instead of a GPU; returns the environment that loads it."""
    source = Path(__file__).with_name("no_gpu.c")
    common = ["gcc", "-shared", "-fPIC", str(source)]
    subprocess.run([*common, "-o", str(folder / "no_gpu.so")], check=True)
    driver = ["-DDRIVER", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([*common, *driver], check=True)
    path = os.environ.get("LD_LIBRARY_PATH")
    return {
        "LD_PRELOAD": str(folder / "no_gpu.so"),
        "LD_LIBRARY_PATH": f"{folder}:{path}" if path else str(folder),
    }


def report(bundle: Path, variables: dict[str, str]) -> None:
    """A line per graph."""
    for graph in sorted(bundle.glob("*.onnx")):
        found = placement(graph, variables)
        rest = ", ".join(f"{n} {kind}" for kind, n in sorted(found.cpu.items())) or "none"
        print(f"{graph.stem:16}{found.gpu:5} nodes on the GPU, on the CPU: {rest}; copies: {found.copies}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--without-gpu", action="store_true", help="there is none on this machine")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        variables = stand_in(Path(folder)) if arguments.without_gpu else {}
        for bundle in arguments.bundles:
            print(bundle)
            report(bundle, variables)


if __name__ == "__main__":
    main()
