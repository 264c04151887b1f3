from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sise_ort
from sise_ort.bundle import Fit, InputSpec
from sise_ort.errors import FrameError, ParameterError, on_command_line
from sise_ort.fitting import Placement, fit_frame, place_back
from sise_ort.heatmap_files import heatmap_file, read_heatmap

ROUNDING = 2.0**-12
"""Half of float16's last place below 1; resizing takes means, which are no further apart than what they are of."""
WHOLE = Placement((32, 48), (0.0, 32.0, 0.0, 48.0), (0, 32, 0, 48))


def saved(path: Path, *arguments: Any) -> Path:
    path.write_bytes(heatmap_file(*arguments))
    return path


@pytest.mark.parametrize("mode", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(32, 48), (300, 411), (411, 300), (20, 7), (1, 500)])
def test_a_heat_map_comes_back_within_the_rounding_of_float16(
    tmp_path: Path, rng: np.random.Generator, mode: str, size: tuple[int, int], input_spec: InputSpec
) -> None:
    fit = Fit(mode=mode, resize=(40, 60), border=0)
    _, placement = fit_frame(np.zeros((*size, 3), np.uint8), input_spec, fit)
    heatmap, maps = rng.random((32, 48), np.float32), rng.random((3, 32, 48), np.float32)
    heatmap[3], maps[1] = 1, 0
    path = saved(tmp_path / "a.npz", heatmap, placement, maps)
    expected = place_back(heatmap, placement)
    found = read_heatmap(path)
    assert found.dtype == np.float32 and found.shape == size
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING + 1e-6)
    np.testing.assert_array_equal(found == 0, expected == 0)  # also outside what the network saw
    for block in (1, 2, 3):
        own = place_back(maps[block - 1], placement)
        np.testing.assert_allclose(read_heatmap(path, block=block), own, rtol=0, atol=ROUNDING + 1e-6)
    np.testing.assert_array_equal(
        read_heatmap(path, network_size=True), heatmap.astype(np.float16).astype(np.float32)
    )


@pytest.fixture
def input_spec(tiny_bundle: Path) -> InputSpec:
    with sise_ort.load(tiny_bundle, "cpu") as explainer:
        spec: InputSpec = explainer.manifest.input
        assert (spec.height, spec.width) == (32, 48)
        return spec


def test_the_same_map_gives_the_same_file_and_numpy_reads_it(rng: np.random.Generator) -> None:
    heatmap = rng.random((32, 48), np.float32)
    data = heatmap_file(heatmap, WHOLE)
    assert data == heatmap_file(heatmap.copy(), WHOLE) and len(data) < 2 * heatmap.size + 2000
    with np.load(BytesIO(data)) as arrays:
        assert set(arrays) == {"heatmap", "frame_size", "frame", "network"}
        assert arrays["heatmap"].dtype == np.float16 and arrays["frame_size"].tolist() == [32, 48]
    assert len(heatmap_file(np.zeros((224, 224), np.float32), WHOLE)) < 3000  # compressed


def test_blocks_that_are_not_there(tmp_path: Path) -> None:
    heatmap = np.full((32, 48), 0.5, np.float32)
    plain = saved(tmp_path / "plain.npz", heatmap, WHOLE)
    with pytest.raises(ParameterError, match=r"no maps of blocks: save .* with formats=\['maps'\]") as found:
        read_heatmap(plain, block=1)
    assert "--formats maps" in on_command_line(found.value)
    with_maps = saved(tmp_path / "maps.npz", heatmap, WHOLE, heatmap[None].repeat(2, 0))
    for block in (0, 3, -1, True, 1.0, "1"):
        with pytest.raises(ParameterError, match="has blocks 1 to 2"):
            read_heatmap(with_maps, block=block)  # type: ignore[arg-type]
    empty = saved(tmp_path / "none.npz", heatmap, WHOLE, heatmap[None][:0])
    with pytest.raises(ParameterError, match="has no maps of blocks"):
        read_heatmap(empty, block=1)
    with pytest.raises(ParameterError, match="a heat map is read from a path"):
        read_heatmap(3)  # type: ignore[arg-type]


def changed(**arrays: Any) -> bytes:
    whole = {
        "heatmap": np.full((32, 48), 0.5, np.float16),
        "frame_size": np.array([32, 48]),
        "frame": np.array([0.0, 32.0, 0.0, 48.0]),
        "network": np.array([0, 32, 0, 48]),
        **arrays,
    }
    stream = BytesIO()
    np.savez(stream, **{name: array for name, array in whole.items() if array is not None})
    return stream.getvalue()


def bomb() -> bytes:
    """A header that asks for 8 EB."""
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f2", "fortran_order": False, "shape": (1 << 31, 1 << 31)}
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    "arrays",
    [
        {"heatmap": None}, {"heatmap": np.full((32, 48), 0.5, np.float32)}, {"heatmap": np.zeros((31, 48), np.float16)},
        {"heatmap": np.zeros((1, 32, 48), np.float16)}, {"heatmap": np.full((32, 48), np.nan, np.float16)},
        {"heatmap": np.full((32, 48), 1.5, np.float16)}, {"heatmap": np.full((32, 48), -0.5, np.float16)},
        {"heatmap": np.array([[{}]])}, {"frame_size": None}, {"frame_size": np.array([32.0, 48.0])},
        {"frame_size": np.array([32, 48, 3])}, {"frame_size": np.array([1 << 40, 1 << 40])}, {"frame_size": np.array([0, 48])},
        {"frame": np.array([0.0, np.nan, 0.0, 48.0])}, {"frame": np.array([0.0, 33.0, 0.0, 48.0])},
        {"frame": np.array([5.0, 5.0, 0.0, 48.0])}, {"network": np.array([0, 33, 0, 48])}, {"network": np.array([-1, 32, 0, 48])},
    ],
)  # fmt: skip
def test_a_file_that_is_no_heat_map_is_one_error(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(changed())
    assert (read_heatmap(path) == 0.5).all()
    path.write_bytes(changed(**arrays))
    with pytest.raises(FrameError, match=r"x\.npz"):
        read_heatmap(path)


def test_damaged_and_missing_files_are_one_error(tmp_path: Path) -> None:
    data = changed()
    path = tmp_path / "x.npz"
    for content in (b"", b"PK", data[:-1], data[:200], data[:300] + b"\0" * 9 + data[309:]):
        path.write_bytes(content)
        with pytest.raises(FrameError, match="cannot be read"):
            read_heatmap(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("heatmap.npy", bomb())
    with pytest.raises(FrameError, match="cannot be read"):
        read_heatmap(path)
    for missing in (tmp_path / "none.npz", tmp_path, Path("a\0b.npz")):
        with pytest.raises(FrameError, match="cannot be read"):
            read_heatmap(missing)
    np.save(tmp_path / "x.npy", np.zeros((3, 3)))
    with pytest.raises(FrameError, match=r"an \.npy file is read by numpy\.load"):
        read_heatmap(tmp_path / "x.npy")


def test_an_array_that_unpacks_to_more_than_a_network_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "x.npz", np.zeros((32, 48), np.float32), WHOLE)
    monkeypatch.setattr("sise_ort.heatmap_files.LARGEST_MEMBER", 1000)
    with pytest.raises(FrameError, match="its array 'heatmap' has 3200 bytes"):
        read_heatmap(path)
