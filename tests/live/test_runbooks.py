"""The commands of the runbooks: each of them works in the running estate."""

import re
import subprocess

import pytest

from estate.core.paths import PROJECT
from tests.support.running import STACK, Items
from tests.support.stacks import estate

ELSEWHERE = {
    "kubectl -n estate-<stack> get pods -l app.kubernetes.io/name=consul-server": "tests/stages/test_consul_cluster.py",
    "kubectl -n estate-<stack> exec consul-server-0 -- consul operator raft list-peers": "tests/stages/test_consul_cluster.py",
    "kubectl -n estate-<stack> logs <pod> --previous --tail=50": "tests/alerts/test_alerts.py",
}
"""Commands for objects that stack local lacks while it is healthy, with the test that runs them."""
FOLLOWED = re.compile(r"estate logs [a-z<]")
"""Pattern of commands that run until they are interrupted."""
JUDGES = re.compile(r"estate status")
"""Pattern of commands that fail where an alert fires, as one may for an hour after another test has caused a fault."""
TIMED_OUT, DEVIATION = 124, 3
"""Exit codes of `timeout` for a command that it ended, and of `estate status` for a stack that is not as it should be."""
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = sorted(
    {
        line
        for page in (PROJECT / "docs" / "runbooks").glob("*.md")
        for block in SHELL.findall(page.read_text())
        for line in block.splitlines()
        if not line.startswith("#")
    }
)


@pytest.fixture(scope="module")
def shell() -> str:
    """Return the commands of `estate env`, which prepare a shell."""
    return estate("env").stdout


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ELSEWHERE])
def test_what_a_runbook_looks_at_is_there(command: str, shell: str, items: Items) -> None:
    (job, *_) = items("jobs", "--selector=app.kubernetes.io/name=postgres-roles")
    (pod, *_) = items("pods", "--selector=app.kubernetes.io/name=prometheus")
    known = {
        "<stack>": STACK,
        "<service>": "user-service",
        "<pod>": pod["metadata"]["name"],
        "<job>": job["metadata"]["name"],
    }
    for name, value in known.items():
        command = command.replace(name, value)
    assert "<" not in command
    enough = ("timeout", "--signal=INT", "8") if FOLLOWED.match(command) else ()
    words = (*enough, "bash", "-c", f"{shell}\n{command}")
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode in ((TIMED_OUT,) if enough else (0, DEVIATION) if JUDGES.match(command) else (0,)), done
    assert (done.stdout + done.stderr).strip()


def test_what_is_looked_at_elsewhere_is_on_a_page() -> None:
    assert ELSEWHERE.keys() <= set(COMMANDS)
