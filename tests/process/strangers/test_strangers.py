"""Isolation of clients: whatever one does to a gateway, another one is served quickly, and nothing is left behind.

A process of the gateway as it runs, one that acts as its Consul and its service, and one that attacks it from an address of its own.
"""

import asyncio
import base64
import json
import os
import re
import resource
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import jwt
import pytest
from servicekit.http1 import UNSENT_BYTES

from estate.core.paths import PROJECT
from infra.key_sets import key_set, kid
from infra.settings.auth import ClientSettings
from infra.token_clients import hashed, rendered
from tests.process.strangers.attacks import ATTACKS, CONNECTIONS

ADDRESS = "127.0.0.3"
ALONE_S, TOGETHER_S = 4, 30
LATENCY_S = 0.25
"""Bound of a well-behaved client's 99th percentile, in seconds."""
DESCRIPTORS = 1024
"""Soft limit of open files of a process under systemd, and so of containers."""
PERIOD_S = 0.02
MEMORY_MIB = 256
"""Memory limit of the pod in MiB (infra/stages.py)."""
GET = "GET /s/1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n"
POST = "POST /s/1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Length: 4\r\n\r\nbody"
ZERO = re.compile(
    r"^(?:active_requests|gateway_in_flight\{.*\}|gateway_websockets|gateway_upstream_in_flight\{.*\}) (\S+)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    pid: int
    stub_pid: int
    port: int
    key: str

    def token(self, subject: str) -> str:
        """Return a client's token."""
        now = int(time.time())
        claims = {"iss": "estate", "aud": "estate", "sub": subject, "iat": now, "exp": now + 3600}
        secret = base64.urlsafe_b64decode(self.key + "=" * (-len(self.key) % 4))
        return jwt.encode(claims, secret, "HS256", {"kid": kid(self.key)})  # pyright: ignore[reportUnknownMemberType]

    def memory_mib(self, what: str = "VmRSS") -> float:
        """Return the memory of the process; VmHWM: its peak."""
        found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) / 1024

    def unsent_bytes(self) -> int:
        """Return the bytes that the kernel keeps for the peers of the process: sent to none of them, or not acknowledged yet."""
        links = [str(link.readlink()) for link in Path(f"/proc/{self.pid}/fd").iterdir()]
        rows = [line.split() for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]]
        return sum(int(row[4].split(":")[0], 16) for row in rows if f"socket:[{row[9]}]" in links)

    def in_flight(self) -> float:
        """Return the requests in flight, from the gauges."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=10).text
        values = [float(value) for value in ZERO.findall(text)]
        assert len(values) >= 4
        return sum(values) - 1  # this request is an active one


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    key = secrets.token_urlsafe(32)
    cors = {"allow_origins": ["https://app.example"]}
    routes = [{"prefix": "/s", "service": "s", "cors": cors}, {"prefix": "/open", "service": "s", "auth": "none"}]
    client = ClientSettings(id="c", secret_hash=hashed(secrets.token_hex(), "c"), user_id=1, username="c")
    (folder / "routes.json").write_text(json.dumps({"routes": routes}))
    (folder / "keys.json").write_text(key_set([key]))
    (folder / "clients.json").write_text(rendered("the operator's", [client]))
    with ExitStack() as stack:
        stub = stack.enter_context(process("tests.process.strangers.stub", os.environ, PROJECT, stdout=subprocess.PIPE))
        assert stub.stdout
        registry, port = int(stub.stdout.readline()), free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "APP_SERVER_HOST": "127.0.0.1",
            "APP_SERVER_PORT": str(port),
            "APP_SERVICE_REGISTRY_ADDRESS": f"127.0.0.1:{registry}",
            "APP_ROUTES_FILE": str(folder / "routes.json"),
            "APP_AUTH_KEYS_FILE": str(folder / "keys.json"),
            "APP_CLIENTS_FILE": str(folder / "clients.json"),
        }
        with descriptors(DESCRIPTORS):
            running = stack.enter_context(process("api_gateway", environment, folder, stdout=subprocess.DEVNULL))
        gateway = Gateway(running.pid, stub.pid, port, key)
        eventually(lambda: served(gateway), "the gateway serves")
        yield gateway


@contextmanager
def process(module: str, environment: Mapping[str, str], folder: Path, stdout: int) -> Generator[subprocess.Popen[str]]:
    """Run a module in a process of its own for the time of the context."""
    with subprocess.Popen([sys.executable, "-m", module], env=environment, cwd=folder, stdout=stdout, text=True) as one:
        try:
            yield one
        finally:
            one.kill()


@contextmanager
def descriptors(number: int) -> Generator[None]:
    """Set the soft limit of open files of the processes started in the context."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def served(gateway: Gateway) -> bool:
    headers = {"Authorization": f"Bearer {gateway.token('first')}"}
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{gateway.port}/s/1", headers=headers).status_code == 200
    return False


