"""What a run of Pulumi that was killed has left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain import recovery


def lock_of(state: Path, process: int, host: str) -> Path:
    """A lock of the stack local as Pulumi's file backend writes it."""
    file = state / "pulumi/.pulumi/locks/organization/estate/local/7ac4.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"pid": process, "username": "ada", "hostname": host}))
    return file


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recovery, "STATE", tmp_path)
    monkeypatch.setattr(recovery, "end_orphans", lambda: None)
    return tmp_path


def test_the_lock_of_a_killed_process_is_released_before_its_parent_has_asked_for_it(state: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as holder:
        lock = lock_of(state, holder.pid, os.uname().nodename)
        recovery.release_lock("local")
        assert lock.exists()
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still to be seen in /proc
        assert Path(f"/proc/{holder.pid}").exists()
        recovery.release_lock("local")
        assert not lock.exists()


def test_the_lock_of_a_process_that_is_gone_is_released(state: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as holder:
        pass
    lock = lock_of(state, holder.pid, os.uname().nodename)
    recovery.release_lock("local")
    assert not lock.exists()


def test_the_lock_of_another_machine_stays(state: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as holder:
        pass
    lock = lock_of(state, holder.pid, "another")
    recovery.release_lock("local")
    assert lock.exists()
