"""Timed commands, and the memory of their process trees."""

import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.processes import peak_mb
from estate.core.console import EstateError

EVERY_S = 0.05
PARTS = {
    "pulumi-language-python-exec": "program",
    "pulumi.run.plugin": "policies",
    "pulumi-resource-kubernetes": "Kubernetes provider",
    "pulumi-resource-docker-build": "docker-build provider",
    "pulumi-language-python": "language host",
    "pulumi": "engine",
}
"""Names of the parts of Pulumi, by the first key that occurs in a process's command line."""


@dataclass(frozen=True)
class Run:
    """Duration of a command, and the peak memory of each of its parts in megabytes."""

    took_s: float
    peaks_mb: Mapping[str, float]


def timed(command: list[str], environment: Mapping[str, str], cwd: Path) -> Run:
    """Run a command to its end.

    Raises:
        EstateError: it failed; with the end of its output.
    """
    peaks_mb: dict[str, float] = {}
    ended = threading.Event()
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watching = threading.Thread(target=watch, args=(process.pid, peaks_mb, ended))
    watching.start()
    said, _ = process.communicate()
    took_s = time.monotonic() - started
    ended.set()
    watching.join()
    if process.returncode != 0:
        raise EstateError(f"{' '.join(command)} failed (exit {process.returncode}):\n{said[-2000:]}")
    return Run(took_s, peaks_mb)


def watch(pid: int, peaks_mb: dict[str, float], ended: threading.Event) -> None:
    """Record the peak memory of each part of a process and its descendants, until the process has ended."""
    while not ended.wait(EVERY_S):
        for each in descendants(pid):
            with suppress(OSError, StopIteration):  # the process has just ended
                command = Path(f"/proc/{each}/cmdline").read_bytes().decode(errors="replace")
                part = next((part for name, part in PARTS.items() if name in command), "others")
                peaks_mb[part] = max(peaks_mb.get(part, 0), peak_mb(each))


def descendants(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children: list[int] = []
    with suppress(OSError):  # the process has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return [pid, *(each for child in children for each in descendants(child))]
