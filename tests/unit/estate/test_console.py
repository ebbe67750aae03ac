"""Questions of a command to its user."""

import errno
import io
import sys
from pathlib import Path

import pytest

from estate.core.console import EstateError, confirm
from estate.core.paths import write_whole
from tests.support.terminal import Terminal


def test_a_risk_is_taken_when_the_stack_is_named_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("local"))
    confirm("What it was.", "local", "estate restore --yes", agreed=False)
    monkeypatch.setattr(sys, "stdin", Terminal("y"))
    with pytest.raises(EstateError, match="nothing was changed"):
        confirm("What it was.", "local", "estate restore --yes", agreed=False)


def test_without_a_terminal_a_risk_is_taken_only_if_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("local\n"))
    with pytest.raises(EstateError, match="estate restore --yes"):
        confirm("What it was.", "local", "estate restore --yes", agreed=False)
    confirm("What it was.", "local", "estate restore --yes", agreed=True)


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "page"
    write_whole(file, "before")

    def full(path: Path, _text: str) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(file, "after")
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]
