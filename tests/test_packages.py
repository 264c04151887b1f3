"""The wheel and the source archive: what is in them, and that both install and work.

SISE_ORT_PACKAGING names a Python that has build and twine; `make test-services` prepares it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import onnx
import pytest
from tiny import tiny_model

ROOT = Path(__file__).resolve().parents[1]
PACKAGING = os.environ.get("SISE_ORT_PACKAGING", "")
ROOMS = ("sise_ort", "exporter", "runtime", "line", "cli")

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not Path(PACKAGING).is_file(), reason="SISE_ORT_PACKAGING names no Python with build and twine"
    ),
]


def run(*words: object, cwd: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def tracked(*folders: str) -> list[str]:
    return run("git", "ls-files", "-z", *folders, cwd=ROOT).rstrip("\0").split("\0")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A wheel and a source archive of the files that git tracks, as a release makes them."""
    clone, dist = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        target = clone / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    run(Path(PACKAGING).absolute(), "-m", "build", "--outdir", dist, clone)
    return sorted(dist.iterdir())


def members(wheel: Path) -> dict[str, bytes]:
    """Contents of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def test_a_release_is_a_wheel_and_an_archive_that_twine_takes(packages: list[Path]) -> None:
    assert [p.name.rsplit("-", 1)[-1] for p in packages if p.suffix == ".whl"] == ["any.whl"]
    assert len(packages) == 2
    run(Path(PACKAGING).absolute(), "-m", "twine", "check", "--strict", *packages)


def test_the_wheel_holds_what_the_rooms_hold(packages: list[Path]) -> None:
    wheel = members(next(p for p in packages if p.suffix == ".whl"))
    for name in tracked(*ROOMS):
        if (ROOT / name).is_symlink():
            continue
        room = name.split("/")[0]
        inside = name if room == "sise_ort" else f"sise_ort/{name}"
        assert wheel.get(inside) == (ROOT / name).read_bytes(), name
    ours = {name for name in wheel if ".dist-info/" not in name}
    assert len(ours) == len([n for n in tracked(*ROOMS) if not (ROOT / n).is_symlink()])
    metadata = Parser().parsestr(wheel[next(n for n in wheel if n.endswith("METADATA"))].decode())
    assert metadata["License-Expression"] == "Apache-2.0" and "# sise-ort" in metadata.get_payload()
    extras = set(metadata.get_all("Provides-Extra"))
    assert {"cpu", "gpu", "gpu-system", "openvino", "export", "torch", "serve", "evaluate"} <= extras


@pytest.mark.parametrize("kind", [".whl", ".gz"])
def test_both_install_and_work(kind: str, packages: list[Path], tmp_path: Path) -> None:
    """In an environment of its own; the packages that it needs are this environment's, as they are."""
    package = next(p for p in packages if p.suffix == kind)
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    places = [p for p in sys.path if p.endswith("-packages")]
    for link in Path(places[0]).glob("*.pth"):  # packages that this environment itself has from another one
        places += [line for line in link.read_text().splitlines() if line.endswith("-packages")]
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", package)
    (Path(site) / "shared.pth").write_text("\n".join(places))
    onnx.save(tiny_model(), tmp_path / "model.onnx")
    program = (
        "import sise_ort, sise_ort.cli.demo as demo\n"
        "assert 'env' in sise_ort.__file__, sise_ort.__file__\n"
        "sise_ort.export('model.onnx', 'model.sise', normalize='tf')\n"
        "import numpy as np\n"
        "result = sise_ort.load('model.sise').explain(np.zeros((32, 48, 3), np.uint8))\n"
        "assert result.heatmap.shape == (32, 48)\n"
        "assert (demo.STEEL / 'steel.onnx').is_file() and list((demo.STEEL / 'strips').glob('*.png'))\n"
    )
    run(python, "-I", "-c", program, cwd=tmp_path)
    script = tmp_path / "env" / "bin" / "sise-ort"
    assert "Usage: sise-ort" in run(script, "--help", cwd=tmp_path)
    assert "<title>" in run(
        python, "-c", "import sise_ort.pages as p; print(p.render('demo.html', title='x', table=([], []), strips=[], origin='', narrowest=1))"
    )  # fmt: skip
