"""The gateway's handling of failing instances, of a registry that is away for long, and of new routes, under load."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults import faulty_instance
from tests.support.load import Load
from tests.support.running import Kubectl, connect, create, eventually

FAULTY = "faulty-instance"
READERS, REQUESTS = 8, 5000
ROUTES = "gateway-routes"
CONSUL_AWAY_S = 120.0
Routes = dict[str, Any]
Change = Callable[[str], None]


def scale(kubectl: Kubectl, workload: str, replicas: int) -> None:
    kubectl("scale", workload, f"--replicas={replicas}")
    kubectl("rollout", "status", workload, "--timeout=120s")


@pytest.fixture
def faulty(kubectl: Kubectl, urls: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that starts an instance with a fault; it returns once Consul lists that instance and two others only.

    The third is in maintenance: if its registration were removed, it would register again at once.
    """
    spared = ""

    def passing(consul: httpx.Client) -> list[str]:
        found = consul.get("/v1/health/service/user-service", params={"passing": "1"}).json()
        return [entry["Service"]["ID"] for entry in found]

    def maintain(*, on: bool) -> None:
        with connect(urls["consul"]) as consul:
            path = f"/v1/agent/service/maintenance/{spared}"
            consul.put(path, params={"enable": on}).raise_for_status()

    def start(fault: str) -> None:
        nonlocal spared
        template = json.loads(kubectl("get", "deployment", "user-service", "-o", "json"))["spec"]["template"]
        (container,) = template["spec"]["containers"]
        for key in ("startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "ports"):
            container.pop(key, None)
        container["command"] = ["/app/.venv/bin/python", "-c", Path(faulty_instance.__file__).read_text()]
        container["env"].append({"name": "FAULT", "value": fault})
        template["spec"]["terminationGracePeriodSeconds"] = 1
        metadata = {"name": FAULTY, "labels": template["metadata"]["labels"]}
        manifest = tmp_path / "pod.json"
        manifest.write_text(
            json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
        )
        kubectl("apply", "-f", str(manifest))
        with connect(urls["consul"]) as consul:
            eventually(lambda: len(set(passing(consul)) - {FAULTY}) == 3, "three instances", 60)
            spared = min(set(passing(consul)) - {FAULTY})
            maintain(on=True)
            eventually(lambda: FAULTY in passing(consul) and len(passing(consul)) == 3, "one of three fails", 90)

    yield start
    if spared:
        maintain(on=False)
    kubectl("delete", "pod", FAULTY, "--ignore-not-found", "--wait")
    # As Consul's own check would, a minute later.
    kubectl("exec", "consul-0", "--", "consul", "services", "deregister", f"-id={FAULTY}")


def read(url: str, token: str, path: str) -> Counter[str]:
    """Return the outcomes of REQUESTS reads by READERS at once."""

    def some() -> Counter[str]:
        outcomes: Counter[str] = Counter()
        with connect(url, token) as client:
            client.timeout = httpx.Timeout(40)
            for _ in range(REQUESTS // READERS):
                try:
                    outcomes[str(client.get(path).status_code)] += 1
                except httpx.TransportError as error:
                    outcomes[type(error).__name__] += 1
        return outcomes

    with ThreadPoolExecutor(READERS) as threads:
        return sum((done.result() for done in [threads.submit(some) for _ in range(READERS)]), Counter[str]())


@pytest.fixture
def user(client: httpx.Client, new_user: dict[str, Any]) -> Iterator[str]:
    """Yield the path of a user."""
    path = f"/api/v1/users/{create(client, new_user)['id']}"
    yield path
    client.delete(path, headers={"If-Match": "*"})


@pytest.mark.parametrize("fault", list(faulty_instance.FAULTS))
def test_one_instance_of_three_that_fails_costs_no_answer(
    client: httpx.Client, urls: dict[str, str], token: str, user: str, faulty: Callable[[str], None], fault: str
) -> None:
    faulty(fault)
    outcomes: Counter[str] = Counter()

    def left_out() -> bool:
        outcomes.update(read(urls["gateway"], token, user))
        return ejections(client) > 0

    # It had its share of the requests, otherwise the outcomes would prove nothing. Each of two gateways detects failures for itself.
    eventually(left_out, "the instance that fails is left out", 120)
    assert outcomes["200"] >= 0.999 * outcomes.total(), outcomes


def ejections(client: httpx.Client) -> int:
    """Return how often one of the gateways has ejected the failing instance; it may have readmitted it since."""
    instances = client.get("/health/details").json()["upstreams"]["user-service"]["instances"]
    return sum(instance["ejections"] for instance in instances if instance["id"] == FAULTY)


@pytest.fixture
def load(client: httpx.Client) -> Iterator[Load]:
    load = Load(client)
    yield load
    load.tidy()


def test_consul_away_for_two_minutes_costs_nothing(load: Load, kubectl: Kubectl, urls: dict[str, str]) -> None:
    def passing() -> int:
        try:
            return len(consul.get("/v1/health/service/user-service", params={"passing": "1"}).json())
        except ValueError:
            return 0

    with load, connect(urls["consul"]) as consul:
        load.run(2)
        kubectl("scale", "statefulset/consul", "--replicas=0")
        try:
            load.run(CONSUL_AWAY_S)
        finally:
            scale(kubectl, "statefulset/consul", 1)
        eventually(lambda: passing() == 3, "three instances again", 90)
        load.run(2)
    assert load.failures() == {}
    assert load.lost() == []


@pytest.fixture
def reload(kubectl: Kubectl, tmp_path: Path) -> Iterator[Change]:
    """Yield a function that gives the gateways another routes file, and returns once every one has loaded it."""
    found = json.loads(kubectl("get", "configmap", ROUTES, "-o", "json", "--show-managed-fields"))
    before = found["data"]["routes.json"]
    metadata = {key: found["metadata"][key] for key in ("name", "namespace", "labels")}
    # With Pulumi's field manager, otherwise the next update would find a conflict over the field.
    (manager,) = {entry["manager"] for entry in found["metadata"]["managedFields"] if entry["operation"] == "Apply"}
    number = 0

    def change(text: str) -> None:
        nonlocal number
        number += 1
        wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"routes.json": text}}
        file = tmp_path / "routes.json"
        file.write_text(json.dumps(wanted))
        kubectl("apply", "--server-side", f"--field-manager={manager}", "--force-conflicts", "-f", str(file))
        names = kubectl("get", "pods", "--selector=app.kubernetes.io/name=api-gateway", "--output=name").split()
        for name in names:  # a changed pod gets its files again without waiting for the kubelet's sync period
            kubectl("annotate", name, f"estate/reload={number}", "--overwrite")
        show = "print(open('/etc/app/routes/routes.json').read(), end='')"
        for name in names:
            command = ("exec", name, "--", "/app/.venv/bin/python", "-c", show)
            eventually(lambda command=command: kubectl(*command) == text, f"{name} has the file", 150)

    yield change
    change(before)


