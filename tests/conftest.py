"""Fixtures and hooks shared by the tests of the running estate."""

import json
import logging
import os
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from estate.ops.tokens import new_token
from estate.stack.model import Stack, load, outputs
from estate.stack.target import target
from tests.support.running import STACK, Items, Kubectl, connect, kubectl_of

# A test that passes here passes on every machine: neither it nor what it starts depends on this one's Python, language or time zone.
for name in [name for name in os.environ if name.startswith(("PYTHON", "LANG", "LC_"))]:
    del os.environ[name]
# Tests that were started in the background would ignore Ctrl-C, and so would their child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)
# An exporter of spans logs late, in the middle of another test; pytest captures loggers that do not propagate as well.
logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
os.environ["TZ"] = "<+1345>-13:45"
time.tzset()
# A slow or busy machine generates examples slowly, which is no error.
settings.register_profile("estate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("estate")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the tests' order, which is otherwise in the header alone, and a quiet run has no header."""
    if config.pluginmanager.hasplugin("randomly"):
        terminalreporter.write_line(f"the same order again: pytest --randomly-seed={config.getoption('randomly_seed')}")


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Stack:
    """Return the stack under test; a test module may name another by parametrizing this."""
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
    """Return a function that lists the objects that `kubectl get` finds."""
    return lambda *words: json.loads(kubectl("get", *words, "-o", "json"))["items"]


@pytest.fixture
def new_user() -> dict[str, Any]:
    return {"name": "Ada Lovelace", "email": f"ada-{uuid.uuid4().hex}@example.com", "age": 36}
