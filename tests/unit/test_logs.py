"""Both apps, as processes without Postgres, Redis or Consul: their log lines, and the delivery of their last spans."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from estate.core.paths import PROJECT
from tests.support.collector import Collector, collecting

SCHEMA: dict[str, Any] = json.loads((PROJECT / "docs" / "log.schema.json").read_text())
VALIDATOR: Any = Draft202012Validator(SCHEMA)
DEADLINE_S = 30
ROUTES = [{"prefix": "/api/v1/users", "service": "user-service", "auth": "none"}]
REQUEST = {
    "time": "2026-11-25T03:00:00.000Z", "level": "info", "logger": "request", "message": "Request completed", "service": "s",
    "method": "GET", "url": "/", "request_id": "a", "endpoint": "/", "status": 200, "duration": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(params=["user_service", "api_gateway"], scope="module")
def written(
    request: pytest.FixtureRequest, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[dict[str, Any]]]:
    """Return an app's name, and the lines that it wrote from its start to its end by SIGTERM."""
    routes = tmp_path_factory.mktemp("routes") / "routes.json"
    routes.write_text(json.dumps({"routes": ROUTES}))
    return request.param.replace("_", "-"), lines_of(request.param, routes, collector.endpoint)


def lines_of(package: str, routes: Path, endpoint: str) -> list[dict[str, Any]]:
    """Start an app, send it requests, and end it; return its lines."""
    port, closed = free_port(), f"127.0.0.1:{free_port()}"
    own = {
        "user_service": {"APP_DATABASE_HOST": "127.0.0.1", "APP_DATABASE_PORT": closed.rpartition(":")[2]},
        "api_gateway": {"APP_ROUTES_FILE": str(routes)},
    }
    settings = own[package] | {
        "APP_SERVER_HOST": "127.0.0.1", "APP_SERVER_PORT": str(port), "APP_SERVICE_REGISTRY_ADDRESS": closed,
        "APP_AUTH_REQUIRED": "false", "APP_CACHE_HOST": "127.0.0.1", "APP_CACHE_PORT": closed.rpartition(":")[2],
        "APP_AUTH_JWKS_URL": f"http://{closed}/keys", "APP_AUTH_JWKS_ISSUER": "https://login.example.com",
        "APP_TRACING_ENDPOINT": endpoint, "APP_TRACING_RATIO": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", package]
    with subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True) as app:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                until_it_answers(client, app)
                for path, request_id in (
                    ("/api/v1/users/1", 'my "own" id'),
                    ("/nothing", "my-own.id"),
                    ("/readyz", "a b"),
                ):
                    assert client.get(path, headers={"X-Request-ID": request_id}).status_code in (404, 503)
        finally:
            app.send_signal(signal.SIGTERM)
        output, _ = app.communicate(timeout=DEADLINE_S)
    return [json.loads(line) for line in output.splitlines()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def until_it_answers(client: httpx.Client, app: subprocess.Popen[str]) -> None:
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            client.get("/livez")
        except httpx.TransportError:
            assert app.poll() is None, "the app has ended"
            assert time.monotonic() < end, "the app does not answer"
            time.sleep(0.1)
        else:
            return


def test_every_line_is_as_the_schema_has_it(written: tuple[str, list[dict[str, Any]]]) -> None:
    name, lines = written
    assert [error.message for line in lines for error in VALIDATOR.iter_errors(line)] == []
    assert {line["service"] for line in lines} == {name}
    said = {line["message"] for line in lines}
    assert {"Request started", "Request completed", "Could not register"} <= said
    # A probe that fails is worth a line; one that passes is not.
    assert {line["url"] for line in lines if line["logger"] == "request"} == {"/api/v1/users/1", "/nothing", "/readyz"}


def test_what_is_away_is_no_reason_for_a_traceback(written: tuple[str, list[dict[str, Any]]]) -> None:
    _, lines = written
    assert [line for line in lines if "exception" in line] == []
    assert {"Keys cannot be fetched; the last good ones stay"} <= {line["message"] for line in lines}


def test_the_last_spans_arrive_although_a_signal_ends_the_process(
    written: tuple[str, list[dict[str, Any]]], collector: Collector
) -> None:
    name, lines = written
    logged = {line["span_id"] for line in lines if "span_id" in line}
    kinds = {span.span_id.hex() for span in collector.of(name)}
    assert logged
    assert logged <= kinds


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert VALIDATOR.is_valid(REQUEST)
    assert VALIDATOR.is_valid(REQUEST | {"subject": "billing", "client_request_id": "my-own.id", "status": 499})


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": "2026-11-25 03:00:00"},
        {"level": "INFO"},
        {"status": "200"},
        {"message": "Request begun"},
        {"query": "a=1"},
        {"trace_id": "0" * 32},
        {"request_id": ""},
        {"request_id": "a b"},
        {"subject": "s" * 129},
    ],
)
def test_the_schema_refuses_what_no_reader_expects(wrong: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(REQUEST | wrong)


@pytest.mark.parametrize("missing", sorted(REQUEST))
def test_the_schema_wants_every_field_of_a_request(missing: str) -> None:
    assert not VALIDATOR.is_valid({name: value for name, value in REQUEST.items() if name != missing})