def reloads(kubectl: Kubectl, result: str) -> list[int]:
    """Return how often each gateway has loaded, or refused, a routes file."""
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
    found: list[int] = []
    for name in kubectl("get", "pods", "--selector=app.kubernetes.io/name=api-gateway", "--output=name").split():
        lines = kubectl("exec", name, "--", "/app/.venv/bin/python", "-c", ask).splitlines()
        start = f'gateway_routes_reloads_total{{result="{result}"}} '
        found.append(sum(int(float(line.removeprefix(start))) for line in lines if line.startswith(start)))
    return found


def routes(kubectl: Kubectl) -> Routes:
    return json.loads(json.loads(kubectl("get", "configmap", ROUTES, "-o", "json"))["data"]["routes.json"])


def test_new_routes_cost_nothing_and_wrong_ones_are_refused(load: Load, kubectl: Kubectl, reload: Change) -> None:
    changed = routes(kubectl)
    for route in changed["routes"]:
        route["timeout_s"] = 29
    taken, refused = reloads(kubectl, "taken"), reloads(kubectl, "refused")
    with load:
        load.run(2)
        reload(json.dumps(changed))
        eventually(lambda: reloads(kubectl, "taken") == [n + 1 for n in taken], "the routes are taken over", 10)
        reload('{"routes": [{"prefix": "/api/v1/users", "servise": "user-service"}]}')
        eventually(lambda: reloads(kubectl, "refused") == [n + 1 for n in refused], "the routes are refused", 10)
        load.run(2)
    assert load.failures() == {}
    assert load.lost() == []


LIMIT, WINDOW_S, CLIENTS = 100, 20, 6
BEYOND = 30
"""Requests that may pass beyond the limit: those at the other replica before the counts are exchanged (limits.py), which are few."""


def test_a_limit_holds_for_all_replicas_together(
    kubectl: Kubectl, urls: dict[str, str], token: str, reload: Change
) -> None:
    limited = routes(kubectl)
    for route in limited["routes"]:
        if route["prefix"] == "/api/v2/users":
            route["rate_limit"] = {"requests": LIMIT, "per_s": WINDOW_S}
    taken = reloads(kubectl, "taken")
    reload(json.dumps(limited))
    eventually(lambda: reloads(kubectl, "taken") == [n + 1 for n in taken], "the routes are taken over", 10)
    refused: list[httpx.Response] = []

    def ask() -> None:
        with connect(urls["gateway"], token) as client:
            for _ in range(LIMIT // 2):
                answer = client.get("/api/v2/users?limit=1")
                if answer.status_code != 200:
                    refused.append(answer)

    with ThreadPoolExecutor(CLIENTS) as threads:
        for done in [threads.submit(ask) for _ in range(CLIENTS)]:
            done.result()
    number = CLIENTS * (LIMIT // 2) - len(refused)
    assert LIMIT - 1 <= number <= LIMIT + BEYOND
    assert {answer.status_code for answer in refused} == {429}
    assert all(1 <= int(answer.headers["retry-after"]) <= 2 * WINDOW_S for answer in refused)
    assert all("r=0" in answer.headers["ratelimit"] for answer in refused)
