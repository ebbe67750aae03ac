"""Benchmark of user-service against the same endpoints written the usual way in Python and in Go: `make bench`.

Every server has one CPU to itself; the client and the running estate's Postgres and Redis have the rest. Rounds are interleaved, so
that a noisy minute affects every server equally; the figures are medians over the rounds.
"""

import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jwt
from jwt.utils import base64url_encode

from estate.core.console import run_command, say, step, wait_until
from estate.core.paths import CACHE, PROJECT
from estate.stack.model import Stack, load, secret
from estate.stack.target import target
from tests.support.running import STACK

DATABASE = "bench"
USERS = 1000
CONNECTIONS = 32
ROUND_S = 3
ROUNDS = 7
SERVER_CPU, CLIENT_CPU = "0", "1"
ENDPOINTS = {"GET by id": "/api/v1/users/500", "list of 100": "/api/v1/users?limit=100"}
OURS, ORM, GO = "user-service, from Postgres", "FastAPI + SQLAlchemy ORM", "Go net/http + pgx"
OURS_CACHED = "user-service, hot in Redis"
BINARIES = CACHE / "bench"


@dataclass(frozen=True)
class Server:
    """A server under comparison.

    Args:
        name: the name in the table.
        port: the port on 127.0.0.1.
        command: the command that starts it.
        environment: the environment variables that it needs.
    """

    name: str
    port: int
    command: tuple[str, ...]
    environment: dict[str, str]


@dataclass(frozen=True)
class Round:
    """Result of one round: responses per second, and the 99th percentile of their latencies in milliseconds."""

    rps: float
    p99_ms: float


@dataclass(frozen=True)
class Backends:
    """Addresses and passwords of the estate's Postgres and Redis."""

    postgres: str
    postgres_password: str
    redis: str
    redis_password: str

    def url(self, scheme: str, database: str) -> str:
        """Return the URL of a database."""
        return f"{scheme}://postgres:{self.postgres_password}@{self.postgres}:5432/{database}"


def backends() -> Backends:
    """Return the backends of the running estate, addressed by the IPs of their pods."""
    stack = Stack(STACK, load(STACK), target())

    def address(app: str) -> str:
        words = stack.kubectl("get", "pod", f"-lapp.kubernetes.io/name={app}", "-ojsonpath={.items[0].status.podIP}")
        return subprocess.run(words, env=stack.target.environment, capture_output=True, text=True, check=True).stdout

    return Backends(
        address("postgres"), secret(stack, "postgresPassword"), address("redis"), secret(stack, "redisPassword")
    )


def prepare(of: Backends, environment: dict[str, str]) -> None:
    """Create a separate database with user-service's schema and USERS users."""
    drop(of)
    run(of, "myapp", f"CREATE DATABASE {DATABASE}")
    subprocess.run([sys.executable, "-m", "user_service.migrate"], env=os.environ | environment, check=True)
    fill = f"""
        INSERT INTO users (name, email, age)
        SELECT 'User ' || n, 'user-' || n || '@example.com', n % 100 FROM generate_series(1, {USERS}) AS n
    """
    run(of, DATABASE, fill, "ANALYZE users")


