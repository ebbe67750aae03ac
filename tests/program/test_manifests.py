"""Every manifest is valid for Kubernetes down to its last field: a misspelt one would be dropped in silence."""

import copy
from collections import defaultdict
from string import Template
from typing import Any

import pytest
import yaml

from estate.cluster.addons import MANIFESTS
from estate.pulumi.program import Registered, run_program
from tests.support.schemas import manifests, problems, refused_of

MISSPELT = (
    ("Deployment", "spec.template.spec.topologySpreadConstraints.0", "maxSkew", "maxSkews"),
    ("Deployment", "spec.template.spec.containers.0.readinessProbe", "timeoutSeconds", "timeoutSecond"),
    (
        "Deployment",
        "spec.template.spec.containers.0.securityContext",
        "readOnlyRootFilesystem",
        "readonlyRootFilesystem",
    ),
    ("Deployment", "spec.template.spec.containers.0", "volumeMounts", "volumeMount"),
    ("Deployment", "spec.strategy.rollingUpdate", "maxUnavailable", "maxUnavailabe"),
    ("StatefulSet", "spec.template.spec", "terminationGracePeriodSeconds", "terminationGracePeriod"),
    ("CronJob", "spec.jobTemplate.spec.template.spec.containers.0.resources", "limits", "limit"),
    ("CronJob", "spec", "startingDeadlineSeconds", "startingDeadlineSecond"),
    ("NetworkPolicy", "spec", "policyTypes", "policyType"),
    ("Service", "spec.ports.0", "targetPort", "targetport"),
    ("PodDisruptionBudget", "spec.selector", "matchLabels", "matchLabel"),
    ("Ingress", "spec.rules.0.http.paths.0", "pathType", "pathtype"),
)
"""Cases of kind, path, field there, and the field misspelt."""


def inside(manifest: Any, path: str) -> dict[str, Any] | None:
    """Return the table at a path, if the manifest has it."""
    for step in path.split("."):
        try:
            manifest = manifest[int(step) if step.isdigit() else step]
        except (KeyError, IndexError):
            return None
    return manifest


def test_kubernetes_knows_every_field(estate: list[Registered]) -> None:
    assert refused_of(estate) == {}
    assert len(manifests(estate)) > 100


@pytest.mark.parametrize("file", sorted(MANIFESTS.glob("*.yaml")), ids=lambda file: file.stem)
def test_kubernetes_knows_every_field_of_an_addon(file: Any) -> None:
    values = defaultdict(lambda: "x", http_port="80", https_port="443")
    found = [problems(one) for one in yaml.safe_load_all(Template(file.read_text()).substitute(values))]
    assert found == [[]] * len(found)


@pytest.mark.parametrize(("kind", "path", "field", "misspelt"), MISSPELT)
def test_a_misspelt_field_is_refused(kind: str, path: str, field: str, misspelt: str) -> None:
    of_kind = [one.inputs for one in manifests(run_program("prod")) if one.inputs["kind"] == kind]
    changed = copy.deepcopy(next(one for one in of_kind if field in (inside(one, path) or ())))
    table = inside(changed, path)
    assert table
    table[misspelt] = table.pop(field)
    assert any(misspelt in problem for problem in problems(changed))


def test_a_field_that_is_missing_is_refused() -> None:
    service = next(one for one in manifests(run_program("prod")) if one.inputs["kind"] == "Service")
    changed = copy.deepcopy(service.inputs)
    del changed["spec"]["ports"][0]["port"]
    assert problems(changed) == ["$.spec.ports[0]: 'port' is a required property"]
