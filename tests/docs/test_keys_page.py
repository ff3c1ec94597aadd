"""Which key opens which route stands in docs/reference/http.md, and nobody forgot to say it of a route."""

import pytest
from routers import route_scopes

from attune.api_keys import SCOPES

SCOPES_OF_ROUTES = route_scopes()


@pytest.fixture
def routes(page) -> list[tuple[str, str]]:
    """The routes of the reference (which another test holds against the code), as method and path."""
    titles = page("reference/http.md").section("Routes").headings(3)
    return [(method, path) for method, path in (title.strip("`").split(" ", 1) for title in titles)]


def test_every_route_has_a_scope_or_needs_none(routes) -> None:
    forgotten = [path for method, path in routes if SCOPES_OF_ROUTES.of(method, path) == "admin"]
    assert not forgotten, f"say in serving.routes which scope opens {', '.join(forgotten)}"


def test_every_scope_is_documented_with_its_routes(page, routes) -> None:
    rows = []
    for scope, meaning in SCOPES.items():
        opened = ", ".join(
            f"`{method} {path}`" for method, path in routes if SCOPES_OF_ROUTES.of(method, path) == scope
        )
        rows.append(f"| `{scope}` | {meaning} | {'every route' if scope == 'admin' else opened or '-'} |")
    page("reference/http.md").section("Keys and limits").holds(rows)
