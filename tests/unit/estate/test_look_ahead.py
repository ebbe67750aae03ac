"""`make up` changes nothing where a preview finds no changes, or shows that the update would fail."""

from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest

from estate.core.console import EstateError
from estate.ops import update
from estate.ops.starting import Starts
from estate.pulumi.events import CLAIM, STACK, due, only_replaced

SERVER = "kubernetes:apps/v1:StatefulSet"
PRINTED = "Previewing update (local):\n +  one create\nDiagnostics:\n  pg:\n    error: it is invalid\n\nResources:\n    1 errored\n"
Event = dict[str, Any]


def step(op: str, kind: str = SERVER, old: Event | None = None, new: Event | None = None) -> Event:
    return {"resourcePreEvent": {"metadata": {"op": op, "type": kind, "urn": kind, "old": old, "new": new}}}


def outputs(old: Event, new: Event, kind: str = STACK) -> Event:
    metadata = {"op": "same", "type": kind, "urn": kind, "old": {"outputs": old}, "new": {"outputs": new}}
    return {"resOutputsEvent": {"metadata": metadata}}


def error(urn: str, message: str = "it is invalid\n") -> Event:
    return {"diagnosticEvent": {"urn": urn, "severity": "error", "message": message}}


APART = (
    "ops.update.clear_unfinished",
    "ops.update.forget_taken_over",
    "ops.update.growing",
    "ops.update.leaving",
    "ops.update.objects_of",
    "ops.update.on",
    "ops.update.refuse_missing",
    "ops.update.refuse_other_major",
    "ops.update.refuse_too_large",
    "ops.update.take_out_additions",
    "stack.releases.keep",
    "stack.releases.known",
    "stack.releases.of",
    "stack.releases.with_newest",
)
"""Parts of an update that have tests of their own."""
FAILED = {"diagnosticEvent": {"severity": "error", "message": "preview failed\n"}}
POLICY = {"policyEvent": {"enforcementLevel": "mandatory"}}
SAME = [
    step("refresh", old={"id": "a"}, new={"id": "a"}),
    step("read"),
    step("same", old={"id": "a", "protect": True, "inputs": {}}, new={"id": "", "protect": True, "inputs": {}}),
    outputs({"urls": "x"}, {"urls": "x"}),
    outputs({"status": 1}, {}, SERVER),  # which only an update knows
    {"summaryEvent": {"resourceChanges": {"same": 1}}},
]
CHANGES: dict[str, Event] = {
    **{
        op: step(op)
        for op in ("create", "update", "delete", "replace", "create-replacement", "delete-replaced", "discard")
    },
    "protected": step("same", old={}, new={"protect": True}),
    "no longer protected": step("same", old={"protect": True}, new={}),
    "retained": step("same", old={}, new={"retainOnDelete": True}),
    "another parent": step("same", old={"parent": "a"}, new={"parent": "b"}),
    "an output": outputs({}, {"urls": "x"}),
    "an output less": outputs({"urls": "x"}, {}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_differs_makes_an_update_due(change: Event) -> None:
    assert not due(SAME)
    assert due([*SAME, change])


@pytest.mark.parametrize(
    ("reported", "passed_over"),
    [
        ([step("replace"), error(SERVER), FAILED], True),
        ([step("replace"), error(SERVER), error("another"), FAILED], False),
        ([step("update"), error(SERVER), FAILED], False),
        ([step("replace", CLAIM), error(CLAIM), FAILED], False),  # the update does not delete it first
        ([step("replace"), error(SERVER), POLICY, FAILED], False),
        ([step("replace"), FAILED], False),  # the failed resource is unknown
    ],
)
def test_only_what_an_update_deletes_first_may_fail_in_a_preview(reported: list[Event], *, passed_over: bool) -> None:
    assert only_replaced(reported) is passed_over


class Updated:
    """A stack, and the commands that were run on it."""

    name = "local"
    settings = SimpleNamespace(protected=False, stage="local")
    target = SimpleNamespace(embedded=False)

    def __init__(self) -> None:
        self.done: list[str] = []

    def pulumi_shown(self, *words: str, hopeless: object = None) -> None:  # noqa: ARG002 - as Stack's
        self.done.append(words[0])


def nothing(*_words: object) -> list[str]:
    return []


def images(_stack: object) -> dict[str, Any]:
    return {"images": {}}


def stack_of(monkeypatch: pytest.MonkeyPatch, reported: list[Event], code: int) -> Updated:
    """Return a stack with the given preview."""

    def events_of(_stack: Updated, *words: str) -> tuple[CompletedProcess[str], list[Event]]:
        assert words[:2] == ("preview", "--policy-pack")
        return CompletedProcess([], code, PRINTED, ""), reported

    for name in APART:
        monkeypatch.setattr(f"estate.{name}", nothing)
    monkeypatch.setattr(update, "Deletions", Starts)
    monkeypatch.setattr(update, "outputs", images)
    monkeypatch.setattr(update, "events_of", events_of)
    return Updated()


@pytest.mark.parametrize(
    ("reported", "code", "done"),
    [
        (SAME, 0, []),
        ([*SAME, step("update")], 0, ["up"]),
        ([step("replace"), error(SERVER), FAILED], 1, ["up"]),
    ],
    ids=["nothing", "an update", "a replacement"],
)
def test_an_update_is_run_where_one_is_due(
    monkeypatch: pytest.MonkeyPatch, reported: list[Event], code: int, done: list[str]
) -> None:
    stack = stack_of(monkeypatch, reported, code)
    update.update(stack)  # pyright: ignore[reportArgumentType]
    assert stack.done == done


@pytest.mark.parametrize("reported", [[step("update"), error(SERVER), FAILED], []], ids=["refused", "crashed"])
def test_none_is_run_that_would_fail(monkeypatch: pytest.MonkeyPatch, reported: list[Event]) -> None:
    stack = stack_of(monkeypatch, reported, 1)
    with pytest.raises(EstateError) as refused:
        update.update(stack)  # pyright: ignore[reportArgumentType]
    assert stack.done == []
    assert str(refused.value) == (
        "the update of stack local would fail, and nothing was changed:\n"
        "Diagnostics:\n  pg:\n    error: it is invalid\n\nResources:\n    1 errored"
    )
