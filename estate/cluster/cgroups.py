"""Control groups (versions 1 and 2) that identify the cluster's processes."""

import os
import signal
from pathlib import Path

from estate.cluster.layout import CGROUP
from estate.core.console import wait_until

MOUNTS = Path("/proc/mounts")


def hierarchies() -> list[Path]:
    """Return the mount points of all control group hierarchies."""
    mounts = (line.split() for line in MOUNTS.read_text().splitlines())
    return [Path(point) for _, point, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def create() -> list[Path]:
    """Create the group of the host processes in every hierarchy that can hold them, and return their cgroup.procs files."""
    files: list[Path] = []
    for hierarchy in hierarchies():
        group = hierarchy / CGROUP.lstrip("/") / "host"
        group.mkdir(parents=True, exist_ok=True)
        if not (group / "cpuset.cpus").exists() or (group / "cpuset.cpus").read_text().strip():
            files.append(group / "cgroup.procs")  # a version-1 cpuset accepts no process before it has CPUs
    return files


def processes() -> list[int]:
    """Return the ids of all live processes of the cluster, containers included."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_ours(entry)]


def _is_ours(process: Path) -> bool:
    try:
        groups = (process / "cgroup").read_text()
        alive = (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:  # the process has ended meanwhile
        return False
    return alive and any(line.split(":", 2)[2].startswith(f"{CGROUP}/") for line in groups.splitlines())


def kill_all(deadline_s: float = 30) -> int:
    """Kill every process of the cluster with SIGKILL, and return their number.

    Raises:
        EstateError: some were still alive after `deadline_s` seconds.
    """
    found = processes()
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue

    def gone() -> bool:
        left = processes()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    wait_until(gone, "the end of the cluster's processes", deadline_s)
    return len(found)


def remove() -> None:
    """Remove the groups, which the kernel allows shortly after their last process has ended."""

    def removed() -> bool:
        for hierarchy in hierarchies():
            top = hierarchy / CGROUP.lstrip("/")
            for group in [*sorted((g for g in top.rglob("*") if g.is_dir()), reverse=True), top]:
                try:
                    group.rmdir()
                except FileNotFoundError:
                    continue
                except OSError:
                    return False
        return True

    wait_until(removed, "the removal of the control groups", 10)
