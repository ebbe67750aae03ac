"""Latency that a gateway adds at a rate below its capacity, with an open-loop client: requests start on schedule, however slow the responses."""

import json
import os
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from bench.__main__ import BINARIES, CLIENT_CPU, CONNECTIONS
from bench.gateway.peers import PATH
from estate.core.console import say

ROUNDS, ROUND_S, RPS = 5, 5, 1000
DIRECT = "the upstream itself"


@dataclass(frozen=True)
class Round:
    """Percentiles of the latencies in milliseconds."""

    p50_ms: float
    p99_ms: float


def measure(ports: Mapping[str, int], token: str) -> str:
    """Measure all gateways in rounds, and return a Markdown table.

    Args:
        ports: the ports by name; DIRECT is the baseline.
        token: the bearer token of the requests.
    """
    measured: dict[str, list[Round]] = {}
    for number in range(ROUNDS):
        say(f"  latency: round {number + 1} of {ROUNDS}")
        for name, port in ports.items():
            measured.setdefault(name, []).append(ask(name, port, token))
    return table(measured)


def ask(name: str, port: int, token: str) -> Round:
    """Run one round."""
    vegeta = ["taskset", "-c", CLIENT_CPU, str(BINARIES / "vegeta")]
    attack = [*vegeta, "attack", f"-rate={RPS}/s", f"-duration={ROUND_S}s", f"-connections={CONNECTIONS}"]
    attack += ["-header", f"Authorization: Bearer {token}"]
    environment = os.environ | {"GOMAXPROCS": "1"}
    target = f"GET http://127.0.0.1:{port}{PATH}\n".encode()
    answers = subprocess.run(attack, input=target, env=environment, capture_output=True, check=True).stdout
    report = [*vegeta, "report", "-type=json"]
    done = json.loads(subprocess.run(report, input=answers, env=environment, capture_output=True, check=True).stdout)
    if done["success"] != 1:
        raise RuntimeError(f"{name} did not answer every request with 200: {done['status_codes']} {done['errors']}")
    if done["rate"] < RPS * 0.99:
        raise RuntimeError(f"the client kept {done['rate']:.0f} of {RPS} requests/s only: free the CPU and try again")
    return Round(done["latencies"]["50th"] / 1e6, done["latencies"]["99th"] / 1e6)


def table(measured: dict[str, list[Round]]) -> str:
    """Return all figures as a Markdown table."""
    lines = [f"| at {RPS} requests/s | p50 | p99 | added to p50 | added to p99 |", "|---|---|---|---|---|"]
    for name, rounds in measured.items():
        figures = [statistics.median(getattr(r, key) for r in rounds) for key in ("p50_ms", "p99_ms")]
        figures += [
            statistics.median(getattr(r, key) - getattr(d, key) for r, d in zip(rounds, measured[DIRECT], strict=True))
            for key in ("p50_ms", "p99_ms")
        ]
        lines.append(f"| {name} | " + " | ".join(f"{ms:.2f} ms" for ms in figures) + " |")
    return "\n".join(lines)
