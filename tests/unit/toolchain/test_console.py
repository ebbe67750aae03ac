"""What a command asks of whoever runs it."""

import sys

import pytest

from toolchain.console import ToolchainError, confirm


class Terminal:
    """Somebody who types one line; or nobody."""

    def __init__(self, line: str = "") -> None:
        self.line = line

    def isatty(self) -> bool:
        return bool(self.line)

    def readline(self) -> str:
        return self.line + "\n"


def test_a_risk_is_taken_when_the_stack_is_named_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE", raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal("local"))
    confirm("What it was.", "local", "make restore FORCE=1")
    monkeypatch.setattr(sys, "stdin", Terminal("y"))
    with pytest.raises(ToolchainError, match="nothing was changed"):
        confirm("What it was.", "local", "make restore FORCE=1")


def test_a_risk_is_taken_unasked_by_force_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setenv("FORCE", "")
    with pytest.raises(ToolchainError, match="make restore FORCE=1"):
        confirm("What it was.", "local", "make restore FORCE=1")
    monkeypatch.setenv("FORCE", "1")
    confirm("What it was.", "local", "make restore FORCE=1")
