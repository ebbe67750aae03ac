"""The Makefile's goals do the same whatever Python variables the caller's environment sets."""

import os
import subprocess

import pytest

from estate.core.paths import PROJECT

GIVEN = {
    "PYTHONOPTIMIZE": "1", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/nowhere", "PYTHONWARNINGS": "error",
    "PYTHONINSPECT": "1", "PYTHONUTF8": "0", "PYTHONOFTOMORROW": "1",
}  # fmt: skip
CACHES = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/nowhere"}


@pytest.mark.parametrize("given", [GIVEN | CACHES, CACHES, {}], ids=["all", "caches", "none"])
def test_a_goal_sees_no_variable_of_python_but_those_of_its_caches(given: dict[str, str]) -> None:
    words = ["make", "--no-print-directory", "--eval", "probe: ; @env", "probe"]
    done = subprocess.run(words, cwd=PROJECT, env=os.environ | given, capture_output=True, text=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: value for name, value in seen.items() if name.startswith("PYTHON")} == {
        name: value for name, value in CACHES.items() if name in given
    }
    assert seen["UV_PYTHON_DOWNLOADS"] == "never"
