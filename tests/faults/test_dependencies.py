"""The behaviour of the services without their dependencies, under load."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.load import Load
from tests.support.running import Kubectl, connect, eventually

BEFORE_S, AFTER_S = 2.0, 6.0
REDIS_CLI = 'REDISCLI_AUTH=$(sed -n "s/^requirepass //p" /etc/redis/redis.conf) redis-cli '


@pytest.fixture
def load(client: httpx.Client) -> Iterator[Load]:
    load = Load(client)
    yield load
    load.tidy()


def kill(kubectl: Kubectl, app: str) -> None:
    """Kill an app's pod without a grace period."""
    kubectl("delete", "pod", f"--selector=app.kubernetes.io/name={app}", "--grace-period=0", "--force")


def test_no_user_notices_that_redis_is_killed(load: Load, kubectl: Kubectl) -> None:
    with load:
        load.run(BEFORE_S)
        kill(kubectl, "redis")
        load.run(AFTER_S)
        kubectl("rollout", "status", "deployment/redis", "--timeout=60s")
        load.run(BEFORE_S)
    assert load.failures() == {}
    assert load.stale == []
    assert load.lost() == []


@pytest.mark.parametrize("command", ["CLIENT PAUSE 3000 ALL", "FLUSHALL", "CONFIG SET maxmemory 1"])
def test_no_user_notices_a_slow_flushed_or_full_redis(load: Load, kubectl: Kubectl, command: str) -> None:
    with load:
        load.run(BEFORE_S)
        kubectl("exec", "deployment/redis", "--", "sh", "-c", REDIS_CLI + command)
        load.run(AFTER_S)
        kubectl("exec", "deployment/redis", "--", "sh", "-c", REDIS_CLI + "CONFIG SET maxmemory 64mb")
    assert load.failures() == {}
    assert load.stale == []


def test_no_user_notices_rubbish_in_redis(load: Load, kubectl: Kubectl) -> None:
    rubbish = "for key in $(KEYS user-service:user:*); do SET $key '{\"id\": 1}'; done".replace(
        "KEYS", f"{REDIS_CLI}KEYS"
    )
    with load:
        load.run(BEFORE_S)
        kubectl("exec", "deployment/redis", "--", "sh", "-c", rubbish.replace("SET", f"{REDIS_CLI}SET"))
        load.run(BEFORE_S)
    assert load.failures() == {}
    assert load.stale == []


def test_postgres_killed_loses_nothing_that_was_acknowledged(load: Load, kubectl: Kubectl) -> None:
    with load:
        load.run(BEFORE_S)
        kill(kubectl, "postgres")
        load.run(AFTER_S)
        kubectl("rollout", "status", "statefulset/postgres", "--timeout=60s")
        load.run(AFTER_S)
    assert {outcome.split()[1] for outcome in load.failures()} <= {"503"}
    assert load.stale == []
    assert load.lost() == []


def test_no_user_notices_that_consul_is_killed_and_it_relearns_all(
    load: Load, kubectl: Kubectl, urls: dict[str, str]
) -> None:
    with load:
        load.run(BEFORE_S)
        kill(kubectl, "consul")
        load.run(AFTER_S)
        kubectl("rollout", "status", "statefulset/consul", "--timeout=60s")
        load.run(AFTER_S)
    assert load.failures() == {}
    assert load.lost() == []

    def passing(service: str) -> int:
        return len(consul.get(f"/v1/health/service/{service}", params={"passing": "1"}).json())

    with connect(urls["consul"]) as consul:
        eventually(lambda: passing("user-service") == 3, "three instances of user-service", 60)


def test_instances_that_are_replaced_lose_no_request(load: Load, kubectl: Kubectl) -> None:
    with load:
        load.run(BEFORE_S)
        kubectl("rollout", "restart", "deployment/user-service")
        kubectl("rollout", "status", "deployment/user-service", "--timeout=120s")
        load.run(AFTER_S)
    assert load.failures() == {}
    assert load.lost() == []


def test_an_instance_that_ends_loses_no_request(load: Load, kubectl: Kubectl) -> None:
    with load:
        load.run(BEFORE_S)
        one, *_ = kubectl("get", "pods", "--selector=app.kubernetes.io/name=user-service", "--output=name").split()
        kubectl("delete", "--wait=false", one)
        load.run(AFTER_S)
        kubectl("rollout", "status", "deployment/user-service", "--timeout=120s")
        load.run(AFTER_S)
    assert load.failures() == {}
