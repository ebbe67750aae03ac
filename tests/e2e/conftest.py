"""A client of the running estate, as a user has it: through the Ingress, by its public name, trusting its CA."""

import json
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from toolchain import estate
from toolchain.cluster import layout

STACK = "local"


class ToIngress(httpx.HTTPTransport):
    """Resolves every host to the Ingress on this machine, as `curl --resolve` does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


@pytest.fixture(scope="session")
def stack() -> estate.Stack:
    return estate.Stack(STACK, estate.load(STACK), estate.target())


@pytest.fixture(scope="session")
def urls(stack: estate.Stack) -> dict[str, str]:
    return estate.outputs(stack)["urls"]


@pytest.fixture
def client(urls: dict[str, str]) -> Iterator[httpx.Client]:
    trust = ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE))
    with httpx.Client(base_url=urls["gateway"], transport=ToIngress(verify=trust), timeout=10) as client:
        yield client


@pytest.fixture
def kubectl(stack: estate.Stack) -> Callable[..., str]:
    """Output of kubectl in the stack's namespace."""

    def run(*words: str) -> str:
        done = subprocess.run(
            stack.kubectl(*words), env=stack.target.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def items(kubectl: Callable[..., str]) -> Callable[..., list[dict[str, Any]]]:
    """The objects that `kubectl get` finds."""
    return lambda *words: json.loads(kubectl("get", *words, "-o", "json"))["items"]


@pytest.fixture
def new_user() -> dict[str, Any]:
    return {"name": "Ada Lovelace", "email": f"ada-{uuid.uuid4().hex}@example.com", "age": 36}


def eventually(condition: Callable[[], bool], what: str, deadline_s: float) -> None:
    """Return once `condition()` is true; fail when it is not within `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s} s"
        time.sleep(0.2)
