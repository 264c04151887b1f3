"""Public docstrings as numpydoc reads them: one line of what it is, and every parameter with its type and meaning."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc, NumpyDocString

import sise_ort
from sise_ort.bundle import Manifest
from sise_ort.exporter import export_bundle, options

CLASSES: list[type] = [Manifest, *(o for n in sise_ort.__all__ if inspect.isclass(o := getattr(sise_ort, n)))]
OPTIONS = [*options.GROUPS.values()]
CLASSES += OPTIONS
FUNCTIONS: list[Callable[..., Any]] = [sise_ort.load, sise_ort.export, export_bundle]
METHODS = [
    pytest.param(inspect.unwrap(getattr(member, "fget", None) or getattr(member, "__func__", member)), id=f"{c.__name__}.{name}")
    for c in CLASSES
    for name, member in vars(c).items()
    if not name.startswith("_") and (isinstance(member, (property, classmethod, staticmethod)) or inspect.isfunction(member))
]  # fmt: skip
ERRORS = {name for name in sise_ort.__all__ if name.endswith("Error")}


def problems(doc: NumpyDocString, parameters: dict[str, Any] | None) -> list[str]:
    """What is wrong with a docstring; `parameters` are those that it must describe, None where it need not."""
    found = []
    summary = doc["Summary"]
    if len(summary) != 1 or not summary[0].strip():
        found.append(f"its summary is no single line: {summary}")
    elif not summary[0].rstrip().endswith((".", ":", "?")):
        found.append(f"its summary is no sentence: {summary[0]!r}")
    described = doc["Parameters"]
    names = [name.strip().lstrip("*") for entry in described for name in entry.name.split(",")]
    if (
        "options" in names and parameters is not None
    ):  # they are the fields of classes that are looked at themselves
        fields = {field.name for group in OPTIONS for field in dataclasses.fields(group)}
        parameters = {k: v for k, v in parameters.items() if k in names or k not in fields} | {
            "options": None
        }
    if parameters is not None and sorted(names) != sorted(parameters):
        found.append(f"Parameters are {names}, the signature has {list(parameters)}")
    for section in ("Parameters", "Attributes"):
        for entry in doc.get(section, ()):
            text = " ".join(entry.desc).strip()
            typed = entry.type.strip() or entry.name.startswith("**") or text.startswith("As for ")
            if not typed or not text:
                found.append(f"{section}: '{entry.name}' lacks its type or its meaning")
    for entry in doc["Raises"]:
        for name in entry.type.split(","):
            if name.strip() not in ERRORS and not hasattr(__builtins__, name.strip()):
                found.append(f"Raises: {name!r} is none of our errors")
    return found


def parsed(make: Callable[[], NumpyDocString]) -> NumpyDocString:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpydoc warns of sections that it does not know
        return make()


def signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(function).parameters)
    return {name: p for name, p in found.items() if name not in ("self", "cls")}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_functions(function: Callable[..., Any]) -> None:
    assert problems(parsed(lambda: FunctionDoc(function)), signature(function)) == []


@pytest.mark.parametrize("method", METHODS)
def test_methods(method: Callable[..., Any]) -> None:
    assert problems(parsed(lambda: FunctionDoc(method)), signature(method)) == []


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_classes(cls: type) -> None:
    """A class's constructor is described in its own docstring; data classes and structs may call the fields attributes."""
    doc = parsed(lambda: ClassDoc(cls, config={"show_class_members": False}))
    assert inspect.getdoc(cls) and cls.__doc__
    if issubclass(cls, Exception):
        assert problems(doc, None) == []
        return
    made_elsewhere = "make it with `sise_ort.load`" in cls.__doc__  # whose parameters are its own
    expected = None if made_elsewhere else signature(cls)
    fields = dataclasses.is_dataclass(cls) or hasattr(cls, "__struct_fields__")
    if fields and doc["Attributes"] and not doc["Parameters"]:
        doc["Parameters"] = doc["Attributes"]
    assert problems(doc, expected) == []


def test_a_docstring_that_tools_cannot_read_is_found() -> None:
    def packed(a: int, b: int) -> int:
        """What it computes,
        in two lines

        a : first. b : second.
        """
        return a + b

    def forgotten(a: int, b: int) -> int:
        """Sum of two numbers.

        Parameters
        ----------
        a : int
            First.

        Raises
        ------
        SomethingError
        """
        return a + b

    first = problems(parsed(lambda: FunctionDoc(packed)), signature(packed))
    assert len(first) == 2 and "single line" in first[0] and "['a', 'b']" in first[1]
    second = problems(parsed(lambda: FunctionDoc(forgotten)), signature(forgotten))
    assert len(second) == 2 and "['a', 'b']" in second[0] and "SomethingError" in second[1]


def test_every_public_name_is_there() -> None:
    for name in sise_ort.__all__:
        assert getattr(sise_ort, name) is not None
    assert importlib.import_module("sise_ort").__all__ == sorted(sise_ort.__all__)
