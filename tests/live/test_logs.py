"""One request in the logs of every component that it passed."""

import subprocess
import uuid

import httpx
import pytest

from estate.stack.model import Stack
from infra.services import GATEWAY
from tests.support.running import eventually
from tests.support.stacks import estate


def logs(stack: Stack, request: str) -> subprocess.CompletedProcess[str]:
    return estate("logs", "--request", request, stack=stack.name)


@pytest.mark.parametrize("by", ["request", "trace"])
def test_a_request_is_found_in_both_apps(client: httpx.Client, stack: Stack, by: str) -> None:
    trace = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-00"}
    request = client.get("/api/v1/users/1", headers=headers).headers["x-request-id"]
    found: list[str] = []

    def complete() -> bool:
        found[:] = logs(stack, {"request": request, "trace": trace}[by]).stdout.splitlines()
        return len(found) == 4

    eventually(complete, "two lines of the gateway and two of user-service", 20)
    assert [" ".join(line.split()[3:5]) for line in found] == [*["Request started"] * 2, *["Request completed"] * 2]
    for half in (found[:2], found[2:]):  # in the same millisecond, in any order
        assert sorted(line.split()[1].startswith(GATEWAY) for line in half) == [False, True]


def test_a_clients_own_id_leads_to_the_gateways_lines(client: httpx.Client, stack: Stack) -> None:
    own = str(uuid.uuid4())
    assert client.get("/api/v1/users/1", headers={"X-Request-ID": own}).headers["x-request-id"] != own
    eventually(lambda: len(logs(stack, own).stdout.splitlines()) == 2, "two lines of the gateway", 20)


def test_a_request_that_there_was_not_is_an_error_with_what_to_do(stack: Stack) -> None:
    done = logs(stack, "never")
    assert done.returncode == 1
    assert "no line of request never in the last hour" in done.stderr
