"""The running estate as a user has it: through the Ingress, by its public name, trusting its CA."""

import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx

from toolchain.cluster import layout
from toolchain.stack import Stack

STACK = os.environ.get("STACK", "local")
"""As `make test STACK=…` has it."""
Kubectl = Callable[..., str]
Items = Callable[..., list[dict[str, Any]]]


class ToIngress(httpx.HTTPTransport):
    """Resolves every host to the Ingress on this machine, as `curl --resolve` does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


def connect(url: str, token: str | None = None, address: str | None = None) -> httpx.Client:
    """Return a client of a public URL of the estate.

    Args:
        url: where to.
        token: sent with every request.
        address: of this machine that the client has, such as one of 127.0.0.0/8.
    """
    trust = ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(
        base_url=url, transport=ToIngress(verify=trust, local_address=address), timeout=10, headers=headers
    )


def kubectl_of(stack: Stack) -> Kubectl:
    """Output of kubectl in a stack's namespace."""

    def run(*words: str) -> str:
        done = subprocess.run(
            stack.kubectl(*words), env=stack.target.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def create(client: httpx.Client, user: dict[str, Any]) -> dict[str, Any]:
    """A user that the API has stored."""
    created = client.post("/api/v1/users", json=user)
    assert created.status_code == 201, created.text
    return created.json()


def version_in(answer: httpx.Response) -> int:
    """The version of the user in an answer, which its ETag begins with."""
    return int(answer.headers["etag"].strip('"').partition("-")[0])


def reads_back(client: httpx.Client, user: dict[str, Any]) -> bool:
    """Whether the API has a user as it was stored."""
    try:
        found = client.get(f"/api/v1/users/{user['id']}")
    except httpx.TransportError:
        return False
    return found.status_code == 200 and found.json() == user


def eventually(condition: Callable[[], bool], what: str, deadline_s: float) -> None:
    """Return once `condition()` is true; fail when it is not within `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s} s"
        time.sleep(0.2)


def settle(kubectl: Kubectl) -> None:
    """Return once every pod is ready or has come to its end, and none is about to end; fail with the names of those that are not.

    What a test before this one broke is whole then.
    """

    def settled(pod: dict[str, Any]) -> bool:
        ended = pod["status"]["phase"] in ("Succeeded", "Failed")
        ready = [status["ready"] for status in pod["status"].get("containerStatuses", ())]
        return "deletionTimestamp" not in pod["metadata"] and (ended or (bool(ready) and all(ready)))

    def unsettled() -> set[str]:
        pods = json.loads(kubectl("get", "pods", "-o", "json"))["items"]
        return {pod["metadata"]["name"] for pod in pods if not settled(pod)}

    end = time.monotonic() + 180
    while left := unsettled():
        assert time.monotonic() < end, f"not settled within 180 s: {left}; {kubectl('get', 'pods', '-o', 'wide')}"
        time.sleep(0.2)


def all_told(told: Callable[[], set[str]], wanted: set[str], deadline_s: float) -> None:
    """Return once all that are wanted were told; fail, with those that were not, when they are not within `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while missing := wanted - told():
        assert time.monotonic() < end, f"of {wanted}, {missing} not told within {deadline_s} s"
        time.sleep(0.2)


def alerts(kubectl: Kubectl, *which: str) -> set[str]:
    """Names of the alerts that Alertmanager has heard of, and not of their end; `--inhibited`: those that it keeps to itself."""
    query = ("amtool", "--alertmanager.url=http://localhost:9093", "alert", "query", "--output=json", *which)
    return {alert["labels"]["alertname"] for alert in json.loads(kubectl("exec", "alertmanager-0", "--", *query))}
