"""Somebody is told within two minutes when a service is gone, and told again when it is back."""

import time
from collections.abc import Iterator

import pytest

from tests.running import Kubectl, eventually, kubectl_of
from tests.sink import RECEIVERS, SECRETS, Sink, listening
from tests.stacks import beside_local, local_images

NAME = "test-alerts"
ONE = {"replicas": 1, "requests": {"cpu": "10m"}}
WITHIN_S = 120
pytestmark = pytest.mark.timeout(900)  # it brings a stack up, and removes it


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def told_stack(sink: Sink) -> Iterator[Kubectl]:
    """A stack that tells the sink of its alerts."""
    del sink  # it listens before the first alert
    services = {"api-gateway": ONE}
    with beside_local(
        NAME, "local", local_images(), SECRETS, service=ONE, services=services, receivers=RECEIVERS
    ) as stack:
        yield kubectl_of(stack)


def test_the_dead_mans_switch_is_heard_by_its_own_receiver_alone(told_stack: Kubectl, sink: Sink) -> None:
    del told_stack
    eventually(lambda: bool(sink.of("Watchdog")), "the Watchdog is heard", WITHIN_S)
    assert {told.receiver for told in sink.of("Watchdog")} == {"dead-man"}


def test_a_service_that_is_gone_is_told_of_within_two_minutes_and_so_is_its_return(
    told_stack: Kubectl, sink: Sink
) -> None:
    # While a stack comes up for the first time, Prometheus is there before the services.
    eventually(lambda: not sink.ringing("ServiceDown"), "every service is up for Prometheus", 2 * WITHIN_S)
    sink.told.clear()
    begun = time.monotonic()
    told_stack("scale", "deployment", "user-service", "--replicas=0")
    eventually(lambda: bool(sink.of("ServiceDown", service="user-service")), "ServiceDown is told", WITHIN_S)
    (told, *_) = sink.of("ServiceDown", service="user-service")
    assert told.at - begun < WITHIN_S
    assert (told.receiver, told.labels["severity"]) == ("sink", "critical")
    assert told.annotations["runbook_url"] == "docs/runbooks/service-down.md"
    assert not [one for one in sink.told if one.alertname == "ServiceDown" and one.labels["service"] == "api-gateway"]
    told_stack("scale", "deployment", "user-service", "--replicas=1")
    eventually(
        lambda: bool(sink.of("ServiceDown", "resolved", service="user-service")), "its end is told", 2 * WITHIN_S
    )
