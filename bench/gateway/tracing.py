"""Cost of tracing in the gateway: `python -m bench.gateway.tracing [FOLDER]`, where FOLDER is another clone to compare with.

The method is that of `bench.gateway`; the collector accepts everything, and runs on the other CPU.
"""

import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.gateway import throughput
from bench.gateway.__main__ import build, check_requirements, signed, started
from bench.gateway.peers import SINK_PORT, Peer, every_feature
from bench.gateway.processes import peak_mb, reset_peak
from estate.core.console import run_command, say

ROUNDS = 7
NONE = "none"
ENDPOINT = {"APP_TRACING_ENDPOINT": f"http://127.0.0.1:{SINK_PORT}"}
AWAY = {"APP_TRACING_ENDPOINT": "http://127.0.0.1:9"}
"""Endpoint on which no collector listens."""


def compared(folder: Path, keys: Path, before: str | None) -> list[Peer]:
    """Return the gateway with and without spans, as peers."""
    kinds: dict[str, dict[str, str]] = {
        NONE: {},
        "of 1 % of the requests": ENDPOINT | {"APP_TRACING_RATIO": "0.01"},
        "of 10 %": ENDPOINT | {"APP_TRACING_RATIO": "0.1"},
        "of all": ENDPOINT | {"APP_TRACING_RATIO": "1"},
        "of 10 %, collector away": AWAY | {"APP_TRACING_RATIO": "0.1"},
    }
    if before:
        apps = ":".join(str(app / "src") for app in sorted((Path(before) / "apps").iterdir()))
        kinds["none, by the other clone"] = {"PYTHONPATH": apps}
    ours = [sys.executable, "-m", "api_gateway"]
    return [
        Peer(name, port, ours, every_feature(folder, keys, port) | environment)
        for port, (name, environment) in enumerate(kinds.items(), start=9401)
    ]


def table(cpu_us: dict[str, list[float]], peaks_mb: dict[str, float]) -> str:
    """Return all figures as a Markdown table; the least is that of an undisturbed round."""
    lines = ["| spans | CPU per request, median | least | to none | memory at the most |", "|---|---|---|---|---|"]
    for name, rounds in cpu_us.items():
        ratio = statistics.median(r / none for none, r in zip(cpu_us[NONE], rounds, strict=True))
        figures = f"{statistics.median(rounds):.0f} µs | {min(rounds):.0f} µs | {ratio:.2f} | {peaks_mb[name]:.0f} MB"
        lines.append(f"| {name} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print a table."""
    check_requirements()
    build()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = folder / "keys.json"
        token = signed(keys)
        pids = started(stack, folder, compared(folder, keys, sys.argv[1] if sys.argv[1:] else None), token)
        for pid in pids.values():
            reset_peak(pid)
        cpu_us: dict[str, list[float]] = {peer.name: [] for peer in pids}
        for number in range(ROUNDS):
            say(f"  round {number + 1} of {ROUNDS}")
            for peer, pid in pids.items():
                cpu_us[peer.name].append(throughput.ask(peer, pid, token).cpu_us)
        say(table(cpu_us, {peer.name: peak_mb(pid) for peer, pid in pids.items()}))


if __name__ == "__main__":
    run_command(main)
