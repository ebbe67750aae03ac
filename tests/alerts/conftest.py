"""The tests in this folder have a stack of their own, next to `local`, that sends alerts, spans and logs to this machine."""

from collections.abc import Iterator

import httpx
import pytest

from estate.cluster.layout import NODE, POD_LOGS
from estate.ops.tokens import new_token
from estate.stack.model import Stack, outputs
from tests.support.collector import Collector, collecting
from tests.support.running import Kubectl, connect, kubectl_of
from tests.support.sink import NETWORK, RECEIVERS, SECRETS, Sink, listening
from tests.support.stacks import local_images, next_to_local

NAME = "test-watching"
ONE = {"replicas": 1, "requests": {"cpu": "10m"}}


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with collecting(str(NODE)) as collector:
        yield collector


@pytest.fixture(scope="session")
def stack(sink: Sink, collector: Collector) -> Iterator[Stack]:
    del sink  # it listens before the first alert
    tracing = {"endpoint": collector.endpoint, "networks": [NETWORK], "ratio": 0}  # on request of a caller
    logs = {"endpoint": collector.endpoint, "networks": [NETWORK], "folder": str(POD_LOGS)}
    services = {"api-gateway": ONE}
    with next_to_local(
        NAME,
        "local",
        local_images(),
        SECRETS,
        service=ONE,
        services=services,
        receivers=RECEIVERS,
        tracing=tracing,
        logs=logs,
    ) as stack:
        yield stack


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[httpx.Client]:
    with connect(outputs(stack)["urls"]["gateway"], new_token(stack)) as client:
        yield client


@pytest.fixture(scope="session")
def kubectl(stack: Stack) -> Kubectl:
    return kubectl_of(stack)
