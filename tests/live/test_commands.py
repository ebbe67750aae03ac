"""Every make command of the README and the docs runs: here where it changes nothing, otherwise in the named test."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from estate.core.paths import PROJECT
from tests.support.running import STACK
from tests.support.stacks import make, stack_file

HERE = {
    "architecture": "",
    "client": "ID=billing USERNAME=billing USER_ID=7",
    "dashboard": "MINUTES=5",
    "env": "",
    "help": "",
    "licences": "",
    "openapi": "",
    "operator-secret": "",
    "preview": "",
    "render": "",
    "stack-schema": "",
    "token": "",
    "url": "OF=alertmanager",
}
"""Goals with their settings; they write only files that are in the project already, or in build/."""
ELSEWHERE = {
    "audit": "tests/unit/test_delivery.py",
    "backup": "tests/faults/test_restore.py",
    "browser": "Makefile",
    "cluster": "tests/faults/test_cluster.py",
    "cluster-stop": "tests/faults/test_cluster.py",
    "down": "tests/support/stacks.py",
    "drift": "tests/live/test_delivery.py",
    "logs": "tests/live/test_logs.py",
    "new-service": "tests/unit/estate/test_new_service.py",
    "policies": "tests/tools/manifests/test_policies.py",
    "preview-summary": "tests/live/test_delivery.py",
    "promote": "tests/live/test_promotion.py",
    "render-diff": "tests/tools/manifests/test_delivery.py",
    "restore": "tests/faults/test_restore.py",
    "retire-key": "tests/faults/test_rotation.py",
    "review-stack": "tests/live/test_commands.py",
    "rollback": "tests/stages/test_release.py",
    "rotate-database-password": "tests/faults/test_database_rotation.py",
    "rotate-keys": "tests/faults/test_rotation.py",
    "sbom": "tests/unit/test_delivery.py",
    "secret": "tests/alerts/test_receivers.py",
    "status": "tests/live/test_dashboards.py",
    "test": ".ci/run",
    "test-bare": "Makefile",
    "test-fast": "Makefile",
    "up": "Makefile",
}
"""Goals that change state or take long, with the test that runs them."""
BY_HAND = {
    "bench": "measures; docs/benchmarks.md has the figures",
    "bench-estate": "measures",
    "bench-gateway": "measures",
    "cluster-reset": "would delete the stack that the tests are about",
    "test-all": "make test, and drills that take longer than CI may",
    "test-staging": "the first of those drills",
    "tools": "make up does the same first",
    "fuzz": "tests/live/test_contract.py does the same with fewer cases",
}
"""Goals that no test runs, with the reason."""
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
GOAL = re.compile(r"(?:^|`|\$\(|time |\"\$\()make ([a-z][a-z-]*)", re.MULTILINE)


def run_of(file: Path, goal: str) -> bool:
    """Return whether a file runs a goal, as our tests, the Makefile and CI do."""
    text = file.read_text()
    as_test = re.search(rf'make\(\s*"{goal}"|"make",\s*"{goal}"|RESTORE = "{goal}"', text)
    return bool(as_test or re.search(rf"(exec make|\$\(MAKE\).*|^test[a-z-]*:.*) {goal}\b", text, re.MULTILINE))


def test_every_command_of_a_page_is_run_by_a_test() -> None:
    named = {goal for page in PAGES for goal in GOAL.findall(page.read_text())}
    unknown = named - HERE.keys() - ELSEWHERE.keys() - BY_HAND.keys()
    assert not unknown, f"write a test that runs them, and name it here: {unknown}"


@pytest.mark.parametrize(("goal", "file"), ELSEWHERE.items())
def test_who_is_said_to_run_a_command_does(goal: str, file: str) -> None:
    assert run_of(PROJECT / file, goal)


def changes() -> str:
    """Return the uncommitted changes of the pages and documents that commands write."""
    difference = ["git", "diff", "HEAD", "--", "docs", "apps", "stacks"]
    return subprocess.run(difference, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("goal", "settings"), HERE.items())
def test_a_command_that_only_looks_succeeds_and_changes_nothing(goal: str, settings: str) -> None:
    before = changes()
    words, environment = ["make", goal, *settings.split()], os.environ | {"STACK": STACK}  # only some goals take it
    done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert changes() == before


def test_the_stack_of_a_pull_request_is_written() -> None:
    done = make("review-stack", PR="9999999999")
    stack_file("pr-9999999999").unlink(missing_ok=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stack pr-9999999999 of this pull request: https://pr-9999999999." in done.stdout
