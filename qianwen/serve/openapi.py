"""The OpenAPI description at `/openapi.json`, exact enough to test the server against it.

The schemas of the bodies come from the pydantic models that validate them; `model` lists the names of the served
models. Every route may also return OpenAI's error object, and a completion may be a stream of events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from qianwen.serve.wire import Wire

REFERENCE = "#/components/schemas/{model}"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_OBJECT = {"schema": {"type": "object"}}
_EVENT = {"schema": {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}}
_ERROR = {"schema": {"$ref": REFERENCE.format(model="Error")}}
_FAILED = {"description": "an error", "content": {"application/json": _ERROR}}


def request_body(body: type[Wire]) -> dict[str, Any]:
    """The description of the body for FastAPI, for routes that parse the body themselves."""
    schema = {"$ref": REFERENCE.format(model=body.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe(app: FastAPI, bodies: Sequence[type[Wire]], models: Sequence[str]) -> dict[str, Any]:
    """The complete OpenAPI 3.1 document."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas: dict[str, Any] = {"Error": ERROR}
    names = {"type": "string", "enum": list(models)}
    for body in bodies:
        schema = body.model_json_schema(ref_template=REFERENCE)
        schemas |= schema.pop("$defs", {})
        schemas[body.__name__] = schema
        is_optional = "model" not in schema.get("required", ())
        schema["properties"]["model"] = {"anyOf": [names, {"type": "null"}]} if is_optional else names
    document["components"] = {"schemas": schemas}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            content: dict[str, Any] = {"application/json": _OBJECT}
            if path.endswith(("/completions", "/responses")):
                content["text/event-stream"] = _EVENT
            elif path == "/metrics":
                content = {"text/plain": {"schema": {"type": "string"}}}
            success = {"description": "the answer", "content": content}
            for parameter in operation.get("parameters", ()):  # the only parameter is a model's name
                parameter["schema"] = names
            operation["responses"] = {"200": success, "4XX": _FAILED, "5XX": _FAILED}
            if method == "get" and path in ("/health", "/ready"):
                operation["responses"]["503"] = {
                    "description": "not available now",
                    "content": {"application/json": _OBJECT},
                }
    return document
