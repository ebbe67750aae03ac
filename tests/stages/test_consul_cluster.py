"""A Consul of three servers loses servers and agents under load, without any effect on users."""

import json
import uuid
from typing import Any

import pytest

from tests.support.load import Load
from tests.support.running import Kubectl, alerts, eventually

pytestmark = pytest.mark.timeout(600)
INSTANCES = 3
"""Number of user-service instances."""
BEFORE_S, AFTER_S = 2.0, 6.0
ASK = """
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen
method, path, token, body = sys.argv[1:]
headers = {"X-Consul-Token": open("/run/secrets/app/consul-token").read()} if token else {}
try:
    print(urlopen(Request("http://consul:8500" + path, body.encode() or None, headers, method=method)).status)
except HTTPError as error:
    print(error.code)
except OSError:
    print(0)  # there is no agent
"""


def consul(kubectl: Kubectl, *words: str, on: str = "consul-server-0") -> str:
    """Return the output of the `consul` command on a server."""
    return kubectl("exec", on, "--", "consul", *words)


def peers(kubectl: Kubectl, on: str) -> list[dict[str, Any]]:
    """Return the Raft peers that a server knows, with their votes."""
    rows = [row.split() for row in consul(kubectl, "operator", "raft", "list-peers", on=on).splitlines()[1:]]
    return [{"name": row[0], "leads": row[3] == "leader", "votes": row[4] == "true"} for row in rows]


def whole(kubectl: Kubectl, on: str = "consul-server-0") -> bool:
    """Return whether three servers vote, and one of them leads."""
    try:
        found = peers(kubectl, on)
    except AssertionError:
        return False
    return sum(peer["votes"] for peer in found) == 3 and sum(peer["leads"] for peer in found) == 1


def nodes(kubectl: Kubectl, service: str) -> list[str]:
    """Return the agent's node of each passing instance of a service, from Consul's catalog."""
    look = f"/v1/health/service/{service}?passing=1"
    code = ASK.replace(".status)", ".read().decode())")
    command = ("exec", "deployment/api-gateway", "--", "/app/.venv/bin/python", "-c", code, "GET", look, "token", "")
    answer = kubectl(*command)
    entries: list[dict[str, Any]] = json.loads(answer) if answer.startswith("[") else []  # otherwise a status
    return sorted(entry["Node"]["Node"] for entry in entries)


def agents(kubectl: Kubectl) -> list[str]:
    """Return the pods of agents that are not terminating."""
    found = json.loads(kubectl("get", "pods", "--selector=app.kubernetes.io/name=consul", "-o", "json"))["items"]
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def registered(kubectl: Kubectl) -> bool:
    """Return whether every instance of user-service passes at existing agents, and at no others."""
    found = nodes(kubectl, "user-service")
    return len(found) == INSTANCES and set(found) <= set(agents(kubectl))


def nothing_was_noticed(load: Load) -> None:
    assert load.answers["GET 200"] > 100
    assert load.failures() == {}
    assert load.stale == []
    assert load.lost() == []


def test_no_user_notices_a_killed_leader(load: Load, kubectl: Kubectl) -> None:
    eventually(lambda: whole(kubectl), "three servers", 60)
    (leader,) = [peer["name"] for peer in peers(kubectl, "consul-server-0") if peer["leads"]]
    other = next(peer["name"] for peer in peers(kubectl, "consul-server-0") if not peer["leads"])
    with load:
        load.run(BEFORE_S)
        kubectl("delete", "pod", leader, "--grace-period=0", "--force")
        eventually(lambda: whole(kubectl, other), "three servers", 90)
        load.run(AFTER_S)
    nothing_was_noticed(load)
    eventually(lambda: registered(kubectl), "every instance", 30)


def test_no_user_notices_servers_replaced_one_by_one(load: Load, kubectl: Kubectl) -> None:
    eventually(lambda: whole(kubectl), "three servers", 60)
    with load:
        load.run(BEFORE_S)
        kubectl("rollout", "restart", "statefulset/consul-server")
        kubectl("rollout", "status", "statefulset/consul-server", "--timeout=400s")
        load.run(AFTER_S)
    nothing_was_noticed(load)
    eventually(lambda: whole(kubectl), "three servers", 30)
    eventually(lambda: registered(kubectl), "every instance", 30)


