from typing import Any

import pytest
import yaml

from infra.settings import parse
from toolchain.promotion import other_images, unready, with_release

BEFORE = """\
# Stack staging.
config:
  estate:settings:
    stage: staging
    registry: registry.example/estate # ours
    images: {redis: redis:7, python: "python:3.11"}
    api_server: {networks: [10.213.0.1/32]}
"""
DIGESTS = {"user-service": "registry.example/estate/user-service@sha256:1"}
REDIS = {"redis": "redis:7.0@sha256:2"}
PROMOTED = {"stack": "dev", "commit": "c0ffee", "at": "2026-01-01T00:00:00+00:00", "by": "ada@example.com"}


def test_a_release_is_written_beside_what_the_file_says_and_its_comments_stay() -> None:
    after = with_release(BEFORE, DIGESTS, REDIS, PROMOTED)
    settings = yaml.safe_load(after)["config"]["estate:settings"]
    assert settings["digests"] == DIGESTS
    assert settings["images"] == {"redis": "redis:7.0@sha256:2", "python": "python:3.11"}
    assert settings["promoted"] == PROMOTED
    assert "# Stack staging." in after
    assert "registry: registry.example/estate # ours" in after
    assert parse(settings, "staging").promoted


def test_a_release_that_the_file_names_changes_nothing_not_even_its_date() -> None:
    after = with_release(BEFORE, DIGESTS, REDIS, PROMOTED)
    assert with_release(after, DIGESTS, REDIS, PROMOTED | {"at": "2026-01-02T00:00:00+00:00"}) == after


def workload(kind: str = "Deployment", **status: Any) -> dict[str, Any]:
    pod = {"spec": {"containers": [{"image": "users@sha256:1"}]}}
    return {
        "kind": kind,
        "metadata": {"name": "user-service", "generation": 2},
        "spec": {"replicas": 3, "template": pod},
        "status": {"observedGeneration": 2, "readyReplicas": 3} | status,
    }


@pytest.mark.parametrize(
    ("status", "ready"),
    [({}, "3"), ({"readyReplicas": 2}, "2"), ({"observedGeneration": 1}, "3")],
)
def test_a_workload_that_is_not_as_it_is_wanted_is_named(status: dict[str, Any], ready: str) -> None:
    problems = unready([workload(**status)])
    assert problems == ([] if not status else [f"Deployment user-service has {ready} of 3 ready"])


def test_a_daemon_set_is_ready_on_each_of_its_nodes() -> None:
    assert unready([workload("DaemonSet", desiredNumberScheduled=2, numberReady=2)]) == []
    assert unready([workload("DaemonSet", desiredNumberScheduled=2, numberReady=1)]) != []


def test_a_service_that_runs_another_image_than_it_was_given_is_named() -> None:
    assert other_images([workload()], {"user-service": "users@sha256:1"}) == []
    (problem,) = other_images([workload()], {"user-service": "users@sha256:2"})
    assert problem == "user-service runs users@sha256:1, not users@sha256:2"
