"""A program for tests: `serve_app` on a cluster of Ray; prints what requests are answered, as JSON.

python ray_serving.py ADDRESS BUNDLE PICTURE PORT
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import ray
from ray import serve

from sise_ort.line.cluster.serving import serve_app


def ask(url: str, body: bytes | None = None, **headers: str) -> list[Any]:
    """Status, type and body of an answer."""
    request = urllib.request.Request(url, body, {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return [answer.status, answer.headers["Content-Type"], answer.read().decode("latin-1")]
    except urllib.error.HTTPError as error:
        return [error.code, error.headers["Content-Type"], error.read().decode("latin-1")]


def main(address: str, bundle: str, picture: str, port: str) -> None:
    ray.init(address, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
        app = serve_app.options(ray_actor_options={"num_cpus": 0.5})
        serve.run(app.bind({"tiny": bundle}, provider="cpu", threads=1))
        url, body = f"http://127.0.0.1:{port}", Path(picture).read_bytes()
        explain = f"{url}/v1/models/tiny:explain?mu=0.3"
        print(
            json.dumps(
                {
                    "ready": ask(f"{url}/v2/health/ready"),
                    "models": ask(f"{url}/v1/models"),
                    "none": ask(f"{url}/v1/models/none"),
                    "explain": ask(explain, body, Content_Type="image/png"),
                    "npz": ask(explain, body, Content_Type="image/png", Accept="application/x-npz"),
                    "bad": ask(explain, b"no picture", Content_Type="image/png"),
                    "foreign": ask(explain, body, Content_Type="image/png", Host="example.org"),
                }
            )
        )
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
