"""A stack's pod logs arrive at its configured target, even if the agent or the target fails meanwhile."""

import secrets
import time
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO, LogRecord

from estate.stack.model import Stack
from infra.services import NAMES
from tests.support.collector import Collector, values
from tests.support.running import Kubectl, eventually

AGENTS = "--selector=app.kubernetes.io/name=log-agent"
WITHIN_S = 60


def asked(client: httpx.Client) -> str:
    """Send a request, and return its trace."""
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-00"}
    assert client.get("/api/v1/users?limit=1", headers=headers).status_code == 200
    return trace


def lines(collector: Collector, trace: str) -> Iterator[tuple[str, LogRecord]]:
    """Yield the log records of a trace, with the name of their service."""
    for of, line in collector.logs:
        if line.trace_id.hex() == trace:
            yield str(of["service.name"]), line


def test_the_lines_of_a_request_arrive_with_who_wrote_them_and_its_trace(
    stack: Stack, client: httpx.Client, collector: Collector
) -> None:
    trace = asked(client)
    each_twice = sorted([*NAMES, *NAMES])
    eventually(lambda: sorted(name for name, _ in lines(collector, trace)) == each_twice, trace, WITHIN_S)
    for name, line in lines(collector, trace):
        assert line.body.string_value in {"Request started", "Request completed"}
        assert line.severity_number == SEVERITY_NUMBER_INFO
        said = values(line.attributes)
        assert (said["service"], said["url"]) == (name, "/api/v1/users")
    where = {(of["k8s.namespace.name"], of["deployment.environment.name"]) for of, _ in collector.logs}
    assert where == {(stack.namespace, stack.name)}


def test_lines_that_are_no_json_arrive_as_they_are(collector: Collector) -> None:
    def said() -> bool:
        of_postgres = [line.body.string_value for of, line in collector.logs if of["service.name"] == "postgres"]
        return any("database system is ready to accept connections" in line for line in of_postgres)

    eventually(said, "what Postgres said at its start arrives", WITHIN_S)


@pytest.fixture
def refused(collector: Collector) -> Iterator[None]:
    """Refuse logs for the time of a test; spans are accepted."""
    collector.refuses_logs = True
    yield
    collector.refuses_logs = False


@pytest.mark.usefixtures("refused")
def test_no_log_is_lost_while_the_sink_refuses_and_the_agent_restarts(
    kubectl: Kubectl, stack: Stack, client: httpx.Client, collector: Collector
) -> None:
    namespace = f"--namespace={stack.namespace}-logs"
    before = asked(client)
    kubectl("delete", "pod", AGENTS, namespace)
    kubectl("rollout", "status", "daemonset/log-agent", namespace, "--timeout=60s")
    after = asked(client)
    time.sleep(2)
    assert not [*lines(collector, before), *lines(collector, after)]
    collector.refuses_logs = False
    for trace in (before, after):
        eventually(lambda trace=trace: {name for name, _ in lines(collector, trace)} == {*NAMES}, trace, WITHIN_S)
