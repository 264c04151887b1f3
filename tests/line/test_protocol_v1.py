"""KServe's V1 protocol against what the explainer itself says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi")

from serving import b64, client, png

import sise_ort


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> sise_ort.Explainer:
    return sise_ort.load(tiny_bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Any]:
    with client({"tiny": tiny_bundle}, max_pixels=100_000, max_upload=400_000, max_pictures=4) as found:
        yield found


def explain(server: Any, *instances: Any, **parameters: Any) -> Any:
    return server.post(
        "/v1/models/tiny:explain", json={"instances": list(instances), "parameters": parameters}
    )


def test_models_are_listed_and_ready(server: Any) -> None:
    assert server.get("/v1/models").json() == {"models": ["tiny"]}
    assert server.get("/v1/models/tiny").json() == {"name": "tiny", "ready": True}
    missing = server.get("/v1/models/other")
    assert missing.status_code == 404 and "there are tiny" in missing.json()["error"]


def test_predictions_are_the_networks_scores(server: Any, explainer: sise_ort.Explainer, frame: Any) -> None:
    expected = explainer.explain(frame)
    shapes = [frame.tolist(), b64(png(frame)), {"image": b64(png(frame))}]
    rows = server.post("/v1/models/tiny:predict", json={"instances": shapes}).json()["predictions"]
    assert len(rows) == 3
    for row in rows:
        np.testing.assert_allclose(row["scores"], expected.scores, rtol=1e-6)
        assert row["label"] == expected.label and row["target"] == expected.target
        assert row["confidence"] == pytest.approx(expected.confidence, abs=1e-6)
        assert sum(row["confidences"]) == pytest.approx(1, abs=1e-5)


def test_an_explanation_is_the_explainers(server: Any, explainer: sise_ort.Explainer, frame: Any) -> None:
    expected = explainer.explain(frame, "bee", mu=0.2)
    answer = explain(server, b64(png(frame)), target="bee", mu=0.2)
    assert answer.status_code == 200
    (found,) = answer.json()["explanations"]
    np.testing.assert_allclose(found["heatmap"], expected.heatmap, atol=5e-7)
    assert found["label"] == "bee" and found["target"] == 1 and found["masks"] == list(expected.mask_counts)
    assert found["parameters"]["mu"] == 0.2 and found["source"] == ""


def test_several_targets_are_a_list(server: Any, explainer: sise_ort.Explainer, frame: Any) -> None:
    (found,) = explain(server, frame.tolist(), target=["bee", 2], heatmap="none").json()["explanations"]
    assert [one["label"] for one in found] == ["bee", "cat"]
    assert all("heatmap" not in one for one in found)
    (rather,) = explain(server, frame.tolist(), target="bee", rather_than="cat").json()["explanations"]
    expected = explainer.explain(frame, sise_ort.RatherThan("bee", "cat"))
    np.testing.assert_allclose(rather["heatmap"], expected.heatmap, atol=5e-7)


def test_answers_are_png_and_npz_by_accept(server: Any, explainer: sise_ort.Explainer, frame: Any) -> None:
    large = cv2.resize(frame, (96, 64), interpolation=cv2.INTER_LINEAR)
    expected = explainer.explain(large, 0)
    address, body = "/v1/models/tiny:explain?target_index=0", png(large)
    sent = {"Content-Type": "image/png"}

    overlay = server.post(address, content=body, headers={**sent, "Accept": "image/png"})
    assert overlay.headers["content-type"] == "image/png"
    drawn = cv2.imdecode(np.frombuffer(overlay.content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    np.testing.assert_array_equal(drawn, expected.overlay())
    facts = json.loads(overlay.headers["sise-ort-explanation"])
    assert facts["label"] == "ant" and facts["confidence"] == pytest.approx(expected.confidence, abs=1e-6)

    gray = server.post(address + "&drawing=heatmap", content=body, headers={**sent, "Accept": "image/*"})
    levels = cv2.imdecode(np.frombuffer(gray.content, np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_allclose(levels / 255, expected.frame_heatmap, atol=0.51 / 255)

    packed = server.post(
        address, content=body, headers={**sent, "Accept": "application/x-npz, text/html;q=0.9"}
    )
    with np.load(BytesIO(packed.content), allow_pickle=False) as arrays:
        assert arrays["heatmap"].dtype == np.float16
        np.testing.assert_allclose(arrays["heatmap"], expected.heatmap, atol=5e-4)
        assert json.loads(arrays["record"].tobytes())["label"] == "ant"

    inside = server.post(address + "&heatmap=npz&size=frame", content=body, headers=sent).json()[
        "explanations"
    ][0]
    with np.load(BytesIO(base64.b64decode(inside["heatmap"]))) as arrays:
        assert arrays["heatmap"].shape == (64, 96)


@pytest.mark.parametrize(
    ("accept", "status"),
    [("text/html", 406), ("image/png;q=0", 406), ("image/png", 406), ("*/*", 200), ("", 200)],
)
def test_accept_is_answered_or_refused(server: Any, frame: Any, accept: str, status: int) -> None:
    body = {"instances": [frame.tolist()] * 2, "parameters": {"heatmap": "none"}}  # two, and a PNG holds one
    answer = server.post("/v1/models/tiny:explain", json=body, headers={"Accept": accept})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"mu": 2}, "mu"),
        ({"mu": {"a": 1}}, "mu"),
        ({"mu": "high"}, "mu"),
        ({"passes": -1}, "passes"),
        ({"passes": True}, "passes"),
        ({"deadline": "soon"}, "deadline"),
        ({"deadline": "1e999"}, "deadline"),
        ({"masks": 4}, "masks"),
        ({"method": "other"}, "method"),
        ({"method": ["sise"]}, "method"),
        ({"method": "fullgrad"}, "method"),
        ({"method": "rise", "masks": 1.5}, "masks"),
        ({"target": "wasp"}, "target"),
        ({"target": 99}, "target"),
        ({"target": []}, "target"),
        ({"target": True}, "target"),
        ({"target": [0] * 17}, "target"),
        ({"target": 0, "target_index": 1}, "target_index"),
        ({"target_index": "x"}, "target_index"),
        ({"region": [0, 0, 5, 5]}, "region"),
        ({"region": "a,b"}, "region"),
        ({"region": [5, 5, 1, 1]}, "region"),
        ({"detection": 0}, "detection"),
        ({"detection": 0, "target": 1}, "detection"),
        ({"value": "x"}, "value"),
        ({"like": "/etc/hostname"}, "like"),
        ({"region_mask": "/etc/hostname"}, "region_mask"),
        ({"rather_than": 1.5}, "rather_than"),
        ({"levels": "white"}, "levels"),
        ({"levels": [5, 5]}, "levels"),
        ({"heatmap": "jpeg"}, "heatmap"),
        ({"drawing": 1}, "drawing"),
        ({"size": "large"}, "size"),
        ({"out": "/tmp/x"}, "out"),
    ],
)
def test_a_wrong_field_is_named(server: Any, frame: Any, fields: dict[str, Any], named: str) -> None:
    text = json.dumps({"instances": [frame.tolist()], "parameters": fields})
    answer = server.post(
        "/v1/models/tiny:explain", content=text, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["error"] and len(answer.json()["error"]) <= 500
    assert "\x02" not in answer.text and "--" not in answer.json()["error"]


@pytest.mark.parametrize(
    "instance",
    [
        "/etc/hostname", 7, None, {}, {"b64": 3}, {"b64": "%%"}, {"b64": "L2V0Yy9ob3N0bmFtZQ=="}, {"path": "/etc/hostname"},
        {"a": 1, "b": 2}, [], [[]], [[1, 2], [3]], [["a"]], [[[1, 2]]], [[[300, 0, 0]]], [[[0.5, 0.5, 0.5]]],
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(server: Any, instance: Any) -> None:
    for address in ("predict", "explain"):
        answer = server.post(f"/v1/models/tiny:{address}", json={"instances": [instance]})
        assert answer.status_code == 400 and answer.json()["error"], answer.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"instances": 3}', b'{"inputs": []}', b"\xff" * 9, b"[" * 5000]
)
def test_malformed_bodies_are_refused(server: Any, body: bytes) -> None:
    answer = server.post(
        "/v1/models/tiny:explain", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400 and answer.json()["error"]


def test_no_file_is_opened(server: Any, frame: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(frame))
    path = str(tmp_path / "a.png")
    assert explain(server, path).status_code == 400
    assert explain(server, {"b64": path}).status_code == 400
    assert explain(server, frame.tolist(), like=path).status_code == 400
    raw = server.post("/v1/models/tiny:explain", content=path.encode(), headers={"Content-Type": "image/png"})
    assert raw.status_code == 400


def test_sizes_are_bounded(server: Any, frame: Any) -> None:
    assert explain(server, *[frame.tolist()] * 5).status_code == 413
    wide = png(np.zeros((200, 600, 3), np.uint8))
    refused = server.post("/v1/models/tiny:explain", content=wide, headers={"Content-Type": "image/png"})
    assert refused.status_code == 413 and "120000" not in refused.text and "100000" in refused.json()["error"]
    huge = server.post(
        "/v1/models/tiny:explain", content=b"x" * 400_001, headers={"Content-Type": "image/png"}
    )
    assert huge.status_code == 413
    parts = (b"x" * 1000 for _ in range(500))  # of no declared length
    streamed = server.post("/v1/models/tiny:explain", content=parts, headers={"Content-Type": "image/png"})
    assert streamed.status_code == 413
    packed = server.post("/v1/models/tiny:explain", content=b"x", headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415


def test_a_field_stands_in_one_place(server: Any, frame: Any) -> None:
    body = {"instances": [frame.tolist()], "parameters": {"mu": 0.5}}
    assert server.post("/v1/models/tiny:explain?passes=4", json=body).status_code == 200
    twice = server.post("/v1/models/tiny:explain?mu=0.1", json=body)
    assert twice.status_code == 400 and twice.json()["field"] == "mu"


def test_predictions_have_no_other_fields(server: Any, frame: Any) -> None:
    body = {"instances": [(frame / 255.0).tolist()], "parameters": {"levels": [0, 1]}}
    assert server.post("/v1/models/tiny:predict", json=body).status_code == 200
    refused = server.post("/v1/models/tiny:predict?mu=1", json={"instances": [frame.tolist()]})
    assert refused.status_code == 400 and refused.json()["field"] == "mu"
