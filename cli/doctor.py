"""sise-ort doctor"""

from __future__ import annotations

import platform
from importlib import metadata

import click

PACKAGES = {
    "runtime": ("numpy", "opencv-python-headless", "click", "rich", "onnxruntime", "onnxruntime-gpu"),
    "export": ("onnx", "onnx-ir"),
    "torch": ("torch", "torchvision", "onnxscript"),
    "timm": ("timm",),
}


@click.command("doctor")
def command() -> None:
    """Check the installation and the providers that really work.

    Exit code 1 if no provider works or two onnxruntime packages overwrite each other.
    """
    from sise_ort import __version__
    from sise_ort.cli.console import print_table
    from sise_ort.errors import MissingDependencyError, ProviderError

    rows = [["", "python", platform.python_version()], ["", "sise-ort", __version__]]
    installed: dict[str, str] = {}
    for group, names in PACKAGES.items():
        for name in names:
            try:
                installed[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                if name.startswith("onnxruntime"):
                    continue
            rows.append([group, name, installed.get(name, "not installed")])
    print_table(["needed for", "package", "version"], rows)
    click.echo()

    problems = []
    if {"onnxruntime", "onnxruntime-gpu"} <= installed.keys():
        problems.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. Mend it with: "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'sise-ort[cpu]' (or 'sise-ort[gpu]')"
        )
    works = []
    try:
        from sise_ort.runtime.providers import PROVIDERS, missing_library, require_working
    except MissingDependencyError as error:
        problems.append(str(error))
    else:
        rows = []
        for name in PROVIDERS:
            try:
                require_working(name)
            except ProviderError as error:
                library = missing_library(name)
                rows.append([name, "no", f"the library {library} is missing" if library else str(error)])
            else:
                works.append(name)
                rows.append([name, "yes", ""])
        print_table(["provider", "works", "why not"], rows)
        click.echo()
        if not works:
            problems.append("no provider works")
        if "onnxruntime-gpu" in installed and "cuda" not in works:
            click.echo(
                "For CUDA: an NVIDIA driver (nvidia-smi must answer), and CUDA 13 with cuDNN 9, either from "
                "pip install 'sise-ort[gpu]' or installed on the system with 'sise-ort[gpu-system]'."
            )
    for problem in problems:
        click.echo(f"problem: {problem}")
    if problems:
        raise SystemExit(1)
    click.echo(f"Ready on {', '.join(works)}.")
