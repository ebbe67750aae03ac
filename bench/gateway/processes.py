"""Measured processes, each pinned to a CPU."""

import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from estate.core.paths import PROJECT

RESET_PEAK = "5"
"""Value to write to /proc/PID/clear_refs (https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html)."""


@contextmanager
def running(command: list[str], cpu: str, environment: dict[str, str]) -> Generator[int]:
    """Run a command on a CPU, and yield its process id."""
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
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(pid: int) -> None:
    """Reset the peak resident memory of a process to its current value."""
    Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process since the last reset, in megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 10**6
