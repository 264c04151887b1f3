"""The house: which room may import what, and that the packages listed are the packages there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("sise_ort", "runtime", "exporter", "cli")

# What a module of a room may import besides the standard library, its own room and the rooms below it.
ALLOWED = {
    "sise_ort": {"numpy", "cv2"},
    "runtime": {"numpy"},
    "exporter": {"numpy", "onnx", "onnx_ir", "google"},
    "cli": {"numpy", "click", "rich", "cv2"},
}
ONLY_IN = {
    "onnxruntime": {"runtime/providers.py", "exporter/precision.py"},
    "torch": {"exporter/sources/torch_model.py"},
    "torchvision": set(),
    "pycocotools": {"sise_ort/datasets/coco.py"},
    "matplotlib": {"cli/evaluation/plots.py"},
}
BELOW = {"sise_ort": set(), "runtime": set(), "exporter": {"runtime"}, "cli": {"runtime", "exporter"}}
PUBLIC_API = "sise_ort/__init__.py"  # opens the rooms above when it is called


def modules(room: str) -> list[Path]:
    links = {ROOT / "sise_ort" / name for name in ("exporter", "runtime", "cli")}
    return [p for p in sorted((ROOT / room).rglob("*.py")) if not links & set(p.parents)]


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_dependencies_point_down(room: str) -> None:
    import sys

    for path in modules(room):
        name = str(path.relative_to(ROOT))
        for module in imports(path):
            parts = module.split(".")
            if parts[0] == "sise_ort":
                other = parts[1] if len(parts) > 1 and parts[1] in ROOMS[1:] else "sise_ort"
                if other not in {room, "sise_ort", *BELOW[room]} and name != PUBLIC_API:
                    pytest.fail(f"{name} imports {module}: {room} stands below {other}")
            elif parts[0] in ONLY_IN:
                assert name in ONLY_IN[parts[0]], f"{name} imports {module}"
            elif parts[0] not in sys.stdlib_module_names:
                assert parts[0] in ALLOWED[room], f"{name} imports {module}"


def test_nobody_imports_a_second_copy() -> None:
    for folder in (*ROOMS, "tests", "benchmarks", "examples"):
        for path in modules(folder):
            assert not {m.split(".")[0] for m in imports(path)} & {"exporter", "runtime", "cli"}, path


def test_frames_of_network_size_need_neither_opencv_nor_the_command_line() -> None:
    for room in ("sise_ort", "runtime"):
        for path in modules(room):
            if path.name != "drawing.py":
                assert not {m.split(".")[0] for m in imports(path, top_level_only=True)} & {
                    "cv2",
                    "click",
                    "rich",
                }, path


def test_packages_listed_are_packages_there() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^packages = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    listed = set(re.findall(r'"([\w.]+)"', block[1]))
    there = set()
    for room in ROOMS:
        for init in [p for p in modules(room) if p.name == "__init__.py"]:
            path = init.parent.relative_to(ROOT)
            there.add(".".join(path.parts if room == "sise_ort" else ("sise_ort", *path.parts)))
        assert not [p for p in modules(room) if not (p.parent / "__init__.py").is_file()]
    assert listed == there


def test_links_lead_to_the_rooms() -> None:
    for room in ROOMS[1:]:
        link = ROOT / "sise_ort" / room
        assert link.is_symlink() and link.readlink() == Path("..") / room


def test_modules_stay_readable() -> None:
    long = [
        (str(p), n) for room in ROOMS for p in modules(room) if (n := len(p.read_text().splitlines())) > 400
    ]
    assert not long
