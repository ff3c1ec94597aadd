"""The OpenAPI page, made from the types of ``attune.schemas`` and from what each route declares."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from attune.schemas import REFERENCE, Answer, Body, ErrorAnswer, Row
from serving.error_responses import JSON

TYPES = (*Body.__subclasses__(), *Row.__subclasses__(), *Answer.__subclasses__())
KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, where the installation asks for one: `attune keys create NAME --scope recommend`.",
}
ACCESS_ERRORS = {
    401: "No key was sent, or one that is not known or was revoked.",
    403: "The key lacks the scope.",
    429: "More requests than the limit allows.",
}
"""Every route that needs a scope may answer so."""


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every type by its name; an answer always has all of its fields."""
    _, components = msgspec.json.schema_components(TYPES, ref_template=REFERENCE)
    for answer in Answer.__subclasses__():
        components[answer.__name__]["required"] = list(components[answer.__name__]["properties"])
    return components


def example(schema: Mapping[str, Any]) -> Any:
    """A value of the schema: its first example or default, else the plainest; optional fields only with examples."""
    if "$ref" in schema:
        return example(schemas()[schema["$ref"].rsplit("/", 1)[1]])
    if "examples" in schema or "default" in schema:
        return schema["examples"][0] if "examples" in schema else schema["default"]
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    if "properties" in schema:
        required, fields = schema.get("required", ()), schema["properties"]
        return {name: example(field) for name, field in fields.items() if name in required or "examples" in field}
    if schema["type"] == "array":
        return [example(schema["items"])]
    plainest = {"string": "", "integer": schema.get("minimum", 0), "number": 0.0, "boolean": True, "object": {}}
    return plainest[schema["type"]]


def documented(
    summary: str,
    scope: str | None,
    *,
    address: type[msgspec.Struct] | None = None,
    body: type[msgspec.Struct] | None = None,
    answer: type[msgspec.Struct] | None = None,
    errors: Mapping[int, str] | None = None,
    text: bool = False,
) -> dict[str, Any]:
    """The keyword arguments by which FastAPI's route decorators document a route.

    ``scope`` is what a key needs to open the route (``serving.authentication`` reads it from here), None where no key
    is needed. ``errors`` gives statuses their meanings. ``text`` says that the answer is plain text.
    """
    extra: dict[str, Any] = {"security": [] if scope is None else [{"key": [scope]}, {}]}
    if body is not None:
        extra["requestBody"] = {"required": True, **_content(body)}
    if address is not None:
        extra["parameters"] = _parameters(address)
    plain = {"text/plain": {"schema": {"type": "string"}}} if text else {"application/json": {"schema": {}}}
    success = {"content": plain} if answer is None else _content(answer)
    meanings = (ACCESS_ERRORS if scope is not None else {}) | dict(errors or {})
    refusals = {status: {"description": meaning, **_content(ErrorAnswer)} for status, meaning in meanings.items()}
    return {
        "response_class": PlainTextResponse if text else JSON,
        "summary": summary,
        "responses": {200: {"description": "The answer.", **success}} | refusals,
        "openapi_extra": extra,
    }


def scope_of(route: Any) -> str | None:
    security = route.openapi_extra["security"]
    return security[0]["key"][0] if security else None


def install(app: FastAPI) -> None:
    """Add the schemas of the types, and how a key is sent, to the app's OpenAPI page."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None
        page = generate()
        if fresh:
            components = page.setdefault("components", {})
            components.setdefault("schemas", {}).update(schemas())
            components["securitySchemes"] = {"key": KEY}
        return page

    app.openapi = openapi  # type: ignore[method-assign]


def _parameters(address: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """A struct's fields as parameters: required ones stand in the path, the others behind it."""
    schema = msgspec.json.schema(address)["$defs"][address.__name__]
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "path" if name in required else "query",
            "required": name in required,
            "description": field["description"],
            "schema": {key: value for key, value in field.items() if key != "description"},
        }
        for name, field in schema["properties"].items()
    ]


def _content(struct: type[msgspec.Struct]) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(name=struct.__name__)}
    return {"content": {"application/json": {"schema": schema, "example": example(schema)}}}
