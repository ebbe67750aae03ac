"""A highly available Postgres, in a namespace of its own, loses its primary while it is written to."""

import asyncio
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import pulumi
import pulumi_kubernetes as kubernetes
import pytest
from pulumi import automation

from infra.namespace import EstateNamespace
from infra.postgres import DATABASE, PORT, USER
from infra.postgres_cluster import AUTHORITY, PRIMARY, ApiServer, PostgresCluster
from tests.running import eventually
from toolchain.build import toolbox
from toolchain.cluster import layout
from toolchain.standins import publish_missing
from toolchain.target import Target, target

NAMESPACE = "cnpg-try"
IMAGE = "ghcr.io/cloudnative-pg/postgresql:15"
PASSWORD = "of-a-test"
INSTANCES = 3
AGAIN_S = 30.0
"""Within this a write is acknowledged again."""

Kubectl = Callable[..., str]


def program(at: Target) -> Callable[[], None]:
    """The cluster alone, as the estate would make it."""

    def run() -> None:
        provider = kubernetes.Provider(
            "cluster", kubeconfig=str(at.kubeconfig), context=at.context, enable_secret_mutable=True
        )
        namespace = EstateNamespace(NAMESPACE, pulumi.ResourceOptions(providers=[provider]))
        password = pulumi.Output.secret(PASSWORD)
        PostgresCluster(IMAGE, INSTANCES, "1Gi", password, ApiServer([f"{layout.NODE}/32"]), namespace, cpu="10m")

    return run


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl in the namespace of a cluster that is up."""
    at, box = target(), toolbox()
    publish_missing(box, [IMAGE])
    work = tmp_path_factory.mktemp("pulumi")
    environment = at.environment | {"PULUMI_BACKEND_URL": f"file://{work}", "PULUMI_CONFIG_PASSPHRASE": PASSWORD}
    stack = automation.create_stack(
        "chaos",
        project_name="postgres-cluster",
        program=program(at),
        opts=automation.LocalWorkspaceOptions(
            work_dir=str(work), env_vars=environment, pulumi_command=automation.PulumiCommand(str(box.folder))
        ),
    )

    def run(*words: str) -> str:
        command = ["kubectl", f"--kubeconfig={at.kubeconfig}", f"--context={at.context}", f"--namespace={NAMESPACE}"]
        done = subprocess.run([*command, *words], env=at.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        stack.up()
        yield run
    finally:
        stack.destroy()


def primary(kubectl: Kubectl) -> str:
    """The instance that the operator has as the primary."""
    return kubectl("get", "cluster", "postgres", "--output=jsonpath={.status.currentPrimary}")


def whole(kubectl: Kubectl) -> bool:
    """Whether every instance is ready, and all agree on the primary."""
    status = "{.status.readyInstances} {.status.phase}"
    return (
        kubectl("get", "cluster", "postgres", f"--output=jsonpath={status}") == f"{INSTANCES} Cluster in healthy state"
    )


@pytest.fixture
def server(kubectl: Kubectl) -> dict[str, Any]:
    """How to connect to the primary from the machine: by its Service's address, which its certificate does not have."""
    authority = kubectl("get", "secret", AUTHORITY, "--output=go-template={{index .data `ca.crt` | base64decode}}")
    trust = ssl.create_default_context(cadata=authority)
    trust.check_hostname = False
    address = kubectl("get", "service", PRIMARY, "--output=jsonpath={.spec.clusterIP}")
    login = {"database": DATABASE, "user": USER, "password": PASSWORD}
    return login | {"host": address, "port": PORT, "ssl": trust, "timeout": 2, "command_timeout": 3}


