"""The endpoint as a process and as a document."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from routers import route_scopes

from attune.event_log import EventLog, prepare
from attune.settings import Settings
from serving import app
from serving.app import listen

ROOT = Path(__file__).parents[2]
ROUTES = {"/v1/recommend", "/v1/feedback", "/v1/events", "/v1/model", "/healthz", "/readyz", "/metrics"} | {
    "/v1/recommend/batch",
    "/v1/items/{item_id}",
    "/v1/items/{item_id}/similar",
    "/v1/users/{user_id}/state",
    "/v1/popular",
}


def test_the_steward_routes_answer(endpoint) -> None:
    assert endpoint.client.get("/healthz").json() == {"status": "alive"}
    assert endpoint.client.get("/readyz").json() == {"status": "ready"}
    assert endpoint.client.get("/v1/model").json()["version"] == "1"


def test_an_unknown_path_or_method_has_the_error_shape(endpoint) -> None:
    for reply, status in ((endpoint.client.get("/nowhere"), 404), (endpoint.client.get("/v1/recommend"), 405)):
        assert reply.status_code == status
        assert set(reply.json()["error"]) == {"message", "field", "request_id"}


def test_the_metrics_count(endpoint) -> None:
    endpoint.recommend("counted")
    page = endpoint.client.get("/metrics").text
    for name in (
        'attune_requests_total{method="POST",route="/v1/recommend",status="200"}',
        'attune_request_seconds_bucket{le="0.001",route="/v1/recommend"}',
        'attune_stage_seconds_count{stage="model"}',
        'attune_model_version{served_by="champion",version="1"} 1.0',
        "attune_slate_queue ",
        "attune_champion_stale 0.0",
    ):
        assert name in page, name


def test_the_openapi_page_documents_every_field_with_examples(endpoint) -> None:
    page = endpoint.client.get("/openapi.json").json()
    assert set(page["paths"]) == ROUTES
    schemas = page["components"]["schemas"]
    for path in ("/v1/recommend", "/v1/feedback", "/v1/events"):
        operation = page["paths"][path]["post"]
        body = operation["requestBody"]["content"]["application/json"]
        assert body["example"]
        assert schemas[body["schema"]["$ref"].rsplit("/", 1)[1]]["properties"]
        answered = operation["responses"]["200"]["content"]["application/json"]
        name = answered["schema"]["$ref"].rsplit("/", 1)[1]
        assert set(answered["example"]) == set(schemas[name]["properties"])
        assert {"413", "422", "503"} <= set(operation["responses"])
    assert "user_id" in schemas["RecommendRequest"]["required"]


def test_the_page_for_browsers_fetches_nothing_from_elsewhere_and_needs_no_key(endpoint) -> None:
    page = endpoint.client.get("/docs").text
    fetched = re.findall(r"""(?:src|href)=["'](.*?)["']""", page)
    assert [Path(address).suffix for address in fetched] == [".css", ".png", ".js"]
    for address in [*fetched, "/openapi.json"]:
        assert route_scopes().of("GET", address) is None
        assert endpoint.client.get(address).status_code == 200
    assert "//" not in "".join(re.findall(r"""["'](\S*)["']""", page))
    assert endpoint.client.get("/redoc").status_code == 404


def test_documented_examples_are_accepted(endpoint) -> None:
    page = endpoint.client.get("/openapi.json").json()
    for path in ("/v1/recommend", "/v1/events"):
        body = page["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert endpoint.client.post(path, json=body).status_code == 200


RUN = """
import sys
from serving import app
sys.stdout.write(f"{[name for name in ('great_expectations', 'prefect') if name in sys.modules]}\\n")
sys.stdout.flush()
sys.exit(app.main())
"""


def test_the_process_serves_and_ends_gracefully_without_the_batch_tools(tmp_path: Path) -> None:
    settings = Settings(var=tmp_path)
    prepare(settings.log_url)
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "ATTUNE_VAR": str(tmp_path), "ATTUNE_SERVING_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "[]\n"
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10.0) as client:
            ready(client)
            slate = client.post("/v1/recommend", json={"user_id": "u"}).json()
            assert (slate["served_by"], slate["degraded"]) == ("popularity", ["features"])
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()
    assert EventLog(settings.log_url).slate(slate["slate_id"]) is not None


def ready(client: httpx.Client) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the process did not become ready")


@pytest.fixture
def exit_words(monkeypatch, caplog) -> Callable[..., str]:
    """Runs ``main`` here with these settings; what it said before it gave up with exit code 2."""
    monkeypatch.setattr(app.process, "set_up_logging", lambda: None)
    monkeypatch.setattr(app, "use_one_thread", lambda: None)
    monkeypatch.setattr(app.signal, "signal", lambda number, action: None)

    def run(**settings: object) -> str:
        for name, value in settings.items():
            monkeypatch.setenv(f"ATTUNE_{name.upper()}", str(value))
        assert app.main() == 2
        return caplog.text

    return run


def test_a_taken_port_is_said(exit_words, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        words = exit_words(var=tmp_path, serving_port=port)
    assert f"127.0.0.1:{port}" in words
    assert "ATTUNE_SERVING_PORT" in words


def test_without_a_log_it_says_what_to_do(exit_words, tmp_path: Path) -> None:
    assert "alembic" in exit_words(var=tmp_path, serving_port=0)


def test_a_wrong_setting_is_named(exit_words, tmp_path: Path) -> None:
    assert "serving_port" in exit_words(var=tmp_path, serving_port="a door")


def test_the_load_generator_reports(endpoint, tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    users.write_text("u1\nu2\n")
    command = [sys.executable, "-m", "infra.load", "--url", endpoint.url, "--users", str(users), "--requests", "40"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert (found["requests"], found["errors"]) == (40, 0)
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]
    assert found["requests_per_second"] > 0
    command[4] = "http://127.0.0.1:9"
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["errors"] == 40
