"""Names of uvicorn and httptools that http1.py and serving.py use and no documentation guarantees: a release that changes one fails here."""

import inspect
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import httptools
import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from estate.core.paths import PROJECT

SIGNATURES: list[tuple[Callable[..., Any], str]] = [
    (HttpToolsProtocol.connection_made, "self, transport"),
    (HttpToolsProtocol.connection_lost, "self, exc"),
    (HttpToolsProtocol.data_received, "self, data"),
    (HttpToolsProtocol.on_message_begin, "self"),
    (HttpToolsProtocol.on_url, "self, url"),
    (HttpToolsProtocol.on_header, "self, name, value"),
    (HttpToolsProtocol.on_headers_complete, "self"),
    (HttpToolsProtocol.on_body, "self, body"),
    (HttpToolsProtocol.on_message_complete, "self"),
    (HttpToolsProtocol.on_response_complete, "self"),
    (HttpToolsProtocol._start_asgi_task, "self, cycle, app"),  # pyright: ignore[reportPrivateUsage]
    (HttpToolsProtocol.pause_writing, "self"),
    (HttpToolsProtocol.resume_writing, "self"),
    (HttpToolsProtocol.shutdown, "self"),
    (FlowControl.pause_reading, "self"),
    (FlowControl.resume_reading, "self"),
    (RequestResponseCycle.send, "self, message"),
    (RequestResponseCycle.receive, "self"),
    (RequestResponseCycle.run_asgi, "self, app"),
    (
        RequestResponseCycle.__init__,
        (
            "self, scope, transport, flow, logger, access_logger, access_log, default_headers, message_event, "
            "expect_100_continue, keep_alive, on_response"
        ),
    ),
    (uvicorn.Server.__init__, "self, config"),
    (uvicorn.Server.startup, "self, sockets"),
    (uvicorn.Server.on_tick, "self, counter"),
    (uvicorn.Server.shutdown, "self, sockets"),
]
OF_A_CONNECTION = {
    "access_logger", "app", "client", "connections", "cycle", "expect_100_continue", "flow", "headers", "logger", "loop",
    "parser", "pipeline", "scope", "server_state", "transport",
}  # fmt: skip
OF_A_REQUEST = {
    "body", "default_headers", "disconnected", "flow", "keep_alive", "message_event", "on_response", "response_complete", "response_started",
    "scope", "transport", "waiting_for_100_continue",
}  # fmt: skip
OF_A_SERVER = {"connections", "default_headers", "tasks", "total_requests"}
OF_THE_PARSER = {
    "feed_data", "get_http_version", "get_method", "set_dangerous_leniencies", "should_keep_alive", "should_upgrade",
}  # fmt: skip


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES, ids=lambda value: getattr(value, "__qualname__", ""))
def test_a_function_of_uvicorn_is_called_as_it_is_here(function: Callable[..., Any], parameters: str) -> None:
    assert ", ".join(inspect.signature(function).parameters) == parameters


def names_set(function: Callable[..., Any]) -> set[str]:
    """Return the attributes that an object sets on itself in a method."""
    return {
        line.strip()[5:].split(":")[0].split(" ")[0]
        for line in inspect.getsource(function).splitlines()
        if line.strip().startswith("self.")
    }


def test_the_attributes_that_are_used_are_there() -> None:
    assert names_set(HttpToolsProtocol.__init__) >= OF_A_CONNECTION
    assert names_set(RequestResponseCycle.__init__) >= OF_A_REQUEST
    assert vars(ServerState()).keys() >= OF_A_SERVER
    assert set(dir(httptools.HttpRequestParser)) >= OF_THE_PARSER
    assert "url" in names_set(HttpToolsProtocol.on_message_begin)


def test_a_status_line_is_whole() -> None:
    assert STATUS_LINE[431] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    assert STATUS_LINE.keys() == set(range(100, 600))


class Callbacks:
    """The minimal callbacks of a parser."""

    def on_headers_complete(self) -> None:
        """Record the end of the head."""


class Failing(Callbacks):
    """A callback that raises."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Refuse a field."""
        raise LookupError(name, value)


def test_the_parser_says_where_it_stops_at_an_upgrade_and_what_a_callback_raised() -> None:
    head = b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as stopped:
        httptools.HttpRequestParser(Callbacks()).feed_data(head + b"!")
    assert stopped.value.args == (len(head),)
    with pytest.raises(httptools.HttpParserCallbackError) as failed:
        httptools.HttpRequestParser(Failing()).feed_data(head)
    assert isinstance(failed.value.__context__, LookupError)


@pytest.mark.parametrize("name", ["uvicorn", "httptools"])
def test_only_the_minor_release_that_this_was_written_for_is_allowed(name: str) -> None:
    project = tomllib.loads((PROJECT / "apps" / "servicekit" / "pyproject.toml").read_text())["project"]
    allowed = next(r for r in map(Requirement, project["dependencies"]) if r.name == name).specifier
    major, minor, *_ = map(int, version(name).split("."))
    assert version(name) in allowed
    assert not any(f"{major}.{other}.0" in allowed for other in range(200) if other != minor)
    assert f"{major + 1}.0.0" not in allowed
