from __future__ import annotations

import os
import socket
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy is imported: workers run side by side, and threads of BLAS and torch that spin would take each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import onnx
import onnx.parser
import pytest
from tiny import tiny_model

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REFERENCE = Path(__file__).parent / "reference"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("thorough", "modules of tests that `make test-fast` leaves out", type="args")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what takes long or needs a disk that can be filled; SISE_ORT_ORDER=reversed turns the order round."""
    for item in items:
        if item.path.stem in config.getini("thorough"):
            item.add_marker("thorough")
        if "small_disk" in getattr(item, "fixturenames", ()):
            item.add_marker("services")
    if os.environ.get("SISE_ORT_ORDER") == "reversed":
        items.reverse()


@pytest.fixture(autouse=True)
def no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded in a test, whether the machine has internet or not."""
    here = ("localhost", "127.0.0.1", "::1")
    connect, find = socket.socket.connect, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in here:
            raise ConnectionRefusedError(f"a test asks for {address}: tests have no internet")
        connect(self, address)

    def find_here(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in (None, "", *here):
            raise socket.gaierror(f"a test asks for {host}: tests have no internet")
        return find(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", find_here)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real networks and pictures, where the machine has them."""
    if not SHARED.is_dir():
        pytest.skip("shared/data is not on this machine")
    return SHARED


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured on this machine must not change a test."""
    monkeypatch.setenv("SISE_ORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone, never on the tests that ran before it."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., onnx.ModelProto]:
    return tiny_model


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_model(), path)
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's bundle with four labels and a softmax head; do not change it."""
    import sise_ort

    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(tiny_model(), folder / "tiny.onnx")
    labels = ["ant", "bee", "cat", "1"]
    sise_ort.export(folder / "tiny.onnx", folder / "tiny.sise", normalize="tf", labels=labels)
    return folder / "tiny.sise"


@pytest.fixture(scope="session")
def sigmoid_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sise_ort

    folder = tmp_path_factory.mktemp("sigmoid")
    onnx.save(tiny_model(tail="y = Sigmoid(scores)"), folder / "tiny.onnx")
    sise_ort.export(
        folder / "tiny.onnx", folder / "tiny.sise", normalize="tf", labels=["ant", "bee", "cat", "1"]
    )
    return folder / "tiny.sise"


@pytest.fixture
def frame() -> np.ndarray[Any, Any]:
    """uint8 [32, 48, 3]: the tiny model's size, smooth with some noise."""
    rng = np.random.default_rng(11)
    rows, columns = np.mgrid[0:32, 0:48]
    waves = 128 + 90 * np.sin(rows / 5)[..., None] * np.cos(columns[..., None] / np.array([4, 7, 9]))
    return np.asarray(np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    """What other packages compute; see reference/make.py."""
    return dict(np.load(REFERENCE / "methods.npz"))


@pytest.fixture(scope="session")
def networks() -> Any:
    """The module reference/networks.py."""
    pytest.importorskip("torch")
    sys.path.insert(0, str(REFERENCE))
    import networks

    sys.path.remove(str(REFERENCE))
    return networks


@pytest.fixture(scope="session")
def reference_explainers(networks: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Explainers of the reference networks, with all graphs."""
    import sise_ort

    folder = tmp_path_factory.mktemp("methods")
    found = {}
    for name, build in {**networks.NETWORKS, "steep": networks.steep}.items():
        sise_ort.export(
            build(), folder / f"{name}.sise", mean=networks.MEAN, std=networks.STD, input_size=networks.SIZE,
            graphs=("head", "image-gradient", "full-gradient"),
        )  # fmt: skip
        found[name] = sise_ort.load(folder / f"{name}.sise", provider="cpu", batch_size=4)
    return found


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder: eight pictures in two classes, with masks; one picture of an unknown class, one truncated."""
    import cv2

    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label in ("ant", "bee", "zebra"):
        (root / label).mkdir()
        (root / "masks" / label).mkdir(parents=True)
    for i in range(8):
        data = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        mask[10 + i : 30, 8 : 20 + 3 * i] = 255
        name = f"{('ant', 'bee')[i % 2]}/{i}.png"
        cv2.imwrite(str(root / name), cv2.GaussianBlur(data, (0, 0), 2))
        if i != 5:
            cv2.imwrite(str(root / "masks" / name), mask)
    cv2.imwrite(str(root / "zebra" / "z.png"), data)
    whole = (root / "ant" / "0.png").read_bytes()
    (root / "ant" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="session")
def evaluated(tiny_bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an evaluation of `pictures` that ran to its end has written."""
    from evaluating import arguments, run

    out = tmp_path_factory.mktemp("evaluated") / "out"
    result = run(*arguments(tiny_bundle, pictures, out))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(out / "index.html")
    return out
