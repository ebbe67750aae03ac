"""Throughput and memory of the gateway with large bodies, in responses and in requests."""

import os
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.__main__ import CLIENT_CPU
from bench.gateway.peers import GATEWAY, LARGE_MB, LARGE_PATH, MB, NGINX, SINK_PATH, Peer
from bench.gateway.processes import peak_mb, reset_peak
from estate.core.console import say

ROUNDS, TRANSFERS = 3, 8
AT_ONCE = (1, 4)


@dataclass(frozen=True)
class Round:
    """Megabytes a second, and the growth of the process's peak memory, in megabytes over its peak before all rounds."""

    mb_per_s: float
    grown_mb: float


def measure(compared: Mapping[Peer, int], file: Path, token: str) -> str:
    """Measure the gateway and nginx in rounds, and return a Markdown table.

    Args:
        compared: the peers, with their process ids.
        file: the file with the request body.
        token: the bearer token of the requests.
    """
    measured: dict[tuple[str, int, str], list[Round]] = {}
    for pid in compared.values():
        reset_peak(pid)
    idle_mb = {pid: peak_mb(pid) for pid in compared.values()}
    for number in range(ROUNDS):
        say(f"  streaming: round {number + 1} of {ROUNDS}")
        for what in ("answer", "request"):
            for at_once in AT_ONCE:
                for peer, pid in compared.items():
                    sent = file if what == "request" else None
                    reset_peak(pid)
                    mb_per_s = carry(peer, at_once, sent, token)
                    found = Round(mb_per_s, peak_mb(pid) - idle_mb[pid])
                    measured.setdefault((what, at_once, peer.name), []).append(found)
    return table(measured)


def carry(peer: Peer, at_once: int, sent: Path | None, token: str) -> float:
    """Transfer TRANSFERS bodies over persistent connections, and return the megabytes a second."""
    path = SINK_PATH if sent else LARGE_PATH
    one = [*(["-T", str(sent)] if sent else []), "-o", os.devnull, f"http://127.0.0.1:{peer.port}{path}"]
    words = ["taskset", "-c", CLIENT_CPU, "curl", "-sS", "--fail", "--max-time", "60", "-H", "Expect:"]
    words += ["-H", f"Authorization: Bearer {token}", "-w", f"%{{size_{'upload' if sent else 'download'}}}\\n"]
    words += ["--parallel", "--parallel-immediate", "--parallel-max", str(at_once)] if at_once > 1 else []
    started = time.monotonic()
    done = subprocess.run([*words, *one * TRANSFERS], capture_output=True, text=True, check=False)
    took_s = time.monotonic() - started
    if done.returncode or done.stdout.split() != [str(LARGE_MB * MB)] * TRANSFERS:
        said = f"{done.stderr.strip()} bytes: {done.stdout.split()}"
        raise RuntimeError(f"{peer.name} did not carry {TRANSFERS} bodies of {LARGE_MB} MB, {at_once} at once: {said}")
    return TRANSFERS * LARGE_MB / took_s


def table(measured: dict[tuple[str, int, str], list[Round]]) -> str:
    """Return all figures as a Markdown table."""
    lines = [
        f"| {LARGE_MB} MB as | at once | api-gateway | nginx | api-gateway to nginx | api-gateway's memory grew by |",
        "|---|---|---|---|---|---|",
    ]
    for (what, at_once, name), rounds in measured.items():
        if name != GATEWAY:
            continue
        beside = measured[what, at_once, NGINX]
        ours, theirs = (statistics.median(r.mb_per_s for r in of) for of in (rounds, beside))
        ratio = statistics.median(r.mb_per_s / b.mb_per_s for r, b in zip(rounds, beside, strict=True))
        grown_mb = max(r.grown_mb for r in rounds)
        lines.append(
            f"| {what} | {at_once} | {ours:.0f} MB/s | {theirs:.0f} MB/s | {ratio:.2f} | {grown_mb:.1f} MB at most |"
        )
    return "\n".join(lines)
