"""What a run of Pulumi that was killed has left behind."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from infra.settings import parse
from tests.minimum import MINIMUM
from toolchain import recovery
from toolchain.console import ToolchainError
from toolchain.stack import Stack
from toolchain.target import Target


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


HERE, THERE = "uid-of-this-cluster", "uid-of-another"


@pytest.mark.parametrize(
    ("known", "embedded", "refused"),
    [
        (None, False, False),
        ({"context": "team", "uid": HERE}, False, False),
        ({"context": "renamed", "uid": HERE}, False, False),
        ({"context": "team", "uid": THERE}, False, True),
        ({"context": "team", "uid": THERE}, True, False),  # the embedded cluster was reset
        ({"context": "kind", "uid": THERE}, True, True),
        ({"context": "kind", "uid": THERE}, False, True),
    ],
)
def test_another_cluster_than_the_stacks_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: dict[str, str] | None, *, embedded: bool, refused: bool
) -> None:
    def pulumi(_stack: Stack, *_words: str) -> CompletedProcess[str]:
        return CompletedProcess([], 0, json.dumps({"cluster": known} if known else {}), "")

    def identity(_stack: Stack) -> str:
        return HERE

    monkeypatch.setattr(Stack, "pulumi", pulumi)
    monkeypatch.setattr(recovery, "cluster_identity", identity)
    stack = Stack("dev", parse(MINIMUM, "here"), Target(tmp_path, "team", {}, embedded=embedded))
    expected = (
        pytest.raises(ToolchainError, match="stack dev is in another cluster than team") if refused else nullcontext()
    )
    with expected:
        recovery.check_cluster(stack)


@pytest.mark.parametrize(
    ("of", "deleted"),
    [("kubernetes:apps/v1:Deployment", True), ("kubernetes:core/v1:PersistentVolumeClaim", False)],
)
def test_a_claim_that_was_being_taken_over_stays(monkeypatch: pytest.MonkeyPatch, of: str, *, deleted: bool) -> None:
    inputs = {"metadata": {"name": "data-postgres-0", "namespace": "estate-local"}}
    begun = {"type": "creating", "resource": {"urn": "urn", "type": of, "inputs": inputs}}
    exported = json.dumps({"deployment": {"pending_operations": [begun]}})

    class Killed(Stack):
        def pulumi(self, *_words: str, cwd: Path = Path(), given: str | None = None) -> CompletedProcess[str]:  # noqa: ARG002
            return CompletedProcess([], 0, exported, "")

        def pulumi_shown(self, *_words: str) -> None: ...

    def ask(_stack: Stack, *words: str, **_options: int) -> None:
        asked.append(words[0])

    def on(_stack: Stack) -> list[str]:
        return []

    asked: list[str] = []
    monkeypatch.setattr(recovery, "ask", ask)
    monkeypatch.setattr(recovery, "on", on)
    settings = parse(MINIMUM, "here")
    recovery.clear_unfinished(Killed("local", settings, Target(Path(), "estate", {}, embedded=False)))
    assert asked == (["delete"] if deleted else [])