def drop(of: Backends) -> None:
    """Drop the database, and any connections to it."""
    run(of, "myapp", f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def run(of: Backends, database: str, *statements: str) -> None:
    """Run statements, each in its own transaction."""

    async def all_of_them() -> None:
        connection = await connect(of.url("postgresql", database))
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(all_of_them())


async def connect(url: str) -> Any:
    """Open a connection (Any: asyncpg has no types)."""
    return await asyncpg.connect(url)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def ours(of: Backends, keys: Path) -> dict[str, str]:
    """Return the environment of user-service without a cache."""
    return {
        "APP_DATABASE_HOST": of.postgres,
        "APP_DATABASE_USERNAME": "postgres",
        "APP_DATABASE_PASSWORD": of.postgres_password,
        "APP_DATABASE_NAME": DATABASE,
        "APP_SERVICE_REGISTRY_ADDRESS": "127.0.0.1:1",  # no registry there: the server is not to be discovered
        "APP_AUTH_KEYS_FILE": str(keys),
        "APP_SERVER_HOST": "127.0.0.1",
    }


def servers(of: Backends, plain: dict[str, str]) -> list[Server]:
    """Return all servers to compare."""
    cached = {"APP_CACHE_HOST": of.redis, "APP_CACHE_PASSWORD": of.redis_password}
    user_service = (sys.executable, "-m", "user_service")
    return [
        Server(OURS_CACHED, 9101, user_service, plain | cached | {"APP_SERVER_PORT": "9101"}),
        Server(OURS, 9102, user_service, plain | {"APP_SERVER_PORT": "9102"}),
        Server(
            ORM,
            9103,
            (sys.executable, "-m", "bench.orm_peer"),
            {"PORT": "9103", "DATABASE_URL": of.url("postgresql+asyncpg", DATABASE)},
        ),
        Server(
            GO,
            9104,
            (str(BINARIES / "peers"),),
            {"PORT": "9104", "DATABASE_URL": of.url("postgres", DATABASE) + "?pool_max_conns=5", "GOMAXPROCS": "1"},
        ),
    ]


@contextmanager
def running(server: Server, token: str) -> Generator[None]:
    """Run a server on its CPU, and stop it at the end."""
    command = ["taskset", "-c", SERVER_CPU, *server.command]
    with Path(os.devnull).open("wb") as nowhere:
        process = subprocess.Popen(command, env=os.environ | server.environment, stdout=nowhere, cwd=PROJECT)
    try:
        wait_until(lambda: answers(server, token), f"{server.name} answers", 30)
        yield
    finally:
        process.terminate()
        process.wait()


def answers(server: Server, token: str) -> bool:
    """Return whether a server answers every endpoint with 200."""
    for path in ENDPOINTS.values():
        try:
            found = httpx.get(f"http://127.0.0.1:{server.port}{path}", headers={"Authorization": f"Bearer {token}"})
        except httpx.TransportError:
            return False
        if found.status_code != 200:
            return False
    return True


def ask(server: Server, path: str, token: str) -> Round:
    """Run one round on one endpoint."""
    done = subprocess.run(
        [
            *("taskset", "-c", CLIENT_CPU, str(BINARIES / "bombardier")),
            *("-c", str(CONNECTIONS), "-d", f"{ROUND_S}s", "-l", "-p", "r", "-o", "json", "--fasthttp"),
            *("-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:{server.port}{path}"),
        ],
        env=os.environ | {"GOMAXPROCS": "1"},
        capture_output=True,
        check=True,
    )
    result = json.loads(done.stdout)["result"]
    wrong = sum(result[f"req{kind}xx"] for kind in (1, 3, 4, 5)) + result["others"]
    if wrong:
        raise RuntimeError(f"{server.name} answered {wrong} requests of {path} with another status than 200")
    return Round(result["req2xx"] / result["timeTakenSeconds"], result["latency"]["percentiles"]["99"] / 1000)


def build() -> None:
    """Build the peer and the client, both in Go."""
    BINARIES.mkdir(parents=True, exist_ok=True)
    packages = [".", "github.com/codesenberg/bombardier"]
    command = ["go", "build", "-o", f"{BINARIES}/", *packages]
    subprocess.run(command, cwd=PROJECT / "bench" / "peers", env=os.environ | {"CGO_ENABLED": "0"}, check=True)


def table(measured: dict[tuple[str, str], list[Round]]) -> str:
    """Return all figures as a Markdown table."""
    lines = ["| endpoint | server | requests/s | p99 | to the ORM | to Go |", "|---|---|---|---|---|---|"]
    medians = {key: statistics.median(r.rps for r in rounds) for key, rounds in measured.items()}
    for (endpoint, name), rps in medians.items():
        p99_ms = statistics.median(r.p99_ms for r in measured[endpoint, name])
        ratios = [
            statistics.median(
                r.rps / other.rps for r, other in zip(measured[endpoint, name], measured[endpoint, peer], strict=True)
            )
            for peer in (ORM, GO)
        ]
        lines.append(f"| {endpoint} | {name} | {rps:.0f} | {p99_ms:.1f} ms | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    with step("Go peer and client"):
        build()
    of = backends()
    key = secrets.token_bytes(32)
    now = int(time.time())
    claims = {"iss": "estate", "aud": "estate", "sub": "bench", "iat": now, "exp": now + 3600}
    token = jwt.encode(claims, key, "HS256", {"kid": "1"})  # pyright: ignore[reportUnknownMemberType]
    measured: dict[tuple[str, str], list[Round]] = {}
    with ExitStack() as stack:
        keys = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "keys.json"
        jwk = {"kty": "oct", "alg": "HS256", "kid": "1", "k": base64url_encode(key).decode()}
        keys.write_text(json.dumps({"keys": [jwk]}))
        plain = ours(of, keys)
        with step("database"):
            prepare(of, plain)
        stack.callback(drop, of)
        compared = servers(of, plain)
        for server in compared:
            stack.enter_context(running(server, token))
        for number in range(ROUNDS):
            say(f"  round {number + 1} of {ROUNDS}")
            for endpoint, path in ENDPOINTS.items():
                for server in compared:
                    measured.setdefault((endpoint, server.name), []).append(ask(server, path, token))
    print(table(measured))


if __name__ == "__main__":
    run_command(main)
