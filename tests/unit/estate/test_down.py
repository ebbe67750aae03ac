"""`estate down` of a stack that holds data: protection from mistakes."""

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from subprocess import CompletedProcess

import pytest

from estate.core.console import EstateError
from estate.ops import update
from tests.support.terminal import Terminal


class Kept:
    """A stack with, or without, a protected claim; it records the commands to Pulumi."""

    name = "prod"

    def __init__(self, *, protect: bool) -> None:
        self.reported: list[str] = []
        claim = {"urn": "urn:pulumi:prod::estate::kubernetes:core/v1:PersistentVolumeClaim::backups"}
        of = {"type": "kubernetes:core/v1:PersistentVolumeClaim", "protect": protect}
        self.state = {
            "deployment": {
                "resources": [
                    claim | of,
                    {"urn": "…::app", "type": "kubernetes:core/v1:Service", "id": "estate-prod/app"},
                ]
            }
        }

    def pulumi(self, *_words: str) -> CompletedProcess[str]:
        return CompletedProcess([], 0, json.dumps(self.state), "")

    def pulumi_shown(self, *words: str, hopeless: object = None) -> None:  # noqa: ARG002 - as Stack's
        self.reported.append(" ".join(words[:2]))


@pytest.fixture
def stack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kept:
    kept = Kept(protect=request.param)

    @contextmanager
    def opened(_name: str) -> Generator[Kept]:
        yield kept

    def on(_stack: Kept) -> list[str]:
        return ["--stack=prod"]

    def load(_name: str) -> None: ...

    for replaced in (opened, on, load):
        monkeypatch.setattr(update, replaced.__name__, replaced)
    return kept


@pytest.mark.parametrize("stack", [True], indirect=True)
def test_what_is_protected_stays_and_so_does_everything_else(stack: Kept) -> None:
    with pytest.raises(EstateError) as refused:
        update.down("prod")
    assert str(refused.value) == (
        "stack prod is protected, and was left as it is (PersistentVolumeClaim backups): "
        "estate down --stack prod --yes removes it with all its data"
    )
    assert stack.reported == []


@pytest.mark.parametrize("stack", [True], indirect=True)
def test_who_means_it_says_so(stack: Kept) -> None:
    update.down("prod", agreed=True)
    assert stack.reported == ["state unprotect", "destroy --yes"]


@pytest.mark.parametrize("stack", [False], indirect=True)
def test_a_stack_without_protection_needs_no_more_words(stack: Kept) -> None:
    update.down("prod")
    assert stack.reported == ["destroy --yes"]


@pytest.mark.parametrize("stack", [True, False], indirect=True)
@pytest.mark.parametrize(("line", "removed"), [("prod", True), ("y", False), ("", False)])
def test_a_user_at_a_terminal_is_asked_once(
    stack: Kept, line: str, monkeypatch: pytest.MonkeyPatch, *, removed: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(line))
    if removed:
        update.down("prod")
    else:
        with pytest.raises(EstateError, match="nothing was changed"):
            update.down("prod")
    assert ("destroy --yes" in stack.reported) == removed
