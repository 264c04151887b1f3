"""sise-ort doctor"""

from __future__ import annotations

import platform
from importlib import metadata

import click

PACKAGES = {
    "runtime": (
        "numpy",
        "opencv-python-headless",
        "click",
        "rich",
        "msgspec",
        "platformdirs",
        "jinja2",
        "simplejpeg",
    ),
    "ONNX Runtime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "export": ("onnx", "onnx-ir"),
    "torch": ("torch", "torchvision", "onnxscript"),
    "timm": ("timm",),
    "evaluate": ("pycocotools", "matplotlib", "pyarrow"),
}


@click.command("doctor")
def command() -> None:
    """Check what is installed and which providers work.

    The exit code is 1 if no provider works or if several onnxruntime packages overwrite each other.
    """
    from sise_ort import __version__
    from sise_ort.cli.console import print_table

    versions = installed_versions()
    rows = [["", "python", platform.python_version()], ["", "sise-ort", __version__]]
    for group, names in PACKAGES.items():
        for name in names:
            if name in versions or not name.startswith("onnxruntime"):
                rows.append([group, name, versions.get(name, "not installed")])
    print_table(["needed for", "package", "version"], rows)
    click.echo()

    problems = clashes(versions)
    works, table, problem = working_providers()
    if table:
        print_table(["provider", "works", "why not"], table)
        click.echo()
    if problem:
        problems.append(problem)
    elif not works:
        problems.append("no provider works")
    if "onnxruntime-gpu" in versions and "cuda" not in works:
        click.echo(
            "For CUDA: an NVIDIA driver (nvidia-smi must answer), and CUDA 13 with cuDNN 9, either from "
            "pip install 'sise-ort[gpu]' or installed on the system with 'sise-ort[gpu-system]'."
        )
    for words in problems:
        click.echo(f"problem: {words}")
    if problems:
        raise SystemExit(1)
    click.echo(f"Ready on {', '.join(works)}.")


def installed_versions() -> dict[str, str]:
    """Versions of the packages that sise-ort uses, as far as they are installed."""
    versions = {}
    for name in (name for names in PACKAGES.values() for name in names):
        try:
            versions[name] = str(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - a package's metadata can be damaged in any way
            versions[name] = f"damaged ({type(error).__name__})"
    return versions


def clashes(versions: dict[str, str]) -> list[str]:
    """Say where several onnxruntime packages are installed: each owns the same folder."""
    found = [name for name in PACKAGES["ONNX Runtime"] if name in versions]
    if len(found) < 2:
        return []
    extras = {"onnxruntime": "cpu", "onnxruntime-gpu": "gpu", "onnxruntime-openvino": "openvino"}
    choices = " or ".join(f"pip install 'sise-ort[{extras[name]}]'" for name in found)
    number = "both" if len(found) == 2 else "all"
    return [
        f"{' and '.join(found)} are {number} installed and overwrite each other's files. "
        f"Mend it with: pip uninstall -y {' '.join(found)}, then {choices}"
    ]


def working_providers() -> tuple[list[str], list[list[str]], str]:
    """Try every execution provider.

    Returns
    -------
    works : list of str
        Names of those that work.
    table : list of rows
        Name, whether it works, why not.
    problem : str
        Why none could be tried, "" where they were.
    """
    from sise_ort.errors import MissingDependencyError, first_line, on_command_line

    try:
        from sise_ort.runtime.providers import Provider, listed, missing_library, spec_named
    except MissingDependencyError as error:
        return [], [], on_command_line(error)
    except Exception as error:  # noqa: BLE001 - half an installation fails in any way
        reason = f"{type(error).__name__}: {first_line(error)}"
        return [], [], f"onnxruntime is installed but broken ({reason}): install it again"
    works: list[str] = []
    table: list[list[str]] = []
    for name, precision in listed():
        words = name if precision == "auto" else f"{name} in {precision}"
        try:
            Provider(name, precision=precision)
        except Exception as error:  # noqa: BLE001 - whatever keeps a provider from working is the answer
            library = "" if name.startswith("plugin:") else missing_library(spec_named(name))
            table.append(
                [words, "no", f"the library {library} is missing" if library else on_command_line(error)]
            )
        else:
            works.append(words)
            table.append([words, "yes", ""])
    return works, table, ""
