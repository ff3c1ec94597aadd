"""The endpoint keeps what its OpenAPI page says: schemathesis asks what the page allows, and what it does not.

No answer is a failure of the server, each has a status and a shape that the page names, what the page allows is not
refused, and what it does not allow is.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import hypothesis
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from attune.schemas import Identifier
from attune.settings import Settings

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)
QUICK, LONG = 6, 300
"""Examples an operation and mode."""

UNSAID: dict[str, list[Any]] = {
    "/v1/feedback": [positive_data_acceptance],
    "/v1/events": [positive_data_acceptance, negative_data_rejection],
    "/v1/recommend/batch": [negative_data_rejection],
    "/v1/items/{item_id}": [positive_data_acceptance],
}
"""What no schema says: slates must have been shown, kinds and attributes have rules, a wrong row costs no other."""


def whole(value: Any) -> Any:
    """The value with 58 for 58.0: JSON Schema takes both for whole numbers, the endpoint only the first."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def allowed_still(path_parameters: dict[str, str]) -> bool:
    """Whether the identifiers in the path are some when decoded: the drawn text "a%07" is sent as the character 7."""
    try:
        msgspec.convert([unquote(str(value)) for value in path_parameters.values()], list[Identifier])
    except msgspec.ValidationError:
        return False
    return True


def question(allowed: bool, unsaid: list[Any]) -> Callable[..., None]:
    """What is done with each example: ask, and hold the answer against the page."""

    def check(case: schemathesis.Case) -> None:
        if allowed:
            hypothesis.assume(allowed_still(case.path_parameters or {}))
            case.body = whole(case.body)
        case.call_and_validate(timeout=30, excluded_checks=unsaid)

    return check


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory, feature_store, bundles, run_endpoint, eventually) -> Iterator[Any]:
    """An endpoint for this file alone: what is asked here leaves items behind."""
    settings = Settings(var=tmp_path_factory.mktemp("asked"), champion_poll_seconds=0.05, lock_seconds=1.0)
    shutil.copytree(bundles["first"], settings.bundles_folder / "1")
    with run_endpoint(settings, lambda: feature_store) as ready:
        ready.promote("1")
        eventually(lambda: ready.model_version() == "1")
        yield ready


@pytest.fixture(scope="module")
def page(endpoint) -> Any:
    """The running endpoint's page, as schemathesis reads it."""
    return schemathesis.openapi.from_url(f"{endpoint.url}/openapi.json")


def operations(page: Any) -> list[tuple[str, str]]:
    """Every operation as method and path."""
    return [(method.upper(), path) for path, ways in page.raw_schema["paths"].items() for method in ways]


@pytest.fixture
def ask(page: Any, endpoint) -> Callable[..., None]:
    """Asks an operation so many questions of each mode, and checks every answer."""

    def run(method: str, path: str, examples: int, **settings: Any) -> None:
        operation: APIOperation = page[path][method]
        asks = operation.body or operation.query or operation.path_parameters
        settings = {"max_examples": examples, "deadline": None, "database": None, "phases": PHASES, **settings}
        settings["suppress_health_check"] = list(HealthCheck)
        for mode in [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if asks else [])]:
            check = question(mode is GenerationMode.POSITIVE, UNSAID.get(path, []))
            hypothesis.settings(**settings)(hypothesis.given(case=operation.as_strategy(mode))(check))()

    return run


def test_the_endpoint_keeps_what_its_page_says(ask: Callable[..., None], page: Any, subtests: pytest.Subtests) -> None:
    for method, path in operations(page):
        with subtests.test(f"{method} {path}"):
            ask(method, path, QUICK, derandomize=True)


@pytest.mark.long
def test_whatever_is_asked(ask: Callable[..., None], page: Any, subtests: pytest.Subtests) -> None:
    for method, path in operations(page):
        with subtests.test(f"{method} {path}"):
            ask(method, path, LONG)
