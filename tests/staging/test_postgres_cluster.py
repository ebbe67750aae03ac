"""A highly available Postgres loses its primary while users write."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest

from tests.load import Load
from tests.running import Kubectl, eventually

AGAIN_S = 30.0
"""Within this a write is acknowledged again."""
BEFORE_S, AFTER_S = 2.0, 5.0
WHOLE_S = 180.0


class Acknowledged:
    """When a writer's changes of one user were acknowledged."""

    def __init__(self, client: httpx.Client, user_id: int) -> None:
        self.times: list[float] = []
        self._client, self._path = client, f"/api/v1/users/{user_id}"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> "Acknowledged":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def longest_pause(self) -> float:
        """Seconds without an acknowledged write."""
        return max(after - before for before, after in pairwise(self.times))

    def _write(self) -> None:
        while not self._end.wait(0.05):
            if self._client.patch(self._path, json={"age": 40}).status_code == 200:
                self.times.append(time.monotonic())


@pytest.fixture
def acknowledged(client: httpx.Client, new_user: dict[str, object]) -> Iterator[Acknowledged]:
    made = client.post("/api/v1/users", json=new_user).json()
    yield Acknowledged(client, made["id"])
    client.delete(f"/api/v1/users/{made['id']}")


def ready(kubectl: Kubectl) -> str:
    return kubectl("get", "cluster.postgresql.cnpg.io/postgres", "--output=jsonpath={.status.readyInstances}")


def primary(kubectl: Kubectl) -> str:
    return kubectl("get", "cluster.postgresql.cnpg.io/postgres", "--output=jsonpath={.status.currentPrimary}")


@pytest.mark.timeout(600)
def test_the_primary_killed_takes_no_acknowledged_write_with_it_and_another_writes_within_30_s(
    load: Load, kubectl: Kubectl, acknowledged: Acknowledged
) -> None:
    eventually(lambda: ready(kubectl) == "3", "three instances", WHOLE_S)
    before = primary(kubectl)
    with load, acknowledged:
        load.run(BEFORE_S)
        kubectl("delete", "pod", before, "--grace-period=0", "--force")
        killed = time.monotonic()
        eventually(lambda: primary(kubectl) != before, "another primary", AGAIN_S)
        eventually(lambda: acknowledged.times[-1] > killed + 1, "a write is acknowledged again", AGAIN_S)
        load.run(AFTER_S)
    print(f"no write acknowledged for {acknowledged.longest_pause():.1f} s, {dict(load.answers)}")
    assert acknowledged.longest_pause() < AGAIN_S
    assert {outcome.split()[1] for outcome in load.failures()} <= {"503"}
    assert load.stale == []
    assert load.lost() == []
    eventually(lambda: ready(kubectl) == "3", "three instances again", WHOLE_S)
