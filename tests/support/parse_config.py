"""Read config.pbtxt files by Triton's own protobuf, in an environment that has tritonclient; prints them as JSON.

python parse_config.py CONFIG.pbtxt…
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path


def main(paths: list[str]) -> None:
    from google.protobuf import json_format, text_format

    client = importlib.util.find_spec("tritonclient")
    assert client is not None and client.submodule_search_locations
    # the module alone: the package around it needs grpcio
    file = Path(next(iter(client.submodule_search_locations))) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [
        text_format.Parse(Path(path).read_text(encoding="utf-8"), module.ModelConfig()) for path in paths
    ]
    print(json.dumps([json_format.MessageToDict(config) for config in found]))


if __name__ == "__main__":
    main(sys.argv[1:])
