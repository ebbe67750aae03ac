"""A highly available Postgres loses its primary under writes."""

import time

import pytest

from tests.support.load import Load
from tests.support.running import Kubectl, eventually

AGAIN_S = 30.0
"""Seconds within which a write is acknowledged again."""
BEFORE_S, AFTER_S = 2.0, 5.0
WHOLE_S = 180.0


def ready(kubectl: Kubectl) -> str:
    return kubectl("get", "cluster.postgresql.cnpg.io/postgres", "--output=jsonpath={.status.readyInstances}")


def primary(kubectl: Kubectl) -> str:
    return kubectl("get", "cluster.postgresql.cnpg.io/postgres", "--output=jsonpath={.status.currentPrimary}")


@pytest.mark.timeout(600)
def test_the_primary_killed_takes_no_acknowledged_write_with_it_and_another_writes_within_30_s(
    load: Load, kubectl: Kubectl
) -> None:
    eventually(lambda: ready(kubectl) == "3", "three instances", WHOLE_S)
    before = primary(kubectl)
    with load:
        load.run(BEFORE_S)
        kubectl("delete", "pod", before, "--grace-period=0", "--force")
        eventually(lambda: primary(kubectl) != before, "another primary", AGAIN_S)
        # The old primary goes on for a moment: only writes after the new one is there prove that it accepts them.
        promoted = time.monotonic()
        eventually(lambda: load.acknowledged[-1] > promoted, "a write is acknowledged again", AGAIN_S)
        load.run(AFTER_S)
    print(f"no write acknowledged for {load.longest_pause():.1f} s, {dict(load.answers)}")
    assert load.longest_pause() < AGAIN_S
    assert {outcome.split()[1] for outcome in load.failures()} <= {"503"}
    assert load.stale == []
    assert load.lost() == []
    eventually(lambda: ready(kubectl) == "3", "three instances again", WHOLE_S)
