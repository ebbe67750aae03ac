"""`make up` of a stack that holds data: no stateful resource is deleted or replaced by mistake."""

from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any, cast

import pytest

from estate.core.console import EstateError
from estate.ops import update
from estate.stack.model import Stack

CLAIM, SERVER = (
    f"urn:pulumi:prod::estate::kubernetes:{kind}"
    for kind in ("core/v1:PersistentVolumeClaim::b", "apps/v1:StatefulSet::s")
)
UNABLE = f'error: unable to replace resource "{SERVER}"\n    as it is currently marked for protection.'

Preview = tuple[list[dict[str, Any]], str]


class Kept:
    """A protected stack; it records the commands to Pulumi.

    Args:
        events: events of a preview, until a resource is unprotected.
        printed: the output of the preview, likewise.
    """

    name = "prod"
    settings = SimpleNamespace(protected=True, stage="prod")

    def __init__(self, events: list[dict[str, Any]], printed: str) -> None:
        other = step("same", "urn:pulumi:prod::estate::kubernetes:core/v1:Namespace::estate-prod")
        self.preview: Preview = ([other, *events], printed)
        self.protected = [CLAIM, SERVER]
        self.said: list[str] = []

    def pulumi_shown(self, *words: str) -> None:
        self.said.append(" ".join(words))
        self.protected.remove(words[2])
        self.preview = [], ""


def step(op: str, urn: str) -> dict[str, Any]:
    """Return the event log's event for a resource."""
    return {"resourcePreEvent": {"metadata": {"op": op, "urn": urn, "type": urn.split("::")[2]}}}


@pytest.fixture
def stack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kept:
    kept = Kept(*request.param)

    def protected(_stack: Kept) -> list[str]:
        return kept.protected

    def events_of(_stack: Kept, *_words: str) -> tuple[CompletedProcess[str], list[dict[str, Any]]]:
        events, printed = kept.preview
        return CompletedProcess([], int(bool(printed)), printed, ""), events

    def refuse_too_large(_stack: Kept, _told: object) -> None: ...

    for replaced in (protected, events_of, refuse_too_large):
        monkeypatch.setattr(update, replaced.__name__, replaced)
    return kept


LOSING: list[Preview] = [([step("delete", CLAIM)], ""), ([step("same", CLAIM)], UNABLE)]
HARMLESS: list[Preview] = [
    ([], ""),
    ([step("update", CLAIM), step("delete", "urn:pulumi:prod::estate::kubernetes:core/v1:Service::app")], ""),
]


@pytest.mark.parametrize("stack", LOSING, indirect=True, ids=["deleted", "replaced"])
def test_nothing_is_let_go_unasked(stack: Kept) -> None:
    with pytest.raises(
        EstateError, match=r"in stack prod: \w+ [bs]\. Say that this is meant: estate up --stack prod --yes"
    ):
        update.look_ahead(stack)  # pyright: ignore[reportArgumentType]
    assert stack.said == []


@pytest.mark.parametrize(
    ("stack", "urn"), [(LOSING[0], CLAIM), (LOSING[1], SERVER)], indirect=["stack"], ids=["deleted", "replaced"]
)
def test_what_goes_is_let_go_by_who_means_it_and_nothing_else(stack: Kept, urn: str) -> None:
    update.look_ahead(stack, agreed=True)  # pyright: ignore[reportArgumentType]
    assert stack.said == [f"state unprotect {urn} --yes --stack prod"]


@pytest.mark.parametrize("stack", HARMLESS, indirect=True, ids=["nothing", "something else"])
def test_no_confirmation_is_asked_for_without_data(stack: Kept) -> None:
    update.look_ahead(stack)  # pyright: ignore[reportArgumentType]
    assert stack.said == []


def test_an_update_that_only_deletes_is_refused() -> None:
    stack = cast("Stack", SimpleNamespace(name="dev"))
    same = {"resourcePreEvent": {"metadata": {"op": "same", "urn": "s", "type": "pulumi:pulumi:Stack"}}}
    with pytest.raises(EstateError, match="the program declares nothing"):
        update.refuse_removal(stack, [same, step("delete", CLAIM), step("delete", SERVER)])
    update.refuse_removal(stack, [same])
    update.refuse_removal(stack, [same, step("delete", CLAIM), step("same", SERVER)])
