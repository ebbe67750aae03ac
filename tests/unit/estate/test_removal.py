"""Large folders disappear at once, and their content is deleted later, even if a process is killed meanwhile."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from estate.core import removal
from estate.core.removal import delete_removed, remove, removed
from estate.tools import build
from tests.support.running import eventually

NEVER_S = 60


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a root with a folder that has content."""
    monkeypatch.setattr(removal, "ROOTS", (tmp_path,))
    (tmp_path / "go" / "build").mkdir(parents=True)
    (tmp_path / "go" / "build" / "object").touch()
    return tmp_path


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the deletions, each killed before it begins."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> None:
        commands.append(command)

    monkeypatch.setattr(removal.subprocess, "run", run)
    return commands


def left(root: Path) -> list[Path]:
    """Return the paths that are still on the disk."""
    return list(removed(root).glob("*"))


def test_what_is_removed_is_deleted_in_a_while(root: Path) -> None:
    remove(root / "go")
    assert not (root / "go").exists()
    eventually(lambda: left(root) == [], "nothing is left", NEVER_S)


def test_nothing_is_deleted_while_the_command_waits(root: Path, killed: list[list[str]]) -> None:
    remove(root / "go")
    assert not (root / "go").exists()
    (waiting,) = left(root)
    assert (waiting / "build" / "object").exists()
    assert killed[0][-1] == str(waiting)


@pytest.mark.usefixtures("killed")
def test_two_of_one_name_may_wait(root: Path) -> None:
    for _ in range(2):
        (root / "go").mkdir(exist_ok=True)
        remove(root / "go")
    assert len(left(root)) == 2


def test_the_next_run_deletes_what_one_that_was_killed_has_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(removal, "delete_removed", lambda: None)
        remove(root / "go")
    assert left(root)
    delete_removed()
    eventually(lambda: left(root) == [], "nothing is left", NEVER_S)


def test_what_is_written_during_the_deletion_goes_too(root: Path) -> None:
    """Write files as a process does that was ended a moment before."""
    script = f"for name in $(seq 300); do echo >{removed(root)}/*/build/$name || exit; done 2>/dev/null"
    remove(root / "go")
    subprocess.run(["bash", "-c", script], check=False, stderr=subprocess.DEVNULL)
    eventually(lambda: left(root) == [], "nothing is left", NEVER_S)


def test_what_is_not_there_is_removed(root: Path, killed: list[list[str]]) -> None:
    remove(root / "nothing")
    assert (left(root), killed) == ([], [])


def test_what_cannot_be_renamed_is_deleted_where_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a mount point, whose root may stay."""

    def busy(_path: Path, _target: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "rename", busy)
    remove(root / "go")
    assert not (root / "go" / "build").exists()


def test_the_next_run_removes_the_go_caches_that_a_killed_build_has_left(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = build.Toolbox(root / "all", root / "debian")
    box.folder.mkdir()
    monkeypatch.setattr(build, "BUILDS", root)
    monkeypatch.setattr(build, "GO_CACHE", root / "go")
    monkeypatch.setattr(build, "toolbox", lambda: box)
    monkeypatch.setattr(build, "load", lambda: ([], build.Debian("suite", (), ())))  # pyright: ignore[reportUnknownLambdaType]
    monkeypatch.setattr(build.Debian, "folder", box.folder)
    assert build.build_missing() == box
    assert not (root / "go").exists()


@pytest.mark.usefixtures("killed")
def test_the_caches_of_a_build_at_work_stay(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BUILDS", root)
    monkeypatch.setattr(build, "GO_CACHE", root / "go")
    with (root / "go.lock").open("w") as building:
        build.fcntl.flock(building, build.fcntl.LOCK_SH)
        build.remove_go_cache()
        assert (root / "go").exists()
    build.remove_go_cache()
    assert not (root / "go").exists()
