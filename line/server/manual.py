"""What OpenAPI and the page /docs say about request bodies."""

from __future__ import annotations

import json
from typing import Any

PICTURE = {"b64": "iVBORw0KGgo…"}
_EXPLAIN = {
    "instances": [PICTURE],
    "parameters": {"target": "scratch", "mu": 0.3, "passes": 64, "heatmap": "numbers"},
}
_INFER = {
    "inputs": [{"name": "picture", "shape": [1], "datatype": "BYTES", "data": ["iVBORw0KGgo…"]}],
    "parameters": {"target": "scratch"},
    "outputs": [{"name": "heatmap", "parameters": {"binary_data": True}}],
}
_BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "predict": ("V1", {"application/json": {"example": {"instances": [PICTURE]}}, "image/*": {}}),
    "explain": ("V1", {"application/json": {"example": _EXPLAIN}, "image/*": {}}),
    "infer": ("V2", {"application/json": {"example": _INFER}, "application/octet-stream": {}}),
}


def described(name: str) -> dict[str, Any]:
    """Group and request body of an address, as FastAPI takes them."""
    tag, kinds = _BODIES[name]
    content = {kind: {"schema": {"type": "string" if kind != "application/json" else "object"}, **extra}
               for kind, extra in kinds.items()}  # fmt: skip
    return {"tags": [tag], "openapi_extra": {"requestBody": {"required": True, "content": content}}}


def docs_page(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The addresses of an OpenAPI schema in their groups, each with an example of a body."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for address, methods in schema["paths"].items():
        for method, facts in methods.items():
            content = facts.get("requestBody", {}).get("content", {})
            example = content.get("application/json", {}).get("example")
            row = {
                "method": method.upper(),
                "address": address.replace("{name}", "NAME"),
                "summary": facts.get("summary", ""),
                "kinds": ", ".join(content),
                "example": []
                if example is None
                else json.dumps(example, indent=1, ensure_ascii=False).splitlines(),
            }
            groups.setdefault(facts.get("tags", [""])[0], []).append(row)
    return [{"name": name, "rows": rows} for name, rows in groups.items()]
