"""Checks of the embedded cluster's requirements of the machine; all missing ones are reported at once."""

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from estate.cluster import cgroups, network
from estate.cluster.layout import LOCAL_PORTS, ROOT
from estate.core.console import EstateError, report, run_logged, step
from estate.tools.build import BUILDS, load

OTHERWISE = "use a Kubernetes that you have: estate --target system --context <its context> up"
NEEDED_BYTES = 6 * 2**30
"""Disk space for the images, volumes and logs of one estate, and for a rollout."""


def check_rights() -> None:
    """Check that this process may start and stop a cluster.

    Raises:
        EstateError: it may not; with the alternative.
    """
    if platform.system() != "Linux":
        refuse([f"this is {platform.system()}, it needs Linux; {OTHERWISE}"])
    if os.geteuid() != 0:
        refuse([f"it needs root (containers, network): run it as root, or {OTHERWISE}"])


def check(*, running: bool) -> None:
    """Install the Debian packages that the cluster needs, and check that it can run here.

    Args:
        running: True if the cluster's processes run, so that they may hold its ports.

    Raises:
        EstateError: names every missing requirement, with its remedy.
    """
    problems = missing_of_the_machine()
    if not problems:
        install_packages(load()[1].installed)
        problems = missing_of_the_network(running=running)
    if problems:
        refuse(problems)


def refuse(problems: list[str]) -> NoReturn:
    raise EstateError("the embedded cluster cannot run here:\n" + "\n".join(f"  - {problem}" for problem in problems))


def missing_of_the_machine() -> list[str]:
    """Return the missing requirements that no package can provide."""
    problems: list[str] = []
    if not shutil.which("apt-get"):
        problems.append(f"it needs Debian's packages (apt-get); {OTHERWISE}")
    hierarchies = cgroups.hierarchies()
    if not hierarchies:
        problems.append("no control groups are mounted: mount cgroup2 on /sys/fs/cgroup")
    elif not any(os.access(hierarchy, os.W_OK) for hierarchy in hierarchies):
        problems.append(
            "the control groups are read-only: this seems to be an unprivileged container; run it on the machine itself"
        )
    free = shutil.disk_usage(next(p for p in (ROOT, *ROOT.parents) if p.exists())).free
    if free < NEEDED_BYTES:
        problems.append(
            f"{ROOT} has {free / 2**30:.1f} GiB free, it needs {NEEDED_BYTES / 2**30:.0f}: "
            "free some, or set XDG_STATE_HOME to a larger disk"
        )
    return problems


def missing_of_the_network(*, running: bool) -> list[str]:
    """Return the missing requirements of the network; iptables must be installed."""
    problems: list[str] = []
    if subprocess.run(["iptables", "-w", "-t", "nat", "-S"], capture_output=True, check=False).returncode != 0:
        return [
            "iptables does not work here (kernel modules ip_tables, iptable_nat): run it on the machine itself, or in a privileged container"
        ]
    if network.foreign_kubernetes():
        problems.append(f"another Kubernetes runs on this machine (chain KUBE-SERVICES): {OTHERWISE}")
    for port, purpose in LOCAL_PORTS.items():
        if not running and (holder := port_holder(port)):
            problems.append(
                f"port {port} on 127.0.0.1 is wanted for {purpose} but {holder} has it: stop that, then run this again"
            )
    return problems


def port_holder(port: int) -> str | None:
    """Return the process that listens on a port; None if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            listing = ["ss", "-Hltnp", f"sport = :{port}"]
            found = (
                subprocess.run(listing, capture_output=True, text=True, check=False).stdout
                if shutil.which("ss")
                else ""
            )
            return found.partition("users:")[2].strip() or "another program"
    return None


def install_packages(packages: Sequence[str]) -> None:
    """Install the missing ones of some Debian packages; none of them starts a service."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    present = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")}
    missing = [package for package in packages if package not in present]
    if not missing:
        return
    report(f"  installing Debian packages: {' '.join(missing)}")
    logs = BUILDS / "logs"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    with step("Debian packages"):
        if not any(Path("/var/lib/apt/lists").glob("*Packages*")):
            run_logged(["apt-get", "update", "-q"], logs / "apt-update.log", "apt-get update", env=environment)
        try:
            run_logged(install, logs / "apt-install.log", "apt-get install", env=environment)
        except EstateError:  # the lists may be older than the archive
            run_logged(["apt-get", "update", "-q"], logs / "apt-update.log", "apt-get update", env=environment)
            run_logged(install, logs / "apt-install.log", "apt-get install", env=environment)
