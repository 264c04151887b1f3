"""The house: which room may import what, no circles, nothing too long, and the packages listed are the packages there."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("sise_ort", "runtime", "exporter", "line", "cli")

# What a module of a room may import besides the standard library, its own room and the rooms below it.
ALLOWED = {
    "sise_ort": {"numpy", "cv2", "msgspec", "jinja2", "simplejpeg"},
    "runtime": {"numpy", "msgspec", "platformdirs"},
    "exporter": {"numpy", "onnx", "onnx_ir", "google", "msgspec"},
    "line": {"numpy", "cv2", "msgspec", "anyio"},
    "cli": {"numpy", "click", "rich", "cv2", "msgspec"},
}
SERVER = {
    f"line/server/{name}.py"
    for name in (
        "access",
        "app",
        "connections",
        "metrics",
        "models",
        "protocol_v1",
        "protocol_v2",
        "running",
        "uploads",
    )
}
DATABASE = {
    f"line/evidence/{name}.py"
    for name in ("database", "finding", "outbox", "retention", "store", "tables", "verifying")
}
ONLY_IN = {
    "onnxruntime": {"runtime/providers/opening.py", "exporter/precision.py", "exporter/integers.py"},
    "torch": {"exporter/sources/torch_model.py"},
    "torchvision": set(),
    "pycocotools": {"sise_ort/datasets/coco.py"},
    "matplotlib": {"cli/evaluation/plots.py"},
    "pyarrow": {
        "line/cluster/results.py",
        "line/cluster/sources.py",
        "line/evidence/exporting.py",
        "runtime/evaluation/tables.py",
    },
    "ray": {f"line/cluster/{name}.py" for name in ("dataset", "serving", "starting")},
    "sqlalchemy": DATABASE,
    "fsspec": {"line/evidence/files.py", "line/cluster/places.py"},
    "fastapi": SERVER,
    "starlette": {*SERVER, "line/cluster/serving.py"},
    "uvicorn": SERVER,
    "h11": SERVER,
    "prometheus_client": {*SERVER, "line/metrics.py"},
    "watchdog": {"line/sources/folder.py"},
    "httpx": {"line/sinks/webhook.py"},
    "paho": {"line/sinks/mqtt.py"},
    "jinja2": {"sise_ort/pages/rendering.py"},
    "markupsafe": {"sise_ort/pages/rendering.py"},
}
BELOW = {
    "sise_ort": set(),
    "runtime": set(),
    "exporter": {"runtime"},
    "line": {"runtime"},
    "cli": {"runtime", "exporter", "line"},
}
PUBLIC_API = "sise_ort/__init__.py"  # opens the rooms above when it is called


def modules(room: str) -> list[Path]:
    links = {ROOT / "sise_ort" / name for name in ("exporter", "runtime", "line", "cli")}
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
            assert not {m.split(".")[0] for m in imports(path)} & {"exporter", "runtime", "line", "cli"}, path


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


# Circles --------------------------------------------------------------------------------------------


def module_name(path: Path) -> str:
    """``sise_ort.runtime.model`` for runtime/model.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "sise_ort" else ("sise_ort", *parts))


def statements_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported: also those in `if`, `try` and classes, but not what only type
    checkers read, and no function's body."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements_at_import(node.orelse)
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef, ast.For, ast.While)):
            for part in ("body", "orelse", "finalbody"):
                yield from statements_at_import(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from statements_at_import(handler.body)


def imported_modules(source: str, names: set[str]) -> set[str]:
    """Which of the modules `names` a module imports when it is imported itself."""
    found = set()
    for node in statements_at_import(ast.parse(source).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in names else str(node.module))
    return found & names


def circle(sources: dict[str, str]) -> list[str] | None:
    """One circle of imports among modules (name to text), or None."""
    names = set(sources)
    try:
        graphlib.TopologicalSorter(
            {n: imported_modules(text, names) for n, text in sources.items()}
        ).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


def test_no_circles_of_imports() -> None:
    paths = [p for room in ROOMS for p in modules(room)]
    found = circle({module_name(p): p.read_text(encoding="utf-8") for p in paths})
    assert found is None, " imports ".join(reversed(found or []))


def test_a_circle_is_found() -> None:
    lazy = "def f():\n    import b\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\n"
    hidden = "try:\n    from b import x\nexcept ImportError:\n    x = None\n"
    back = "import a\n"
    assert circle({"a": lazy, "b": back}) is None and circle({"a": typed, "b": back}) is None
    assert set(circle({"a": hidden, "b": back}) or []) == {"a", "b"}
    assert set(circle({"p": "from p import q", "p.q": "import c", "c": "from p import y"}) or []) == {
        "p",
        "p.q",
        "c",
    }


# Functions ------------------------------------------------------------------------------------------

LONG: set[str] = set()
"""Functions over 60 lines that are still to be divided; nothing may be added."""
WIDE: set[str] = set()
"""Signatures over 8 parameters that are still to become objects; nothing may be added."""


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method with its name as ``runtime/model.py:BundleModel.extract``."""

    def walk(node: ast.AST, outer: tuple[str, ...]) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            inside = (*outer, child.name) if named else outer
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path.relative_to(ROOT).as_posix()}:{'.'.join(inside)}", child
            yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), ())


def test_functions_stay_readable() -> None:
    """At most 60 lines, decorators and docstring apart; at most 8 parameters, `self` and click's options apart."""
    long, wide = set(), set()
    for name, function in (f for room in ROOMS for p in modules(room) for f in functions(p)):
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        lines = (function.body[0].lineno - function.lineno) + (
            (function.end_lineno or 0) - body[0].lineno + 1 if body else 0
        )
        if lines > 60:
            long.add(name)
        a = function.args
        count = len([p for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg not in ("self", "cls")])
        of_click = any(
            "click." in ast.unparse(d) or "option" in ast.unparse(d) for d in function.decorator_list
        )
        if count > 8 and not of_click:
            wide.add(name)
    assert long <= LONG and wide <= WIDE, f"new: {sorted(long - LONG)} {sorted(wide - WIDE)}"


# Tests ----------------------------------------------------------------------------------------------


def test_tests_share_no_random_generator() -> None:
    """A generator at a test module's top level gives other numbers when other tests run first: take the fixture `rng`."""
    for path in sorted((ROOT / "tests").glob("**/*.py")):
        if "reference" in path.parts:  # scripts and what only they import
            continue
        for node in statements_at_import(ast.parse(path.read_text(encoding="utf-8")).body):
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)) and node.value is not None:
                called = node.value.func if isinstance(node.value, ast.Call) else node.value
                assert not re.search(
                    r"(default_rng|RandomState|Generator|Random|seed)$", ast.unparse(called)
                ), f"{path}:{node.lineno}"
