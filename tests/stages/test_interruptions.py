"""Updates that were interrupted are repeated, and reach the declared state."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from estate.core.paths import PROJECT
from estate.stack.model import Stack, on
from tests.stages.test_release import variant
from tests.support.load import Load
from tests.support.stacks import LIGHT, estate, write_stack


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_update_that_was_interrupted_converges_at_the_next_run(
    stack: Stack, images: dict[str, str], load: Load, tmp_path: Path, how: signal.Signals
) -> None:
    release = variant(images, tmp_path, how.name.lower(), f"LABEL interrupted={how.name}")
    write_stack(stack.name, "staging", digests=release, **LIGHT)
    with load:
        command = [sys.executable, "-m", "estate", "up", "--stack", stack.name]
        with subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as interrupted:
            assert interrupted.stdout
            assert any("Deployment user-service updating" in line for line in interrupted.stdout)
            os.killpg(interrupted.pid, how)
            interrupted.stdout.read()
        assert interrupted.returncode != 0
        again = estate("up", stack=stack.name)
        assert again.returncode == 0, again.stdout + again.stderr
    assert load.failures() == {}
    assert load.lost() == []
    unchanged = stack.pulumi("preview", "--expect-no-changes", *on(stack))
    assert unchanged.returncode == 0, unchanged.stdout + unchanged.stderr


@pytest.mark.timeout(300)
def test_nothing_has_drifted(stack: Stack) -> None:
    refreshed = stack.pulumi("refresh", "--preview-only", "--expect-no-changes", *on(stack))
    assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