def query(server: dict[str, Any], *statements: str) -> list[Any]:
    """Rows of the last of some statements."""

    async def run() -> list[Any]:
        connection = await connect(server)
        try:
            return [await connection.fetch(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(run())


async def connect(server: dict[str, Any]) -> Any:
    """A connection; asyncpg has no types."""
    return await asyncpg.connect(**server)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@dataclass
class Writers:
    """Insert one row after another, several at once.

    Args:
        server: how to connect.
        count: how many of them.
    """

    server: dict[str, Any]
    count: int = 4
    acknowledged: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """When each row's commit was acknowledged, by the monotonic clock, and the row."""

    def __enter__(self) -> Self:
        """Make the table anew, and start."""
        query(self.server, "DROP TABLE IF EXISTS written", "CREATE TABLE written (id bigserial PRIMARY KEY)")
        self._end = threading.Event()
        self._threads = ThreadPoolExecutor(self.count)
        self._running = [self._threads.submit(asyncio.run, self._write()) for _ in range(self.count)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop, and raise what a thread raised."""
        self._end.set()
        self._threads.shutdown()
        for thread in self._running:
            thread.result()

    async def _write(self) -> None:
        while not self._end.is_set():
            connection = None
            try:
                connection = await connect(self.server)
                while not self._end.is_set():
                    row: int = await connection.fetchval("INSERT INTO written DEFAULT VALUES RETURNING id")
                    self.acknowledged.append((time.monotonic(), row))
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.1)
            finally:
                if connection:
                    connection.terminate()

    def wrote(self, *, since: float) -> bool:
        """Whether a row has been acknowledged since a moment."""
        return bool(self.acknowledged) and self.acknowledged[-1][0] >= since

    def gap_s(self) -> float:
        """The longest time without a row acknowledged."""
        return max(later - earlier for (earlier, _), (later, _) in pairwise(sorted(self.acknowledged)))

    def lost(self) -> set[int]:
        """Rows that were acknowledged and are not there."""
        there = {row["id"] for row in query(self.server, "SELECT id FROM written")}
        return {row for _, row in self.acknowledged} - there


def delete_pod(kubectl: Kubectl, instance: str) -> None:
    """Take the pod away without a word of warning, as when its node is lost; a replica is promoted."""
    kubectl("delete", "pod", instance, "--grace-period=0", "--force")


def kill_processes(kubectl: Kubectl, instance: str) -> None:
    """Kill every process of the pod from its node, as when memory runs out; its container starts again."""
    uid = kubectl("get", "pod", instance, "--output=jsonpath={.metadata.uid}")
    own = [process for process in processes() if f"pod{uid}" in process.control_group and process.name != "catatonit"]
    assert {"manager", "postgres"} <= {process.name for process in own}
    subprocess.run(["kill", "-KILL", *(str(process.pid) for process in own)], check=False)


@dataclass(frozen=True)
class Process:
    """A process of the machine."""

    pid: int
    name: str
    control_group: str


def processes() -> Iterator[Process]:
    """Every process of the machine."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            yield Process(int(folder.name), (folder / "comm").read_text().strip(), (folder / "cgroup").read_text())


def started(server: dict[str, Any]) -> Any:
    """When the server that is the primary now was started; none while there is none."""
    with suppress(OSError, asyncpg.PostgresError):
        return query(server, "SELECT pg_postmaster_start_time() AS at")[0]["at"]
    return None


# asyncpg leaves it to the collector to close the socket of a connection that did not come about in time.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kill", [delete_pod, kill_processes])
def test_a_primary_that_dies_takes_no_acknowledged_write_with_it_and_writes_go_on(
    kubectl: Kubectl, server: dict[str, Any], kill: Callable[[Kubectl, str], None]
) -> None:
    eventually(lambda: whole(kubectl), "a whole cluster", 180)
    before = started(server)
    with Writers(server) as writers:
        eventually(lambda: writers.wrote(since=time.monotonic() - 1), "writes before", 30)
        kill(kubectl, primary(kubectl))
        killed = time.monotonic()
        eventually(lambda: started(server) not in (None, before), "another server", AGAIN_S)
        served = time.monotonic()
        eventually(lambda: writers.wrote(since=served), "writes again", AGAIN_S)
        eventually(lambda: whole(kubectl), "a whole cluster again", 180)
        mended = time.monotonic()
    lost = writers.lost()
    print(
        f"{kill.__name__}: no write for {writers.gap_s():.1f} s, whole again after {mended - killed:.1f} s, "
        f"{len(writers.acknowledged)} rows acknowledged, {len(lost)} lost"
    )
    assert lost == set()
    assert writers.gap_s() < AGAIN_S
