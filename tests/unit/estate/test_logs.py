import json
from pathlib import Path
from typing import Any, cast

import pytest

from estate.core.console import EstateError
from estate.report.logs import Line, check_app, find, of_request
from estate.stack.model import Stack
from infra.services import NAMES

TRACE = "0af7651916cd43dd8448eb211c80319c"


def said(pod: str, at: str, **fields: Any) -> str:
    line = {"time": f"2026-11-25T03:00:{at}Z", "level": "info", "logger": "request", "message": "Request started"}
    return f"[pod/{pod}/{pod[:-2]}] {json.dumps(line | {'service': pod[:-2]} | fields)}\n"


def test_the_lines_of_a_request_are_found_in_every_pod_and_are_in_order_of_time() -> None:
    lines = [
        said("user-service-1", "00.002", request_id="a", trace_id=TRACE),
        said("user-service-1", "00.001", request_id="b", user_agent="a"),
        "[pod/user-service-2/user-service] no JSON, and yet it says \"a\"\n",
        "[pod/user-service-2/user-service] \"a\"\n",
        "error: container is waiting to start\n",
        said("api-gateway-1", "00.001", request_id="a", client_request_id="mine", trace_id=TRACE),
        said("api-gateway-1", "00.003", request_id="a", client_request_id="mine", trace_id=TRACE),
    ]  # fmt: skip
    assert {line.pod for line in of_request(lines, "mine")} == {"api-gateway-1"}
    for request in ("a", TRACE):
        found = of_request(lines, request)
        assert [(line.pod, line.fields["time"][-4:]) for line in found] == [
            ("api-gateway-1", "001Z"),
            ("user-service-1", "002Z"),
            ("api-gateway-1", "003Z"),
        ]


def test_an_id_is_found_as_a_whole_and_whatever_it_holds() -> None:
    lines = [said("s-1", "00.001", request_id="ab"), said("s-1", "00.002", request_id='say "x"\\')]
    assert of_request(lines, "a") == []
    assert len(of_request(lines, 'say "x"\\')) == 1


def test_a_line_is_for_a_person_to_read() -> None:
    fields = {"time": "T", "level": "info", "logger": "request", "message": "Request completed", "service": "s"}
    line = Line("s-1", fields | {"method": "GET", "url": "/users", "request_id": "a", "status": 200})
    assert str(line).split() == ["T", "s-1", "info", "Request", "completed", "GET", "/users", "status=200"]


def test_what_a_client_sent_does_not_command_the_terminal() -> None:
    fields = {
        "time": "T",
        "level": "info",
        "logger": "request",
        "message": "Request started",
        "url": "/\n\x1b[31m\u202e",
    }
    assert str(Line("s-1", fields)).endswith(r"/\n\x1b[31m\u202e")


class Printing:
    """A stack whose kubectl prints a text and ends."""

    name = "local"

    def __init__(self, folder: Path, script: str) -> None:
        (folder / "kubectl").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "kubectl").chmod(0o700)
        self.command = str(folder / "kubectl")

    @property
    def target(self) -> Any:
        return self

    environment: dict[str, str] | None = None

    def kubectl(self, *words: str) -> list[str]:
        assert f"--selector=app.kubernetes.io/name in ({','.join(NAMES)})" in words
        return [self.command, *words]


def test_a_request_in_no_log_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    stack = cast("Stack", Printing(tmp_path, "echo No resources found >&2"))
    with pytest.raises(EstateError, match=r"no line of request a in the last hour of api-gateway, .* in stack local: .*X-Request-ID"):  # fmt: skip
        find(stack, "a")


def test_a_cluster_that_does_not_answer_is_said_to_be_away(tmp_path: Path) -> None:
    stack = cast("Stack", Printing(tmp_path, "echo refused >&2; exit 1"))
    with pytest.raises(EstateError, match=r"the cluster does not answer .*: refused"):
        find(stack, "a")


PODS = {"items": [{"metadata": {"labels": {"app.kubernetes.io/name": name}}} for name in ("redis", "user-service")]}
PODS["items"].append({"metadata": {}})  # created by hand


class Holding(Printing):
    """A stack that has some pods."""

    def kubectl(self, *words: str) -> list[str]:
        return [self.command, *words]


def test_an_app_that_is_not_there_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    stack = cast("Stack", Holding(tmp_path, f"echo '{json.dumps(PODS)}'"))
    check_app(stack, "user-service")
    with pytest.raises(EstateError, match="no app userservice in stack local: did you mean user-service"):
        check_app(stack, "userservice")
    with pytest.raises(EstateError, match="no app zzz in stack local: known are redis, user-service"):
        check_app(stack, "zzz")


def test_a_stack_without_pods_has_no_logs_to_follow(tmp_path: Path) -> None:
    stack = cast("Stack", Holding(tmp_path, """echo '{"items": []}'"""))
    with pytest.raises(EstateError, match="nothing runs in stack local: `estate up --stack local`"):
        check_app(stack, "user-service")
