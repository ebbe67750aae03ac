"""Summaries of Pulumi's output of a preview of stack local with `postgres.kind: cluster`, which a policy refused; irrelevant parts are removed."""

from pathlib import Path
from typing import Any

import pytest

from estate.core.markdown import code
from estate.delivery.preview_summary import markdown
from estate.pulumi.events import SECRET, at, events, preview_of

RECORDED = Path(__file__).parent / "recorded" / "preview.jsonl"
PLANTED = "planted-secret"


@pytest.fixture(scope="module")
def comment() -> str:
    return markdown("local", preview_of(events(RECORDED)))


def event(op: str, kind: str, old: dict[str, Any] | None = None, new: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the log's event for a resource whose inputs differ in `data`."""
    urn = f"urn:pulumi:local::estate::kubernetes:core/v1:{kind}::thing"
    states: dict[str, Any] = {"old": {"inputs": old}, "new": {"inputs": new}}
    metadata: dict[str, Any] = {
        "op": op,
        "urn": urn,
        "type": f"kubernetes:core/v1:{kind}",
        "detailedDiff": {"data.a": {}},
        **states,
    }
    return {"resourcePreEvent": {"metadata": metadata}}


def test_the_first_line_names_the_stack_for_whoever_looks_for_the_comment(comment: str) -> None:
    assert comment.splitlines()[0] == "<!-- estate: preview of local -->"


def test_changes_are_counted_once_each(comment: str) -> None:
    assert "### Stack local: 8 to create, 4 to delete, 2 to replace, 4 to update" in comment


def test_why_it_cannot_be_and_what_may_lose_data_come_first(comment: str) -> None:
    order = [
        "Refused by policies",
        "images-by-digest of Deployment `redis`: `redis container redis runs docker.io/library/redis:7.0 by a tag",
        "May lose data",
        "**delete** StatefulSet `postgres`",
        "**delete** Secret `postgres`",
        "Deleted or replaced",
        "**delete** Service `postgres`",
        "<details>",
        "**update** Deployment `user-service`: `spec.replicas 3 → 2`",
        "3 remarks of policies",
    ]
    places = [comment.index(part) for part in order]
    assert places == sorted(places)


def test_what_only_the_update_will_tell_is_not_a_strange_number(comment: str) -> None:
    assert "6c036291d760 → (known later)" in comment
    assert "04da6b54" not in comment


def test_nothing_to_do_is_said() -> None:
    assert "### Stack dev: no changes" in markdown("dev", preview_of([event("same", "Service")]))


@pytest.mark.parametrize("op", ["create", "update", "replace", "delete"])
def test_values_of_a_secret_are_never_shown(op: str) -> None:
    planted = event(op, "Secret", {"data": {"a": PLANTED}}, {"data": {"a": f"another-{PLANTED}"}})
    reported = markdown("local", preview_of([planted]))
    assert f"**{op}** Secret `thing`" in reported
    assert PLANTED not in reported


def test_a_value_that_is_marked_as_secret_elsewhere_is_masked() -> None:
    masked = {SECRET: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": PLANTED}
    reported = markdown(
        "local", preview_of([event("update", "ConfigMap", {"data": {"a": "b"}}, {"data": {"a": masked}})])
    )
    assert "`data.a b → [secret]`" in reported
    assert PLANTED not in reported


def test_a_failure_is_shown_by_its_last_line() -> None:
    said = {"severity": "error", "message": "Traceback (most recent call last):\n  File …\nSettingsError: wrong\n\n"}
    reported = markdown("local", preview_of([{"diagnosticEvent": said}]))
    assert "**The preview failed**\n\n- `SettingsError: wrong`" in reported


def test_a_comment_is_never_longer_than_one_may_be() -> None:
    reported = markdown("local", preview_of([event("delete", "StatefulSet")] * 10_000))
    assert len(reported) < 65_536
    assert reported.endswith("Cut here: the rest is in what the job printed.\n")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.containers[1].image", "b"),
        ('metadata.annotations["pulumi.com/x"]', "y"),
        ("spec.containers[2].image", None),
        ("spec.absent.image", None),
    ],
)
def test_a_path_leads_to_its_value(path: str, value: str | None) -> None:
    inputs = {
        "spec": {"containers": [{"image": "a"}, {"image": "b"}]},
        "metadata": {"annotations": {"pulumi.com/x": "y"}},
    }
    assert at(inputs, path) == value


def test_a_code_span_ends_where_it_should() -> None:
    assert code("a `b`\n c") == "`a 'b' c`"