def test_all_servers_killed_at_once_keep_what_they_had_and_find_the_agents_again(load: Load, kubectl: Kubectl) -> None:
    eventually(lambda: whole(kubectl), "three servers", 60)
    consul(kubectl, "kv", "put", "tests/kept", "yes")
    with load:
        load.run(BEFORE_S)
        kubectl("delete", "pod", "--selector=app.kubernetes.io/name=consul-server", "--grace-period=0", "--force")
        eventually(lambda: whole(kubectl), "three servers", 180)
        load.run(AFTER_S)
    nothing_was_noticed(load)
    assert consul(kubectl, "kv", "get", "tests/kept").strip() == "yes"
    eventually(lambda: registered(kubectl), "every instance", 120)


def test_a_lost_quorum_is_reported_and_no_user_notices(load: Load, kubectl: Kubectl) -> None:
    eventually(lambda: whole(kubectl), "three servers", 60)
    with load:
        kubectl("scale", "statefulset/consul-server", "--replicas=1")
        eventually(lambda: "ConsulHasNoLeader" in alerts(kubectl), "ConsulHasNoLeader fires", 120)
        kubectl("scale", "statefulset/consul-server", "--replicas=3")
        eventually(lambda: whole(kubectl), "three servers", 120)
        load.run(AFTER_S)
    nothing_was_noticed(load)
    eventually(lambda: registered(kubectl), "every instance", 120)


def test_agents_that_are_replaced_leave_no_gap(load: Load, kubectl: Kubectl) -> None:
    eventually(lambda: registered(kubectl), "every instance", 60)
    before = agents(kubectl)
    with load:
        load.run(BEFORE_S)
        kubectl("rollout", "restart", "daemonset/consul")
        kubectl("rollout", "status", "daemonset/consul", "--timeout=200s")
        eventually(lambda: registered(kubectl), "every instance", 60)
        load.run(AFTER_S)
    nothing_was_noticed(load)
    assert not set(before) & set(agents(kubectl))


def test_services_register_again_with_the_next_agent_when_theirs_was_killed(load: Load, kubectl: Kubectl) -> None:
    eventually(lambda: registered(kubectl), "every instance", 60)
    before = set(agents(kubectl))
    with load:
        load.run(BEFORE_S)
        kubectl("delete", "pod", "--selector=app.kubernetes.io/name=consul", "--grace-period=0", "--force")
        eventually(lambda: bool(set(agents(kubectl)) - before), "another agent", 30)
        eventually(lambda: registered(kubectl), "every instance", 60)
    nothing_was_noticed(load)


def test_a_snapshot_brings_back_what_was_deleted(kubectl: Kubectl) -> None:
    eventually(lambda: whole(kubectl), "three servers", 60)
    name, value = uuid.uuid4().hex[:8], uuid.uuid4().hex
    consul(kubectl, "kv", "put", "tests/snapshot", value)
    run(kubectl, "consul-snapshot", f"snapshot-{name}")
    consul(kubectl, "kv", "delete", "tests/snapshot")
    run(kubectl, "consul-restore", f"restore-{name}")
    assert consul(kubectl, "kv", "get", "tests/snapshot").strip() == value
    eventually(lambda: registered(kubectl), "every instance", 60)


def run(kubectl: Kubectl, of: str, name: str) -> None:
    """Run a CronJob's Job now, and wait until it succeeds."""
    kubectl("create", "job", f"--from=cronjob/{of}", name)
    try:
        kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=120s")
    finally:
        kubectl("delete", "job", name)


@pytest.mark.parametrize(
    ("method", "path", "token", "body", "wanted"),
    [
        ("PUT", "/v1/agent/service/register", "", '{"Name": "user-service", "ID": "tests"}', 403),
        ("PUT", "/v1/agent/service/register", "token", '{"Name": "api-gateway", "ID": "tests"}', 403),
        ("GET", "/v1/kv/tests/snapshot", "token", "", 403),
        ("GET", "/v1/acl/tokens", "token", "", 403),
        ("PUT", "/v1/agent/leave", "token", "", 403),
        ("GET", "/v1/agent/services", "token", "", 200),
    ],
)
def test_a_service_may_register_itself_and_nothing_else(
    kubectl: Kubectl, method: str, path: str, token: str, body: str, wanted: int
) -> None:
    command = ("exec", "deployment/user-service", "--", "/app/.venv/bin/python", "-c", ASK)
    assert int(kubectl(*command, method, path, token, body)) == wanted
