"""How fast api-gateway forwards, beside nginx and other gateways on the same core: `make bench-gateway`.

All are pinned to one CPU and run in turn; what they forward to, and the client, have the other one. Rounds are interleaved, so that
a noisy minute hits all alike; a ratio is the median of the rounds' ratios.
"""

import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import jwt
from jwt.utils import base64url_encode

from bench.__main__ import BINARIES, CLIENT_CPU, SERVER_CPU
from toolchain.console import say, step, wait_until
from toolchain.paths import PROJECT

ROUNDS, ROUND_S, CONNECTIONS = 7, 3, 32
UPSTREAM_PORT, CONSUL_PORT = 9300, 9310
GATEWAY, PLAIN, NGINX = (
    "api-gateway, every feature on",
    "api-gateway, no token asked for",
    "nginx proxy_pass, keep-alive",
)
PATH = "/api/v1/users/1"
BODY = '{"id":1,"name":"Ada Lovelace","email":"ada@example.com","age":36}'


@dataclass(frozen=True)
class Peer:
    """One of those that are compared."""

    name: str
    port: int
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Round:
    """Answers a second, CPU time of each in microseconds, and the 99th percentile of the latencies in milliseconds."""

    rps: float
    cpu_us: float
    p99_ms: float


def nginx(folder: Path, name: str, server: str) -> list[str]:
    """The command of an nginx with one server."""
    file = folder / f"{name}.conf"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"worker_processes 1; daemon off; master_process off; error_log stderr; pid {folder}/{name}.pid;\n"
        f"events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; {temporary} keepalive_requests 100000000;\n{server} }}\n"
    )
    return [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", str(file)]


def answering(folder: Path) -> list[str]:
    """What is forwarded to: it answers as user-service would, and as Consul would when asked where user-service is."""
    entry = json.dumps(
        [
            {
                "Node": {"Address": "127.0.0.1"},
                "Service": {"ID": "a", "Address": "127.0.0.1", "Port": UPSTREAM_PORT},
                "Checks": [],
            }
        ]
    )
    return nginx(
        folder,
        "upstream",
        f"server {{ listen 127.0.0.1:{UPSTREAM_PORT}; default_type application/json;"
        f" location / {{ return 200 '{BODY}'; }} }}\n"
        f"server {{ listen 127.0.0.1:{CONSUL_PORT}; default_type application/json; add_header X-Consul-Index 1;"
        f" location / {{ return 200 '{{}}'; }} location /v1/health/ {{ return 200 '{entry}'; }} }}",
    )


def peers(folder: Path, keys: Path) -> list[Peer]:
    """All of them; the gateway first."""
    upstream = f"http://127.0.0.1:{UPSTREAM_PORT}"
    to = (
        f"upstream u {{ server 127.0.0.1:{UPSTREAM_PORT}; keepalive 64; keepalive_requests 100000000; }}\n"
        f"server {{ listen 127.0.0.1:9403; location / {{ proxy_pass http://u; proxy_http_version 1.1;"
        f' proxy_set_header Connection ""; }} }}'
    )
    ours = [sys.executable, "-m", "api_gateway"]
    go = [str(BINARIES / "gateway")]
    return [
        Peer(GATEWAY, 9401, ours, gateway(folder, keys, 9401, "required")),
        Peer(PLAIN, 9402, ours, gateway(folder, keys, 9402, "none")),
        Peer(NGINX, 9403, nginx(folder, "proxy", to)),
        Peer("Go ReverseProxy of a tutorial", 9404, go, {"LISTEN": "127.0.0.1:9404", "UPSTREAM": upstream}),
        Peer(
            "Go ReverseProxy, tuned",
            9405,
            go,
            {"LISTEN": "127.0.0.1:9405", "UPSTREAM": upstream, "TUNED": "1", "GOMAXPROCS": "1"},
        ),
        Peer(
            "FastAPI + httpx",
            9406,
            [sys.executable, "-m", "bench.naive_gateway"],
            {"PORT": "9406", "UPSTREAM": upstream},
        ),
    ]


def gateway(folder: Path, keys: Path, port: int, auth: str) -> dict[str, str]:
    """Environment of the gateway."""
    routes = folder / f"routes-{auth}.json"
    routes.write_text(json.dumps({"routes": [{"prefix": "/api/v1/users", "service": "user-service", "auth": auth}]}))
    return {
        "APP_SERVER_HOST": "127.0.0.1",
        "APP_SERVER_PORT": str(port),
        "APP_ROUTES_FILE": str(routes),
        "APP_AUTH_KEYS_FILE": str(keys),
        "APP_SERVICE_REGISTRY_ADDRESS": f"127.0.0.1:{CONSUL_PORT}",
    }


@contextmanager
def running(command: list[str], cpu: str, environment: dict[str, str]) -> Generator[int]:
    """Run a command on a CPU; its process id."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["taskset", "-c", cpu, *command],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=PROJECT,
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cpu_s(pid: int) -> float:
    """CPU time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answers(port: int, token: str) -> bool:
    """Whether the answer is the upstream's."""
    try:
        found = httpx.get(f"http://127.0.0.1:{port}{PATH}", headers={"Authorization": f"Bearer {token}"}, timeout=1)
    except httpx.TransportError:
        return False
    return found.text == BODY


def ask(peer: Peer, pid: int, token: str) -> Round:
    """One round."""
    before = cpu_s(pid)
    words = ["taskset", "-c", CLIENT_CPU, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_S}s", "--latency"]
    words += ["-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:{peer.port}{PATH}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in done:
        raise RuntimeError(f"{peer.name} answered with another status than 200:\n{done}")
    found = re.search(r"(\d+) requests in.*Requests/sec:\s*([\d.]+)", done, re.DOTALL)
    latency = re.search(r"99%\s*([\d.]+)(us|ms|s)", done)
    if not found or not latency:
        raise RuntimeError(f"wrk said something else than it does:\n{done}")
    number, rps = int(found[1]), float(found[2])
    return Round(
        rps, (cpu_s(pid) - before) / number * 1e6, float(latency[1]) * {"us": 0.001, "ms": 1, "s": 1000}[latency[2]]
    )


def table(measured: dict[str, list[Round]]) -> str:
    """All figures, in Markdown."""
    lines = ["| gateway | requests/s | p99 | CPU per request | api-gateway to it |", "|---|---|---|---|---|"]
    for name, rounds in measured.items():
        rps, p99, cpu = (statistics.median(getattr(r, key) for r in rounds) for key in ("rps", "p99_ms", "cpu_us"))
        ratio = statistics.median(o.rps / r.rps for o, r in zip(measured[GATEWAY], rounds, strict=True))
        lines.append(f"| {name} | {rps:.0f} | {p99:.1f} ms | {cpu:.0f} µs | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    for tool in ("nginx", "wrk", "go", "taskset"):
        if not shutil.which(tool):
            sys.exit(f"error: {tool} is needed for this: install it (Debian: nginx-light, wrk, golang, util-linux)")
    with step("Go peers"):
        BINARIES.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-o", f"{BINARIES}/", "./gateway"], cwd=PROJECT / "bench" / "peers", check=True)
    key, now = secrets.token_bytes(32), int(time.time())
    claims = {"iss": "estate", "aud": "estate", "sub": "bench", "iat": now, "exp": now + 3600}
    token = jwt.encode(claims, key, "HS256", {"kid": "1"})  # pyright: ignore[reportUnknownMemberType]
    measured: dict[str, list[Round]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = folder / "keys.json"
        jwk = {"kty": "oct", "alg": "HS256", "kid": "1", "k": base64url_encode(key).decode()}
        keys.write_text(json.dumps({"keys": [jwk]}))
        stack.enter_context(running(answering(folder), CLIENT_CPU, {}))
        compared = [
            (peer, stack.enter_context(running(peer.command, SERVER_CPU, peer.environment)))
            for peer in peers(folder, keys)
        ]
        with step("all answer"):
            for peer, _ in compared:
                wait_until(lambda port=peer.port: answers(port, token), f"{peer.name} answers", 30)
        for number in range(ROUNDS):
            say(f"  round {number + 1} of {ROUNDS}")
            for peer, pid in compared:
                measured.setdefault(peer.name, []).append(ask(peer, pid, token))
    print(table(measured))


if __name__ == "__main__":
    main()
