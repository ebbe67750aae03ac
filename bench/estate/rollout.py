"""Rollout of user-service under load: its duration, and the number of failed requests."""

import json
import os
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from bench.__main__ import BINARIES
from estate.cluster import layout
from estate.core.console import EstateError, say, step
from estate.core.paths import PROJECT
from estate.ops.tokens import new_token
from estate.stack.model import Stack, outputs
from tests.support.running import connect, create

RPS, DURATION_S, BEFORE_S = 200, 110, 20
DEADLINE_S = 90
DEPLOYMENT = "deployment/user-service"


def build() -> None:
    """Build the client."""
    BINARIES.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-mod=readonly", "-o", f"{BINARIES}/", "github.com/tsenart/vegeta/v12"]
    subprocess.run(command, cwd=PROJECT / "bench" / "peers", env=os.environ | {"CGO_ENABLED": "0"}, check=True)


def measure(stack: Stack) -> str:
    """Measure one rollout under load through the Ingress, and return a Markdown table.

    The load is four reads for each change; no request is retried on the client's behalf.

    Raises:
        EstateError: the rollout did not end, or the client did not keep the rate.
    """
    url, token = outputs(stack)["urls"]["gateway"], new_token(stack)
    with step("the client"):
        build()
    with connect(url, token) as client, tempfile.TemporaryDirectory() as temporary:
        users = [create(client, new_user()) for _ in range(4)]
        try:
            took_s, done = replaced(stack, attack(url, users, Path(temporary)), token)
        finally:
            for user in users:
                client.delete(f"/api/v1/users/{user['id']}", headers={"If-Match": "*"})
    return table(took_s, done)


def new_user() -> dict[str, Any]:
    """Return a user with a unique email address."""
    return {"name": "Bench", "email": f"bench-{uuid.uuid4().hex}@example.com", "age": 36}


def attack(url: str, users: list[dict[str, Any]], folder: Path) -> str:
    """Return the requests that the client sends in turn, in vegeta's HTTP format."""
    body = folder / "change.json"
    body.write_text(json.dumps({"age": 37}))
    reads = [f"GET {url}/api/v1/users/{user['id']}" for user in users]
    change = f"PATCH {url}/api/v1/users/{users[0]['id']}\nIf-Match: *\nContent-Type: application/json\n@{body}"
    return "\n\n".join([*reads, change]) + "\n"


def replaced(stack: Stack, targets: str, token: str) -> tuple[float, dict[str, Any]]:
    """Restart the service's pods under load; return the seconds until all are replaced, and the client's report."""
    gateway = httpx.URL(outputs(stack)["urls"]["gateway"])
    vegeta = str(BINARIES / "vegeta")
    words = [vegeta, "attack", f"-rate={RPS}/s", f"-duration={DURATION_S}s", "-timeout=30s"]
    words += [f"-connect-to={gateway.host}:{gateway.port}:127.0.0.1:{gateway.port}"]
    words += [f"-root-certs={layout.CA_CERTIFICATE}", f"-header=Authorization: Bearer {token}"]
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answers:
        asked.write(targets.encode())
        asked.seek(0)
        say(f"  {RPS} requests/s for {DURATION_S} s; after {BEFORE_S} s {DEPLOYMENT} is restarted")
        client = subprocess.Popen(words, stdin=asked, stdout=answers)
        try:
            threading.Event().wait(BEFORE_S)
            took_s = restart(stack)
            client.wait(DURATION_S + DEADLINE_S)
        finally:
            client.terminate()
            client.wait()
        answers.seek(0)
        report = subprocess.run([vegeta, "report", "-type=json"], stdin=answers, capture_output=True, check=True)
    return took_s, json.loads(report.stdout)


def restart(stack: Stack) -> float:
    """Restart the service, and return the seconds until every pod is replaced and ready.

    Raises:
        EstateError: the rollout did not complete within DEADLINE_S.
    """
    started = time.monotonic()
    for words in (("restart", DEPLOYMENT), ("status", DEPLOYMENT, f"--timeout={DEADLINE_S}s")):
        done = subprocess.run(
            stack.kubectl("rollout", *words), env=stack.target.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise EstateError(f"kubectl rollout {words[0]} failed: {done.stderr.strip()}")
    return time.monotonic() - started


def table(took_s: float, report: Mapping[str, Any]) -> str:
    """Return the result as a Markdown table."""
    if report["rate"] < RPS * 0.99:
        raise EstateError(f"the client kept {report['rate']:.0f} of {RPS} requests/s only: free the CPU, try again")
    answered = ", ".join(f"{count} with {status}" for status, count in sorted(report["status_codes"].items()))
    failed = report["requests"] - report["status_codes"].get("200", 0)
    p99_ms = report["latencies"]["99th"] / 1e6
    return (
        f"| rollout at {RPS} requests/s | until complete | requests | failed | answers | p99 |\n|---|---|---|---|---|---|\n"
        f"| user-service | {took_s:.0f} s | {report['requests']} | {failed} | {answered} | {p99_ms:.0f} ms |"
    )
