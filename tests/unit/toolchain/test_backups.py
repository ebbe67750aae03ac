import sys
from typing import Any

import pytest

from toolchain.backups import confirm, once_more, with_environment
from toolchain.console import ToolchainError


class Terminal:
    """Somebody who types one line; or nobody."""

    def __init__(self, line: str = "") -> None:
        self.line = line

    def isatty(self) -> bool:
        return bool(self.line)

    def readline(self) -> str:
        return self.line + "\n"


def test_a_restore_goes_on_when_the_stack_is_named_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE", raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal("local"))
    confirm("What it was.", "local")
    monkeypatch.setattr(sys, "stdin", Terminal("y"))
    with pytest.raises(ToolchainError, match="nothing was changed"):
        confirm("What it was.", "local")


def test_a_restore_goes_on_unasked_by_force_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setenv("FORCE", "")
    with pytest.raises(ToolchainError, match="make restore STACK=local FORCE=1"):
        confirm("What it was.", "local")
    monkeypatch.setenv("FORCE", "1")
    confirm("What it was.", "local")


def test_a_job_is_run_once_more_without_what_kubernetes_put_into_the_first() -> None:
    first: dict[str, Any] = {
        "metadata": {"name": "m-1", "labels": {"app.kubernetes.io/name": "m"}, "uid": "1"},
        "spec": {
            "backoffLimit": 3,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "1"}},
            "template": {"metadata": {"labels": {"controller-uid": "1"}}, "spec": {"containers": []}},
        },
    }
    again = once_more("m", first)
    assert again["spec"]["template"] == {
        "metadata": {"labels": {"app.kubernetes.io/name": "m"}},
        "spec": {"containers": []},
    }
    assert "selector" not in again["spec"]
    assert again["metadata"]["name"].startswith("m-")


def test_a_job_is_told_which_backup() -> None:
    job: dict[str, Any] = {"spec": {"template": {"spec": {"containers": [{"env": []}]}}}}
    (container,) = with_environment(job, {"FROM": "x.dump"})["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "FROM", "value": "x.dump"}]
