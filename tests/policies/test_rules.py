"""Each rule with what it lets pass and what it does not."""

from typing import Any

import pytest

from policies import rules

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
GOOD_CONTAINER: dict[str, Any] = {
    "name": "app",
    "image": "registry.example/app:1@sha256:0",
    "resources": {"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Mi"}},
    "securityContext": {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}


def deployment(container: dict[str, Any], **pod: Any) -> dict[str, Any]:
    spec = {"automountServiceAccountToken": False, "containers": [container]} | pod
    return {"metadata": {"namespace": "estate"}, "spec": {"template": {"spec": spec}}}


def problems(properties: dict[str, Any], resource_type: str = DEPLOYMENT) -> list[str]:
    return [problem for rule in rules.RULES for problem in rule(resource_type, properties)]


def test_a_careful_deployment_passes_every_rule() -> None:
    assert problems(deployment(GOOD_CONTAINER)) == []


def test_the_pods_own_context_counts_for_its_containers() -> None:
    security = {key: value for key, value in GOOD_CONTAINER["securityContext"].items() if key != "runAsNonRoot"}
    inherited = deployment(GOOD_CONTAINER | {"securityContext": security}, securityContext={"runAsNonRoot": True})
    assert problems(inherited) == []


@pytest.mark.parametrize(
    ("setting", "value", "fragment"),
    [
        ("runAsNonRoot", False, "may run as root"),
        ("allowPrivilegeEscalation", True, "may gain privileges"),
        ("readOnlyRootFilesystem", False, "can write its own image"),
        ("capabilities", {}, "keeps capabilities"),
    ],
)
def test_a_privilege_is_named_with_the_setting_that_takes_it(setting: str, value: Any, fragment: str) -> None:
    security = GOOD_CONTAINER["securityContext"] | {setting: value}
    (problem,) = problems(deployment(GOOD_CONTAINER | {"securityContext": security}))
    assert fragment in problem
    assert setting in problem


def test_init_containers_are_held_to_the_same() -> None:
    assert len(problems(deployment(GOOD_CONTAINER, initContainers=[{"name": "init"}]))) == 8


def test_a_missing_limit_is_named() -> None:
    bounds = {"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "1"}}
    (problem,) = problems(deployment(GOOD_CONTAINER | {"resources": bounds}))
    assert problem == "container app has no limits.memory: set resources.limits.memory"


def test_an_image_by_its_tag_is_named() -> None:
    (problem,) = problems(deployment(GOOD_CONTAINER | {"image": "registry.example/app:1"}))
    assert problem == (
        "container app runs registry.example/app:1 by a tag: name it by digest, registry.example/app:1@sha256:…"
    )


def test_a_mounted_token_is_named() -> None:
    (problem,) = problems(deployment(GOOD_CONTAINER, automountServiceAccountToken=True))
    assert "automountServiceAccountToken: false" in problem


@pytest.mark.parametrize("namespace", [None, "default"])
def test_the_default_namespace_is_refused(namespace: str | None) -> None:
    (problem,) = problems({"metadata": {"namespace": namespace}}, "kubernetes:core/v1:Service")
    assert "metadata.namespace" in problem


def test_a_namespace_is_in_none() -> None:
    assert problems({"metadata": {"name": "estate"}}, "kubernetes:core/v1:Namespace") == []
