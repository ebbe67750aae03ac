from datetime import UTC, datetime

import pytest
import yaml

from estate.core.console import EstateError
from estate.delivery.promotion import must_be_committed, other_images, unwell, with_release
from estate.report.status import Alert, Status, Workload
from estate.stack.releases import Release
from infra.settings.load import parse

BEFORE = """\
# Stack staging.
config:
  estate:settings:
    stage: staging
    registry: registry.example/estate # ours
    images: {redis: redis:7, python: "python:3.11"}
    api_server: {networks: [10.213.0.1/32]}
    ingress: {namespace: ingress-nginx}
"""
DIGESTS = {"user-service": "registry.example/estate/user-service@sha256:" + "1" * 64}
REDIS = {"redis": "redis:7.0@sha256:" + "2" * 64}
PROMOTED = {"stack": "dev", "commit": "c0ffee", "at": "2026-01-01T00:00:00+00:00", "by": "ada@example.com"}


def test_a_release_is_added_to_the_file_whose_comments_stay() -> None:
    after = with_release(BEFORE, DIGESTS, REDIS, PROMOTED)
    settings = yaml.safe_load(after)["config"]["estate:settings"]
    assert settings["digests"] == DIGESTS
    assert settings["images"] == {**REDIS, "python": "python:3.11"}
    assert settings["promoted"] == PROMOTED
    assert "# Stack staging." in after
    assert "registry: registry.example/estate # ours" in after
    assert parse(settings, "staging").promoted


def test_a_release_that_the_file_names_changes_nothing_not_even_its_date() -> None:
    after = with_release(BEFORE, DIGESTS, REDIS, PROMOTED)
    assert with_release(after, DIGESTS, REDIS, PROMOTED | {"at": "2026-01-02T00:00:00+00:00"}) == after


def test_a_service_that_runs_another_image_than_it_was_given_is_named() -> None:
    pod = {"spec": {"containers": [{"image": "users@sha256:1"}]}}
    deployment = {"metadata": {"name": "user-service"}, "spec": {"template": pod}}
    assert other_images([deployment], {"user-service": "users@sha256:1"}) == []
    (problem,) = other_images([deployment], {"user-service": "users@sha256:2"})
    assert problem == "user-service runs users@sha256:1, not users@sha256:2"


def test_what_no_commit_has_does_not_come_to_prod() -> None:
    must_be_committed("staging", Release({}, "c0ffee", "now"))
    with pytest.raises(EstateError, match=r"stack staging runs what .* no commit has \(c0ffee-dirty\): commit them"):
        must_be_committed("staging", Release({}, "c0ffee-dirty", "now"))


def status(*, ready: int = 3, severity: str = "warning", unanswered: str | None = None) -> Status:
    workload = Workload(name="user-service", kind="Deployment", ready=ready, desired=3, restarts=0, image="i", age_s=1)
    alert = Alert(name="A", severity=severity, service="s", summary="it is so", runbook="", since=datetime.now(UTC))
    return Status(
        stack="dev", at=datetime.now(UTC), workloads=[workload], objectives=[], alerts=[alert],
        deviations=[], unanswered=unanswered, release={}, releases=1, versions={}, urls={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        (status(), []),
        (status(ready=2), ["user-service has 2 of 3 ready"]),
        (status(severity="critical"), ["A fires: it is so"]),
        (status(unanswered="Prometheus is away"), ["Prometheus is away"]),
    ],
)
def test_what_is_not_ready_fires_or_is_not_known_keeps_a_stack_from_being_promoted(
    found: Status, problems: list[str]
) -> None:
    assert unwell(found) == problems
