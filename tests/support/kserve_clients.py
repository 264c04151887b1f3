"""64 clients of KServe and Triton at once; run by a Python that has both packages, which need not be the tests' own.

python kserve_clients.py URL PICTURES.npz ANSWERS.npz
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tritonclient.http import InferInput as TritonInput
from tritonclient.http import InferRequestedOutput as TritonOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

CLIENTS, REQUESTS = 64, 2000
KINDS = ("v1 predict", "v1 explain", "v2 predict", "v2 explain", "triton predict", "triton explain")
FIELDS = {"target": 1, "passes": 8}


class Clients:
    """One connection of each kind, and the pictures."""

    def __init__(self, url: str, pictures: dict[str, Any]) -> None:
        self.url, self.files, self.pixels = url, list(pictures["files"]), pictures["pixels"]
        self.lengths = pictures["lengths"]
        self.v1 = InferenceRESTClient(RESTConfig(protocol="v1", timeout=120))
        self.v2 = InferenceRESTClient(RESTConfig(protocol="v2", timeout=120))
        self.triton = InferenceServerClient(url.removeprefix("http://"), conn_timeout=120, conn_limit=4)

    async def ask(self, kind: str, number: int) -> Any:
        """Scores or heat map."""
        data = self.files[number].tobytes()[: self.lengths[number]]
        if kind.startswith("v1"):
            instances = [{"b64": base64.b64encode(data).decode()}]
            if kind == "v1 predict":
                answer = await self.v1.infer(self.url, {"instances": instances}, "tiny")
                return answer["predictions"][0]["scores"]
            answer = await self.v1.explain(self.url, "tiny", {"instances": instances, "parameters": FIELDS})
            return answer["explanations"][0]["heatmap"]
        explains = kind.endswith("explain")
        name, output = ("tiny-explain", "heatmap") if explains else ("tiny", "scores")
        pixels, parameters = self.pixels[number][None], FIELDS if explains else {}
        if kind.startswith("v2"):
            tensor = InferInput("image", list(pixels.shape), "UINT8")
            tensor.set_data_from_numpy(pixels, binary_data=bool(number % 2))
            wanted = [RequestedOutput(output, {"binary_data": bool(number % 3)})]
            request = InferRequest(name, [tensor], parameters=dict(parameters), request_outputs=wanted)
            found = await self.v2.infer(self.url, request, name)
            return found.get_output_by_name(output).as_numpy()[0]
        if number % 2:
            given = TritonInput("image", list(pixels.shape), "UINT8").set_data_from_numpy(pixels)
        else:
            given = TritonInput("picture", [1], "BYTES").set_data_from_numpy(
                np.array([data], dtype=np.object_)
            )
        outputs = None if number % 3 else [TritonOutput(output, binary_data=bool(number % 4))]
        found = await self.triton.infer(name, [given], outputs=outputs, parameters=dict(parameters) or None)
        return found.as_numpy(output)[0]

    async def patiently(self, kind: str, number: int) -> tuple[Any, int]:
        """An answer, and how often the server was busy."""
        busy = 0
        while True:
            try:
                return await self.ask(kind, number), busy
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 429 or int(error.response.headers["Retry-After"]) < 1:
                    raise
            except InferenceServerException as error:
                if str(error.status()) != "429":
                    raise
            busy += 1
            await asyncio.sleep(random.uniform(0.02, 0.2))

    async def facts(self) -> dict[str, Any]:
        """What health and metadata say, by both packages."""
        found = {
            "v1 live": await self.v1.is_server_live(self.url),
            "v1 ready": await self.v1.is_model_ready(self.url, "tiny"),
            "v2 live": await self.v2.is_server_live(self.url),
            "v2 server": await self.v2.is_server_ready(self.url),
            "v2 ready": await self.v2.is_model_ready(self.url, "tiny-explain"),
            "triton live": await self.triton.is_server_live(),
            "triton server": await self.triton.is_server_ready(),
            "triton ready": await self.triton.is_model_ready("tiny"),
            "triton lost": not await self.triton.is_model_ready("other"),
            "extensions": (await self.triton.get_server_metadata())["extensions"],
            "outputs": [one["name"] for one in (await self.triton.get_model_metadata("tiny"))["outputs"]],
        }
        try:
            await self.triton.infer(
                "tiny", [TritonInput("x", [1], "UINT8").set_data_from_numpy(np.zeros(1, np.uint8))]
            )
        except InferenceServerException as error:
            found["triton error"] = [str(error.status()), error.message()]
        return found


async def run(url: str, pictures: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    clients = Clients(url, pictures)
    facts = await clients.facts()
    work = [(i, KINDS[i % len(KINDS)], (i // len(KINDS)) % len(clients.files)) for i in range(REQUESTS)]
    answers: dict[str, Any] = {}
    busy = 0

    async def client() -> None:
        nonlocal busy
        while work:
            i, kind, number = work.pop()
            answer, waited = await clients.patiently(kind, number)
            busy += waited
            answers[f"{i} {kind} {number}"] = np.asarray(answer, np.float32)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    for one in (clients.v1, clients.v2, clients.triton):
        await one.close()
    return {**facts, "busy": busy}, answers


if __name__ == "__main__":
    with np.load(sys.argv[2]) as content:
        given = {name: content[name] for name in content.files}
    told, found = asyncio.run(run(sys.argv[1], given))
    np.savez(sys.argv[3], **found)
    print(json.dumps(told))
