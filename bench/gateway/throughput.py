"""Throughput of each gateway with a closed-loop client: one request at a time on each connection."""

import re
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from bench.__main__ import CLIENT_CPU, CONNECTIONS
from bench.gateway.peers import GATEWAY, PATH, Peer
from bench.gateway.processes import cpu_s
from estate.core.console import say

ROUNDS, ROUND_S = 7, 3


@dataclass(frozen=True)
class Round:
    """Responses per second, CPU time per response in microseconds, and the 99th percentile of the latencies in milliseconds."""

    rps: float
    cpu_us: float
    p99_ms: float


def measure(compared: Mapping[Peer, int], token: str) -> str:
    """Measure all gateways in rounds, and return a Markdown table.

    Args:
        compared: the peers, with their process ids.
        token: the bearer token of the requests.
    """
    measured: dict[str, list[Round]] = {}
    for number in range(ROUNDS):
        say(f"  requests/s: round {number + 1} of {ROUNDS}")
        for peer, pid in compared.items():
            measured.setdefault(peer.name, []).append(ask(peer, pid, token))
    return table(measured)


def ask(peer: Peer, pid: int, token: str) -> Round:
    """Run one round."""
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
    """Return all figures as a Markdown table."""
    lines = ["| gateway | requests/s | p99 | CPU per request | api-gateway to it |", "|---|---|---|---|---|"]
    for name, rounds in measured.items():
        rps, p99, cpu = (statistics.median(getattr(r, key) for r in rounds) for key in ("rps", "p99_ms", "cpu_us"))
        ratio = statistics.median(o.rps / r.rps for o, r in zip(measured[GATEWAY], rounds, strict=True))
        lines.append(f"| {name} | {rps:.0f} | {p99:.1f} ms | {cpu:.0f} µs | {ratio:.2f} |")
    return "\n".join(lines)
