"""What the tests of the running estate share."""

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from tests.running import STACK, Items, Kubectl, connect, kubectl_of
from toolchain.estate import new_token
from toolchain.stack import Stack, load, outputs
from toolchain.target import target

# What holds in a test holds on every machine: neither it nor what it starts knows this one's Python, language or zone.
for name in [name for name in os.environ if name.startswith(("PYTHON", "LANG", "LC_"))]:
    del os.environ[name]
# Tests that were started in the background would ignore Ctrl-C, and so would what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["TZ"] = "<+1345>-13:45"
time.tzset()
# A slow and busy machine generates slowly, and that is no error.
settings.register_profile("estate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("estate")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the tests' order, which is in the header alone, and a quiet run has none."""
    if config.pluginmanager.hasplugin("randomly"):
        terminalreporter.write_line(f"the same order again: pytest --randomly-seed={config.getoption('randomly_seed')}")


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Stack:
    """The stack under test; a module of tests may name another by parametrizing this."""
    name: str = getattr(request, "param", STACK)
    return Stack(name, load(name), target())


@pytest.fixture(scope="session")
def urls(stack: Stack) -> dict[str, str]:
    return outputs(stack)["urls"]


@pytest.fixture(scope="session")
def token(stack: Stack) -> str:
    return new_token(stack)


@pytest.fixture
def client(urls: dict[str, str], token: str) -> Iterator[httpx.Client]:
    with connect(urls["gateway"], token) as client:
        yield client


@pytest.fixture(scope="session")
def kubectl(stack: Stack) -> Kubectl:
    return kubectl_of(stack)


@pytest.fixture
def items(kubectl: Kubectl) -> Items:
    """The objects that `kubectl get` finds."""
    return lambda *words: json.loads(kubectl("get", *words, "-o", "json"))["items"]


@pytest.fixture
def new_user() -> dict[str, Any]:
    return {"name": "Ada Lovelace", "email": f"ada-{uuid.uuid4().hex}@example.com", "age": 36}
