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


def parameters(operation: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """What stands in a route's address, in its "path" or its "query"."""
    return [one for one in operation.get("parameters", []) if one["in"] == place]


def field_row(name: str, field: dict[str, Any], needed: bool | None) -> str:
    """How a row begins that describes a field; what follows is free where the code has no description.

    ``needed`` is None in a table without that column.
    """
    column = "" if needed is None else f"{'yes' if needed else 'no'} | "
    return f"| `{name}` | {column}{field.get('description', '')}".rstrip()


def errors_line(operation: dict[str, Any], shared: dict[str, str]) -> list[str]:
    """The line that a route's section must have: its errors, with a meaning where it differs from the shared one."""
    meanings = {status: one["description"] for status, one in operation["responses"].items() if status not in GENERAL}
    errors = [
        status if shared.get(status) == text else f"{status} ({text[0].lower()}{text[1:].removesuffix('.')})"
        for status, text in sorted(meanings.items())
    ]
    return [f"Errors: {', '.join(errors)}."] if errors else []


ROUTES, SCHEMAS = routes(), schemas()
GENERAL = {"200", *map(str, documentation.ACCESS_ERRORS)}
"""What holds for all routes stands above them."""


@pytest.fixture
def shared_errors(page) -> dict[str, str]:
    """What each status means where a route does not say it."""
    rows = page("reference/http.md").section("Errors").rows()
    return {status: row.split("|")[2].strip() for status, row in rows.items()}


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_documented(page, shared_errors: dict[str, str], route: str) -> None:
    section = page("reference/http.md").section(f"`{route}`")
    assert ROUTES[route]["summary"] in "\n".join(section.lines), f"docs/{section.name}: {ROUTES[route]['summary']}"
    described = [line for line in section.lines if line.startswith("Errors:")]
    assert described == errors_line(ROUTES[route], shared_errors), f"docs/{section.name}"
    rows = section.rows()
    wanted = {one["name"]: field_row(one["name"], one, one["required"]) for one in parameters(ROUTES[route], "query")}
    wrong = [row for name, row in wanted.items() if not rows.get(name, "").startswith(row)]
    assert not wrong, f"docs/{section.name} lacks rows that begin with\n" + "\n".join(wrong)
    assert set(rows) == set(wanted), f"docs/{section.name} describes other parameters"


def test_shared_errors_are_meanings_of_routes(shared_errors: dict[str, str]) -> None:
    meanings = {(status, one["description"]) for route in ROUTES.values() for status, one in route["responses"].items()}
    assert shared_errors
    assert set(shared_errors.items()) <= meanings


@pytest.mark.parametrize("route", ROUTES)
def test_ids_in_addresses_are_documented_once(page, route: str) -> None:
    intro = " ".join("\n".join(page("reference/http.md").lines).split("\n## ")[0].split())
    for one in parameters(ROUTES[route], "path"):
        assert f"{{{one['name']}}}" in route, "a heading shows what stands in the path"
        assert one["required"]
        assert one["description"].lower().removesuffix(".") in intro.lower(), (
            f"docs/reference/http.md does not say of {one['name']}"
        )


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_documented(page, name: str) -> None:
    section, schema = page("reference/http.md").section(name), SCHEMAS[name]
    fields, needed = schema["properties"], set(schema.get("required", []))
    rows = section.rows()
    column = "needed | " if set(fields) - needed else ""
    assert f"| field | {column}meaning |" in section.lines, f"docs/{section.name}: which are needed?"
    wanted = {field: field_row(field, what, field in needed if column else None) for field, what in fields.items()}
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
