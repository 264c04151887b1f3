"""The V2 protocol: JSON and binary tensors, predictions and explanations."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from serving import client, png

import sise_ort


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> sise_ort.Explainer:
    return sise_ort.load(tiny_bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Any]:
    with client({"tiny": tiny_bundle}) as found:
        yield found


def binary(server: Any, name: str, head: dict[str, Any], *tensors: bytes) -> Any:
    """Send a request with tensors behind its JSON; the answer's JSON and its tensors as bytes by name."""
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    answer = server.post(f"/v2/models/{name}/infer", content=text + b"".join(tensors), headers=headers)
    if answer.status_code != 200:
        return answer
    length = int(answer.headers["inference-header-content-length"])
    content, behind = json.loads(answer.content[:length]), answer.content[length:]
    parts = {}
    for row in content["outputs"]:
        size = row["parameters"]["binary_data_size"]
        parts[row["name"]], behind = behind[:size], behind[size:]
    assert not behind
    return content, parts


def test_server_and_models_describe_themselves(server: Any) -> None:
    assert server.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2/models/tiny/ready").json()["ready"] is True
    assert server.get("/v2/models/tiny-explain/ready").json()["ready"] is True
    assert server.get("/v2/models/other/ready").status_code == 404
    facts = server.get("/v2/models/tiny").json()
    assert facts["outputs"][0] == {"name": "scores", "datatype": "FP32", "shape": [-1, 4]}
    explains = server.get("/v2/models/tiny-explain").json()
    assert explains["outputs"][0] == {"name": "heatmap", "datatype": "FP32", "shape": [-1, 32, 48]}
    assert [one["datatype"] for one in explains["inputs"]] == ["UINT8", "BYTES"]


def test_predictions_of_pixels(server: Any, explainer: sise_ort.Explainer, frame: Any) -> None:
    frames = np.stack([frame, frame[::-1]])
    expected = [explainer.explain(one).scores for one in frames]
    tensor = {"name": "image", "shape": [2, 32, 48, 3], "datatype": "UINT8"}
    body = {"id": "7", "inputs": [{**tensor, "data": frames.ravel().tolist()}]}
    answer = server.post("/v2/models/tiny/infer", json=body).json()
    assert answer["id"] == "7" and answer["model_name"] == "tiny"
    outputs = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer["outputs"]}
    np.testing.assert_allclose(outputs["scores"], expected, rtol=1e-6)
    np.testing.assert_allclose(outputs["confidence"].sum(axis=1), 1, atol=1e-5)

    raw = {**tensor, "parameters": {"binary_data_size": frames.nbytes}}
    _, parts = binary(
        server, "tiny", {"inputs": [raw], "parameters": {"binary_data_output": True}}, frames.tobytes()
    )
    np.testing.assert_allclose(np.frombuffer(parts["scores"], "<f4").reshape(2, 4), expected, rtol=1e-6)


def test_explanations_of_picture_files(server: Any, explainer: sise_ort.Explainer, frame: Any) -> None:
    expected = explainer.explain(frame, "cat", mu=0.1)
    data = png(frame)
    strings = len(data).to_bytes(4, "little") + data
    tensor = {"name": "picture", "shape": [1], "datatype": "BYTES"}
    head = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(strings)}}],
        "parameters": {"target": "cat", "mu": 0.1, "binary_data_output": True},
        "outputs": [{"name": name} for name in ("heatmap", "label", "confidence", "overlay", "record")],
    }
    content, parts = binary(server, "tiny-explain", head, strings)
    assert [row["name"] for row in content["outputs"]] == [
        "heatmap",
        "label",
        "confidence",
        "overlay",
        "record",
    ]
    np.testing.assert_array_equal(np.frombuffer(parts["heatmap"], "<f4").reshape(32, 48), expected.heatmap)
    assert parts["label"][4:] == b"cat"
    assert np.frombuffer(parts["confidence"], "<f4")[0] == pytest.approx(expected.confidence, abs=1e-6)
    assert parts["overlay"][4:12] == b"\x89PNG\r\n\x1a\n"
    assert json.loads(parts["record"][4:])["label"] == "cat"

    text = {**tensor, "data": [base64.b64encode(data).decode()]}
    body = {"inputs": [text], "parameters": {"target": "cat", "mu": 0.1}}
    rows = {
        one["name"]: one for one in server.post("/v2/models/tiny-explain/infer", json=body).json()["outputs"]
    }
    assert set(rows) == {"heatmap", "target", "label", "confidence", "score", "record"}
    np.testing.assert_allclose(np.reshape(rows["heatmap"]["data"], (32, 48)), expected.heatmap, atol=1e-7)
    assert rows["target"] == {"name": "target", "shape": [1], "datatype": "INT64", "data": [2]}


