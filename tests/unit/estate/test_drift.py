import subprocess
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from estate.core.console import EstateError
from estate.delivery import drift
from estate.delivery.drift import drift_of, markdown
from estate.stack.model import NotUpError
from estate.stack.objects import Objects

URN = "urn:pulumi:local::estate::estate:web_service:WebService$kubernetes:core/v1:"
PLANTED = "planted-secret"


def refreshed(op: str, kind: str, old: str, new: str) -> dict[str, Any]:
    """Return the log's event for a resource after a refresh."""
    states = {"old": {"inputs": {"data": {"a": old}}}, "new": {"inputs": {"data": {"a": new}}}}
    metadata = {"op": op, "urn": f"{URN}{kind}::thing", "type": f"kubernetes:core/v1:{kind}"}
    return {"resOutputsEvent": {"metadata": metadata | {"detailedDiff": {"data.a": {"diffKind": "update"}}} | states}}


@pytest.mark.parametrize(
    ("event", "reported"),
    [
        (refreshed("update", "ConfigMap", "b", "c"), ["ConfigMap `thing`: `data.a b → c`"]),
        (refreshed("delete", "ConfigMap", "b", ""), ["ConfigMap `thing` is gone"]),
        (refreshed("update", "Secret", "b", PLANTED), ["Secret `thing`: `data.a`"]),
        (refreshed("same", "ConfigMap", "b", "b"), []),
        ({"summaryEvent": {}}, []),
    ],
)
def test_what_changed_or_is_gone_is_named_and_no_secret_is(event: dict[str, Any], reported: list[str]) -> None:
    assert drift_of([event]) == reported


def test_a_working_tree_that_has_changed_is_no_drift() -> None:
    image = refreshed("update", "Image", "b", "c")
    image["resOutputsEvent"]["metadata"]["type"] = "docker-build:index:Image"
    assert drift_of([image]) == []


def test_the_issue_says_of_which_stack_and_what_to_do() -> None:
    text = markdown("dev", ["ConfigMap `thing` is gone"])
    assert text.startswith("<!-- estate: drift of dev -->\n")
    assert "- ConfigMap `thing` is gone" in text
    assert "belongs into the program" in text


@pytest.mark.parametrize(
    ("refresh", "events", "added", "others", "end", "found"),
    [
        (0, [], [], [], nullcontext(), False),
        (0, [refreshed("delete", "ConfigMap", "b", "")], [], [], nullcontext(), True),
        (0, [], ["Role `thing`: `rules[1]` was added"], [], nullcontext(), True),
        (0, [], [], ["Role `another` is none of the program's"], nullcontext(), True),
        (1, [refreshed("delete", "ConfigMap", "b", "")], [], [], pytest.raises(EstateError), False),
    ],
    ids=["nothing drifted", "something drifted", "something was added", "a role by hand", "it cannot be determined"],
)
def test_the_answer_and_the_file_say_whether_something_drifted(
    refresh: int,
    events: list[dict[str, Any]],
    added: list[str],
    others: list[str],
    end: AbstractContextManager[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    found: bool,
) -> None:
    file = tmp_path / "build" / "drift" / "local.md"
    file.parent.mkdir(parents=True)
    file.write_text("of an earlier run")
    answer = subprocess.CompletedProcess([], refresh, "", ""), events
    monkeypatch.setattr(drift, "PROJECT", tmp_path)
    monkeypatch.setattr(drift, "opened", lambda name: nullcontext(SimpleNamespace(namespace=f"estate-{name}")))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(drift, "outputs", lambda *_: {})  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(drift, "events_of", lambda *_: answer)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(drift, "objects_of", lambda *_: Objects([], {}))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(drift, "foreign", lambda *_: others)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(drift, "additions", lambda *_: added)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    with end:
        assert drift.differs("local") == found
    assert file.exists() == found


def test_a_stack_that_is_not_up_is_no_stack_without_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "opened", lambda name: nullcontext(SimpleNamespace(namespace=f"estate-{name}")))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(drift, "outputs", not_up)
    with pytest.raises(NotUpError, match="stack dev is not up: estate up --stack dev"):
        drift.differs("dev")


def not_up(_stack: object) -> None:
    raise NotUpError("dev")
