"""Access to the running estate as a user has it: through the Ingress, by its public name, trusting its CA."""

import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx

from estate.cluster import layout
from estate.stack.model import Stack

STACK = os.environ.get("ESTATE_STACK", "local")
"""Name of the stack, as `make test STACK=…` sets it."""
Kubectl = Callable[..., str]
Items = Callable[..., list[dict[str, Any]]]


class ToIngress(httpx.HTTPTransport):
    """A transport that resolves every host to the Ingress on this machine, as `curl --resolve` does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


def connect(url: str, token: str | None = None, address: str | None = None) -> httpx.Client:
    """Return a client of a public URL of the estate.

    Args:
        url: the URL of the estate.
        token: the token sent with every request.
        address: the client's address on this machine, such as one of 127.0.0.0/8.
    """
    trust = ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(
        base_url=url, transport=ToIngress(verify=trust, local_address=address), timeout=10, headers=headers
    )


def kubectl_of(stack: Stack) -> Kubectl:
    """Return a function that runs kubectl in a stack's namespace and returns its output."""

    def run(*words: str) -> str:
        done = subprocess.run(
            stack.kubectl(*words), env=stack.target.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def create(client: httpx.Client, user: dict[str, Any]) -> dict[str, Any]:
    """Create a user, and return it as the API has stored it."""
    created = client.post("/api/v1/users", json=user)
    assert created.status_code == 201, created.text
    return created.json()


def version_in(answer: httpx.Response) -> int:
    """Return the version of the user in an answer, which its ETag begins with."""
    return int(answer.headers["etag"].strip('"').partition("-")[0])


def reads_back(client: httpx.Client, user: dict[str, Any]) -> bool:
    """Return whether the API returns a user as it was stored."""
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
    """Return once every pod is ready or complete, and none is terminating; fail with the names of the others.

    Afterwards, everything that an earlier test broke is repaired.
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


def all_reported(reported: Callable[[], set[str]], wanted: set[str], deadline_s: float) -> None:
    """Return once all wanted alerts were reported; fail with the missing ones after `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while missing := wanted - reported():
        assert time.monotonic() < end, f"of {wanted}, {missing} not reported within {deadline_s} s"
        time.sleep(0.2)


def alerts(kubectl: Kubectl, *which: str) -> set[str]:
    """Return the names of the alerts that are active in Alertmanager; with `--inhibited`, of the inhibited ones."""
    query = ("amtool", "--alertmanager.url=http://localhost:9093", "alert", "query", "--output=json", *which)
    return {alert["labels"]["alertname"] for alert in json.loads(kubectl("exec", "alertmanager-0", "--", *query))}