def eventually(condition: Callable[[], bool], what: str, deadline_s: float = 60) -> None:
    """Return once a condition holds."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s} s"
        time.sleep(0.1)


@dataclass
class Client:
    """A well-behaved client: it sends requests again and again, and reconnects after some."""

    gateway: Gateway
    answers: Counter[str] = field(default_factory=Counter[str])
    latencies_s: list[float] = field(default_factory=list[float])
    """Latencies in seconds, without the time in which the kernel gave the CPU to processes other than the test's."""

    async def run(self, ended: asyncio.Event) -> None:
        """Send requests until the event is set."""
        token = self.gateway.token("other")
        while not ended.is_set():
            since = self._clock_s()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port, local_addr=(ADDRESS, 0))
            for request in (GET, GET, POST, GET, GET):
                self.answers[await ask(reader, writer, request.format(token=token).encode())] += 1
                self._record(self._clock_s() - since)
                await asyncio.sleep(PERIOD_S)
                since = self._clock_s()
            writer.close()

    def _clock_s(self) -> float:
        """Return the time, less the time that the test's processes have waited for a CPU: it stands still while the machine is busy."""
        waited_ns = sum(
            int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
            for pid in (os.getpid(), self.gateway.pid, self.gateway.stub_pid)
        )
        return time.perf_counter() - waited_ns / 1e9

    def _record(self, latency_s: float) -> None:
        """Record a latency, and those of the requests that were due meanwhile (as HdrHistogram does, by the expected interval)."""
        self.latencies_s.append(latency_s)
        while (latency_s := latency_s - PERIOD_S) > 0:
            self.latencies_s.append(latency_s)

    def percentile_s(self, share: float) -> float:
        """Return the latency that a share of the requests did not exceed."""
        return sorted(self.latencies_s)[int(share * (len(self.latencies_s) - 1))]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    """Return the status of the answer to a request, or the name of its failure."""
    try:
        async with asyncio.timeout(30):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        return type(error).__name__
    return head.split()[1].decode()


async def attacked(gateway: Gateway, seconds: float, *kinds: str) -> tuple[Client, dict[str, dict[str, int]]]:
    """Attack in these ways at once; return the other client, and the attackers' outcomes."""
    client, ended = Client(gateway), asyncio.Event()
    asking = asyncio.create_task(client.run(ended))
    words = ("-m", "tests.process.strangers.attacks", str(gateway.port), gateway.token("greedy"), str(seconds), *kinds)
    attackers = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=PROJECT, stdout=asyncio.subprocess.PIPE
    )
    outcomes, _ = await attackers.communicate()
    ended.set()
    await asking
    return client, json.loads(outcomes)


def report(
    capsys: pytest.CaptureFixture[str], client: Client, outcomes: dict[str, dict[str, int]], memory_mib: float
) -> None:
    """Print the results."""
    with capsys.disabled():
        for kind, counts in outcomes.items():
            print(f"\n  {kind}: {', '.join(f'{outcome} {n}x' for outcome, n in sorted(counts.items()))}", end="")
        p50, p99, most = (client.percentile_s(share) * 1000 for share in (0.5, 0.99, 1))
        print(
            f"\n    other client: {dict(client.answers)}, p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {most:.0f} ms;",
            end="",
        )
        print(f" gateway {memory_mib:.0f} MiB")


@pytest.mark.parametrize("kinds", [*((kind,) for kind in ATTACKS), tuple(ATTACKS)], ids=[*ATTACKS, "all at once"])
async def test_others_are_served_during(
    gateway: Gateway, kinds: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    client, outcomes = await attacked(gateway, ALONE_S if len(kinds) == 1 else TOGETHER_S, *kinds)
    report(capsys, client, outcomes, gateway.memory_mib())
    for kind in kinds:
        assert outcomes[kind][CONNECTIONS] >= ATTACKS[kind].connections
    assert client.answers.keys() == {"200"}
    if len(kinds) == 1:  # all at once take as much time as there is; there it only matters that none fails
        assert client.percentile_s(0.99) < LATENCY_S
    eventually(lambda: gateway.in_flight() == 0, "nothing is in flight")
    assert gateway.memory_mib("VmHWM") < MEMORY_MIB


@pytest.mark.parametrize(
    ("request_head", "echoed_pieces"),
    [
        pytest.param("GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: h\r\n\r\n", 0, id="own answer"),
        pytest.param(GET.replace("/s/1", "/s/endless"), 0, id="service's answer"),
        pytest.param(
            GET.replace("Host: h", "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket"), 1000, id="WebSocket"
        ),
    ],
)
async def test_the_kernel_keeps_little_for_a_client_that_does_not_read(
    gateway: Gateway, request_head: str, echoed_pieces: int
) -> None:
    eventually(lambda: gateway.unsent_bytes() == 0, "no other client has bytes to read")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.bind((ADDRESS, 0))
        client.connect(("127.0.0.1", gateway.port))
        client.sendall(request_head.format(token=gateway.token("unread")).encode())
        client.settimeout(1)
        with suppress(TimeoutError):
            for _ in range(echoed_pieces):
                client.sendall(b"x" * 65536)
        await asyncio.sleep(1)
        assert 0 < gateway.unsent_bytes() < 4 * UNSENT_BYTES
    eventually(lambda: gateway.in_flight() == 0, "nothing is in flight")
