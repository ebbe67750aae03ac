"""Measure, and print tables for docs/benchmarks.md.

All gateways are pinned to one CPU and run in turn; their upstreams and the client have the other one. Rounds are interleaved, so that
a noisy minute affects all equally; a ratio or a difference is the median over the rounds.
"""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import jwt
from jwt.utils import base64url_encode

from bench.__main__ import BINARIES, CLIENT_CPU, SERVER_CPU
from bench.gateway import latency, streaming, throughput
from bench.gateway.peers import BODY, GATEWAY, NGINX, PATH, REDIS_PORT, SINK_PORT, UPSTREAM_PORT, Peer, answering, peers
from bench.gateway.processes import running
from estate.core.console import EstateError, run_command, say, step, wait_until
from estate.core.paths import PROJECT

NEEDED = {
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "redis-server": "redis-server",
    "wrk": "wrk",
    "curl": "curl",
    "go": "golang",
    "taskset": "util-linux",
}
"""Required programs, and the Debian packages that contain them."""
GO = {".": ("./gateway", "./sink", "github.com/tsenart/vegeta/v12"), "fabio": ("github.com/fabiolb/fabio",)}
"""Go packages to build, by their module under bench/peers."""


def check_requirements() -> None:
    """Check that every required program is installed.

    Raises:
        EstateError: programs are missing; names them all.
    """
    if missing := [tool for tool in NEEDED if not shutil.which(tool)]:
        packages = " ".join(NEEDED[tool] for tool in missing)
        raise EstateError(f"{', '.join(missing)} needed for this: install them (Debian: apt-get install {packages})")


def build() -> None:
    """Build the Go peers and the client."""
    BINARIES.mkdir(parents=True, exist_ok=True)
    for module, packages in GO.items():
        command = ["go", "build", "-mod=readonly", "-o", f"{BINARIES}/", *packages]
        environment = os.environ | {"CGO_ENABLED": "0"}
        subprocess.run(command, cwd=PROJECT / "bench" / "peers" / module, env=environment, check=True)


def signed(keys: Path) -> str:
    """Return a signed token, and write its key to a file."""
    key, now = secrets.token_bytes(32), int(time.time())
    claims = {"iss": "estate", "aud": "estate", "sub": "bench", "iat": now, "exp": now + 3600}
    jwk = {"kty": "oct", "alg": "HS256", "kid": "1", "k": base64url_encode(key).decode()}
    keys.write_text(json.dumps({"keys": [jwk]}))
    return jwt.encode(claims, key, "HS256", {"kid": "1"})  # pyright: ignore[reportUnknownMemberType]


def answers(port: int, token: str) -> bool:
    """Return whether a request is answered with the upstream's response."""
    try:
        found = httpx.get(f"http://127.0.0.1:{port}{PATH}", headers={"Authorization": f"Bearer {token}"}, timeout=1)
    except httpx.TransportError:
        return False
    return found.text == BODY


def started(stack: ExitStack, folder: Path, peers: Sequence[Peer], token: str) -> dict[Peer, int]:
    """Start the peers and their upstreams; return the process ids of the peers once all of them answer."""
    stack.enter_context(running(answering(folder), CLIENT_CPU, {}))
    stack.enter_context(running([str(BINARIES / "sink")], CLIENT_CPU, {"LISTEN": f"127.0.0.1:{SINK_PORT}"}))
    redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(REDIS_PORT), "--save", ""]
    stack.enter_context(running(redis, CLIENT_CPU, {}))
    pids = {peer: stack.enter_context(running(peer.command, SERVER_CPU, peer.environment)) for peer in peers}
    with step("all answer"):
        for peer in pids:
            wait_until(lambda port=peer.port: answers(port, token), f"{peer.name} answers", 120)
    return pids


def main() -> None:
    """Measure, and print the tables."""
    check_requirements()
    with step("Go peers and client"):
        build()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = folder / "keys.json"
        token = signed(keys)
        compared = started(stack, folder, peers(folder, keys), token)
        two = {peer: pid for peer, pid in compared.items() if peer.name in (GATEWAY, NGINX)}
        ports = {latency.DIRECT: UPSTREAM_PORT} | {peer.name: peer.port for peer in two}
        tables = [
            throughput.measure(compared, token),
            latency.measure(ports, token),
            streaming.measure(two, folder / "large", token),
        ]
    say("\n" + "\n\n".join(tables))


if __name__ == "__main__":
    run_command(main)
