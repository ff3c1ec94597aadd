"""Every route, its fields, answers and statuses stand in docs/reference/http.md, as the OpenAPI page has them."""

from typing import Any

import pytest
from fastapi import FastAPI
from routers import bare_routers

from serving import openapi as documentation
from serving.metrics import Metrics


def openapi() -> dict[str, Any]:
    """The page of the routes alone: nothing is opened."""
    app = FastAPI()
    documentation.install(app)
    for router in bare_routers():
        app.include_router(router)
    return app.openapi()


def routes() -> dict[str, dict[str, Any]]:
    """The operations by ``METHOD path``."""
    page = openapi()
    return {f"{method.upper()} {path}": one for path, ways in page["paths"].items() for method, one in ways.items()}


def schemas() -> dict[str, dict[str, Any]]:
    """The schemas of bodies and answers by name (those that FastAPI adds for itself left out)."""
    every = openapi()["components"]["schemas"]
    return {name: schema for name, schema in every.items() if "Validation" not in name}


def parameters(operation: dict[str, Any]) -> dict[str, str]:
    """How the rows begin that describe what stands in a route's address."""
    return {one["name"]: field_row(one["name"], one, one["required"]) for one in operation.get("parameters", [])}


def field_row(name: str, field: dict[str, Any], needed: bool) -> str:
    """How a row begins that describes a field; what follows is free where the code has no description."""
    return f"| `{name}` | {'yes' if needed else 'no'} | {field.get('description', '')}".rstrip()


ROUTES, SCHEMAS = routes(), schemas()
GENERAL = {"200", *map(str, documentation.ACCESS_ERRORS)}
"""What holds for all routes stands above them."""


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_documented(page, route: str) -> None:
    section = page("reference/http.md").section(f"`{route}`")
    assert ROUTES[route]["summary"] in "\n".join(section.lines), f"docs/{section.name}: {ROUTES[route]['summary']}"
    statuses = {name: text["description"] for name, text in ROUTES[route]["responses"].items() if name not in GENERAL}
    described = {name: row for name, row in section.rows().items() if name.isdecimal()}
    assert described == {name: f"| `{name}` | {text} |" for name, text in statuses.items()}, f"docs/{section.name}"
    rows = {name: row for name, row in section.rows().items() if not name.isdecimal()}
    wanted = parameters(ROUTES[route])
    wrong = [row for name, row in wanted.items() if not rows.get(name, "").startswith(row)]
    assert not wrong, f"docs/{section.name} lacks rows that begin with\n" + "\n".join(wrong)
    assert set(rows) == set(wanted), f"docs/{section.name} describes other parameters"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_documented(page, name: str) -> None:
    section, schema = page("reference/http.md").section(name), SCHEMAS[name]
    fields, needed = schema["properties"], set(schema.get("required", []))
    rows = section.rows()
    wanted = {field: field_row(field, what, field in needed) for field, what in fields.items()}
    wrong = [row for field, row in wanted.items() if not rows.get(field, "").startswith(row)]
    assert not wrong, f"docs/{section.name} lacks rows that begin with\n" + "\n".join(wrong)
    assert set(rows) == set(fields), f"docs/{section.name} describes other fields"


def test_nothing_else_is_documented(page) -> None:
    shown = page("reference/http.md")
    assert {title.strip("`") for title in shown.section("Routes").headings(3)} == set(ROUTES)
    assert set(shown.section("Bodies and answers").headings(3)) == set(SCHEMAS)


def test_every_metric_is_documented(page) -> None:
    families = list(Metrics().registry.collect())
    suffix = {"counter": "_total"}
    wanted = [f"| `{one.name}{suffix.get(one.type, '')}` | {one.type} | {one.documentation} |" for one in families]
    page("reference/http.md").section("Metrics").holds(wanted)
