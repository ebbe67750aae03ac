"""Run lanes of tests: `python -m tests.lanes LANE…`; `make test` runs `test`, and `make test-all` the `drills` as well.

A lane is a sequence of runs, each on some folders. Lanes that run at the same time have their names in front of their lines.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from estate.core.console import EstateError, UsageError, report, run_command
from estate.core.environment import EMBEDDED, TARGET
from estate.core.paths import PROJECT

DRILLS = tuple(f"tests/live/test_{name}.py" for name in ("new_service", "interruptions", "promotion", "two_machines"))
"""Tests among those of the running estate that bring up stacks of their own, and take long."""
PYTEST = ("pytest",)
LANES: dict[str, tuple[tuple[str, ...], ...]] = {
    "fast": ((*PYTEST, "tests/unit", "tests/program", "tests/process/gateway"),),
    "up": (("estate", "up"), ("estate", "browser")),
    "tools": ((*PYTEST, "tests/tools"),),
    "strangers": ((*PYTEST, "tests/process/strangers"),),
    "local": (
        (*PYTEST, "tests/live", *(f"--ignore={drill}" for drill in DRILLS)),
        (*PYTEST, "tests/faults", "--ignore=tests/faults/test_cluster.py"),
    ),
    "alone": (
        (*PYTEST, "tests/process/coherence", "tests/process/users", "tests/process/differential"),
        ("tests.support.bare",),
    ),
    "cluster": ((*PYTEST, "tests/faults/test_cluster.py"),),
    "stages": ((*PYTEST, "tests/stages", "tests/live/test_promotion.py", "tests/live/test_two_machines.py"),),
    "own": (
        (*PYTEST, "tests/live/test_new_service.py", "tests/live/test_interruptions.py"),
        # In its order: what an alert has cost goes on being reported for an hour.
        (*PYTEST, "-p", "no:randomly", "tests/alerts"),
    ),
}
"""Modules to run with their arguments, by the name of the lane. `alone` are processes on this machine, without the estate."""
ORDER = {
    # The lane strangers measures times, so that nothing else runs; what ends the cluster comes last.
    "test": (("up",), ("tools",), ("strangers",), ("local", "alone"), ("cluster",)),
    "drills": (("stages", "own"),),
}
"""Groups of lanes, one group after the other; the lanes of a group run at the same time."""


def run_lane(name: str, *, marked: bool) -> bool:
    """Run a lane up to its first failure, and return whether there was none.

    Args:
        name: the name of the lane.
        marked: whether to print the lane's name in front of its lines.
    """
    for module, *words in LANES[name]:
        if module == "tests.support.bare" and os.environ.get(TARGET, EMBEDDED) != EMBEDDED:
            continue  # it makes a machine of its own, as root
        durations = ["--durations=15"] if marked and module == "pytest" else []
        command = [sys.executable, "-m", module, *words, *durations]
        out, err = (subprocess.PIPE, subprocess.STDOUT) if marked else (None, None)
        with subprocess.Popen(command, cwd=PROJECT, stdout=out, stderr=err, text=True, errors="replace") as process:
            for line in process.stdout or ():
                print(f"[{name}] {line}", end="", flush=True)
        if process.returncode != 0:
            report(f"lane {name} failed (exit {process.returncode}); alone: uv run python -m tests.lanes {name}")
            return False
    return True


def run_group(lanes: tuple[str, ...]) -> None:
    """Run lanes at the same time.

    Raises:
        EstateError: one of them failed; the others came to their end.
    """
    with ThreadPoolExecutor(len(lanes)) as threads:
        done = list(threads.map(partial(run_lane, marked=len(lanes) > 1), lanes))
    if not all(done):
        raise EstateError(f"failed: {', '.join(name for name, well in zip(lanes, done, strict=True) if not well)}")


def main() -> None:
    """Run the lanes and orders that the arguments name."""
    wanted = sys.argv[1:]
    unknown = [name for name in wanted if name not in {*LANES, *ORDER}]
    if not wanted or unknown:
        raise UsageError(
            f"there is no lane {', '.join(unknown) or 'named'}: name some of {', '.join([*ORDER, *LANES])}"
        )
    for name in wanted:
        for group in ORDER.get(name, ((name,),)):
            run_group(group)


if __name__ == "__main__":
    run_command(main)