IMAGE = {"name": "image", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": []}, "one is needed"),
        ({"inputs": [{**IMAGE, "name": "x"}]}, "one is needed"),
        ({"inputs": [IMAGE, IMAGE]}, "twice"),
        ({"inputs": [{**IMAGE, "datatype": "UINT9"}]}, "datatype"),
        ({"inputs": [{**IMAGE, "shape": [1, -1, 1, 3]}]}, "shape"),
        ({"inputs": [{**IMAGE, "shape": [1 << 40]}]}, "shape"),
        ({"inputs": [{**IMAGE, "shape": [1, 1, 3]}]}, "[n, height, width, 3]"),
        ({"inputs": [{**IMAGE, "data": [1, 2]}]}, "2 elements"),
        ({"inputs": [{**IMAGE, "data": [1, 2, 300]}]}, "UINT8"),
        ({"inputs": [{**IMAGE, "data": "abc"}]}, "a list is needed"),
        ({"inputs": [{**IMAGE, "data": [1, [2], 3]}]}, "data of"),
        ({"inputs": [{**IMAGE, "datatype": "BYTES"}]}, "base64"),
        ({"inputs": [{"name": "picture", "shape": [1], "datatype": "BYTES", "data": ["/etc/passwd"]}]}, "no"),
        ({"inputs": [{**IMAGE, "parameters": {"binary_data_size": 3}}]}, "0 bytes are left"),
        ({"inputs": [{**IMAGE, "parameters": {"binary_data_size": -1}}]}, "binary_data_size"),
        ({"inputs": [IMAGE], "outputs": [{"name": "heat"}]}, "there is no output"),
        ({"inputs": [IMAGE], "parameters": {"target": "positive"}}, "one target"),
        ({"inputs": [IMAGE], "parameters": {"mu": 5}}, "mu"),
    ],
)
def test_wrong_requests_are_refused(server: Any, body: dict[str, Any], says: str) -> None:
    answer = server.post("/v2/models/tiny-explain/infer", json=body)
    assert answer.status_code == 400 and says in answer.json()["error"], answer.text


@pytest.mark.parametrize("length", ["x", "-1", "999999", "9" * 30, "3"])
def test_a_wrong_length_of_the_json_is_refused(server: Any, length: str) -> None:
    body = json.dumps({"inputs": [IMAGE]}).encode()
    answer = server.post(
        "/v2/models/tiny/infer", content=body, headers={"Inference-Header-Content-Length": length}
    )
    assert answer.status_code == 400


def test_bytes_that_do_not_fit_are_refused(server: Any) -> None:
    raw = {"name": "picture", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 12}}
    for data in (b"\x04\0\0\0abcd\xff\xff\xff\xff", b"\x08\0\0\0abcdefgh", b"\0" * 12):
        assert binary(server, "tiny", {"inputs": [raw]}, data).status_code == 400
    raw = {"name": "image", "shape": [1, 2, 2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    assert "48 belong" in binary(server, "tiny", {"inputs": [raw]}, b"\0" * 12).json()["error"]
    rest = {
        "name": "image",
        "shape": [1, 2, 2, 1],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": 4},
    }
    assert "behind the last" in binary(server, "tiny", {"inputs": [rest]}, b"\0" * 9).json()["error"]


def test_explanations_are_asked_of_their_own_model(server: Any) -> None:
    answer = server.post("/v2/models/tiny/infer", json={"inputs": [IMAGE], "parameters": {"target": 1}})
    assert answer.status_code == 400 and "tiny-explain" in answer.json()["error"]
