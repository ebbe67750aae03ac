"""Supervision of the cluster's host processes with runit: it restarts them, rotates their logs, and outlives the command."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from estate.cluster import cgroups
from estate.cluster.layout import LOGS, SERVICES_DIR
from estate.core.console import EstateError, last_lines, wait_until
from estate.tools.build import Toolbox

ENDS_UNTIL_GIVEN_UP = 4
"""Number of exits after which a start fails: a component may exit a few times until its dependencies are up."""


@dataclass(frozen=True)
class Component:
    """One host process of the cluster."""

    name: str
    command: list[str]
    ready: Callable[[], bool]
    deadline_s: float = 60.0

    @property
    def folder(self) -> Path:
        return SERVICES_DIR / self.name

    @property
    def log(self) -> Path:
        return LOGS / self.name / "current"

    @property
    def ends(self) -> Path:
        """Return the file to which a line is appended each time the process ends."""
        return LOGS / self.name / "ends"


def scripts(component: Component) -> dict[Path, str]:
    """Return the scripts of the component's service folder (see runsv(8)): the text of each by its path."""
    logs = component.log.parent
    bodies = {
        "run": f"exec 2>&1 </dev/null\nulimit -n $(ulimit -Hn)\nexec {shlex.join(component.command)}",
        "finish": f"echo exit $1 signal $2 >>{shlex.quote(str(component.ends))}\nsleep 0.5",
        "log/run": f"exec svlogd -tt {shlex.quote(str(logs))}",
    }
    return {component.folder / name: f"#!/bin/sh\n{body}\n" for name, body in bodies.items()}


def is_defined(component: Component) -> bool:
    """Return whether the service folder has the component's current scripts."""
    return all(path.exists() and path.read_text() == text for path, text in scripts(component).items())


def define(component: Component) -> None:
    """Write the component's service folder."""
    (component.folder / "log").mkdir(parents=True, exist_ok=True)
    component.log.parent.mkdir(parents=True, exist_ok=True)
    (component.folder / "down").touch()  # started in order by `start`, not by the supervisor
    (component.log.parent / "config").write_text("s5000000\nn3\n")
    for path, text in scripts(component).items():
        new = path.with_suffix(".new")  # replaced atomically: the shell may be reading the old file
        new.write_text(text)
        new.chmod(0o755)
        new.replace(path)


def start_supervisor(box: Toolbox) -> None:
    """Start runsvdir in the cluster's control group, in a session of its own."""
    joins = " ".join(shlex.quote(str(file)) for file in cgroups.create())
    script = f"for file in {joins}; do echo $$ >$file; done; exec runsvdir -P {shlex.quote(str(SERVICES_DIR))}"
    environment = {"PATH": box.path, "HOME": os.environ.get("HOME", "/root"), "LANG": "C.UTF-8"}
    subprocess.Popen(
        ["/bin/sh", "-c", script], env=environment, cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def sv(box: Toolbox, *words: str) -> subprocess.CompletedProcess[str]:
    """Run sv(8) on the cluster's services."""
    environment = {"PATH": box.path, "SVDIR": str(SERVICES_DIR)}
    return subprocess.run(["sv", *words], env=environment, capture_output=True, text=True, check=False)


def is_running(box: Toolbox, component: Component) -> bool:
    return sv(box, "status", component.name).stdout.startswith("run:")


def start(box: Toolbox, component: Component) -> None:
    """Start a component, and wait until it is ready.

    Raises:
        EstateError: it ended repeatedly, or was not ready in time; with its last log lines.
    """
    component.ends.unlink(missing_ok=True)
    wait_until(
        lambda: sv(box, "status", component.name).returncode == 0, f"supervision of {component.name}", 15, every_s=0.05
    )
    sv(box, "up", component.name)
    end = time.monotonic() + component.deadline_s
    while not component.ready():
        ends = component.ends.read_text().splitlines() if component.ends.exists() else []
        if len(ends) >= ENDS_UNTIL_GIVEN_UP:
            raise EstateError(
                f"{component.name} ended {len(ends)} times while starting ({ends[-1]}); {component.log} ends with:\n{last_lines(component.log)}"
            )
        if time.monotonic() > end:
            raise EstateError(
                f"{component.name} was not ready within {component.deadline_s:.0f} s; {component.log} ends with:\n{last_lines(component.log)}"
            )
        time.sleep(0.1)
