"""State that a killed run of Pulumi has left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from estate.core.console import EstateError
from estate.pulumi import recovery
from estate.reconcile import additions
from estate.reconcile.additions import take_out_additions
from estate.stack.model import Stack
from estate.stack.objects import Objects
from estate.stack.target import Target
from infra.settings.load import parse
from tests.support.minimum import MINIMUM


def lock_of(state: Path, process: int, host: str) -> Path:
    """Write a lock of stack local as Pulumi's file backend does, and return its path."""
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
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # the process has ended, and is still visible in /proc
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
        pytest.raises(EstateError, match="stack dev is in another cluster than team") if refused else nullcontext()
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

        def pulumi_shown(self, *words: str, hopeless: object = None) -> None: ...

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


LOCKED = "error: the stack is currently locked by 1 lock(s)"


class Locked(Stack):
    """A stack that another run updates: its state has the pending operations of that run."""

    def pulumi(self, *words: str, cwd: Path = Path(), given: str | None = None) -> CompletedProcess[str]:  # noqa: ARG002
        if words[0] == "refresh":
            return CompletedProcess([], 255, "", LOCKED)
        begun: dict[str, Any] = {
            "type": "creating",
            "resource": {"urn": "urn", "type": "kubernetes:apps/v1:Deployment", "inputs": {}},
        }
        return CompletedProcess([], 0, json.dumps({"deployment": {"pending_operations": [begun]}}), "")


def take_out(stack: Stack) -> None:
    take_out_additions(stack, Objects([], {}))


@pytest.mark.parametrize("change", [recovery.clear_unfinished, take_out])
def test_nothing_is_deleted_while_an_update_runs(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Stack], None]
) -> None:
    def unasked(*words: str) -> None:
        pytest.fail(f"kubectl {words}")

    monkeypatch.setattr(recovery, "on", lambda _: [])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    for module in (recovery, additions):
        monkeypatch.setattr(module, "ask", unasked)
    monkeypatch.setattr(additions, "objects_of", lambda _: Objects([], {}))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(additions, "additions", lambda _: ["one"])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    with pytest.raises(EstateError, match="cannot be changed now, and was not: error: the stack is currently locked"):
        change(Locked("local", parse(MINIMUM, "here"), Target(Path(), "estate", {}, embedded=False)))
