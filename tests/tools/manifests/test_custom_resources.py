"""Every object of a kind that an operator adds is valid for the operator's release down to its last field."""

import copy
from typing import Any

import pytest
import yaml

from estate.cluster.addons import released
from estate.pulumi.program import run_program
from estate.stack.target import embedded
from estate.tools.build import toolbox
from tests.support.schemas import CUSTOM, of_definition, refused_by

pytestmark = pytest.mark.skipif(not embedded(), reason="the operator's release is one of the embedded tools")


@pytest.fixture(scope="module")
def definitions() -> dict[str, dict[str, Any]]:
    """Return the definitions that CloudNativePG's release adds to Kubernetes, by kind."""
    assert toolbox().folder.exists(), "the tools are not built: estate tools build"
    documents = [yaml.safe_load(document) for document in released(toolbox())]
    added = [one for one in documents if one["kind"] == "CustomResourceDefinition"]
    return {definition["spec"]["names"]["kind"]: definition for definition in added}


def custom(stack: str) -> list[dict[str, Any]]:
    """Return a stack's objects of such kinds."""
    return [resource.inputs for resource in run_program(stack) if resource.inputs.get("kind") in CUSTOM]


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_operator_knows_every_field(stack: str, definitions: dict[str, dict[str, Any]]) -> None:
    for manifest in custom(stack):
        version = manifest["apiVersion"].rpartition("/")[2]
        assert refused_by(of_definition(definitions[manifest["kind"]], version), manifest) == []
    assert {manifest["kind"] for manifest in custom(stack)} == CUSTOM


@pytest.mark.parametrize(("path", "field"), [("", "instances"), ("postgresql", "parameters"), ("storage", "size")])
def test_a_misspelt_field_is_refused(path: str, field: str, definitions: dict[str, dict[str, Any]]) -> None:
    (manifest,) = copy.deepcopy(custom("prod"))
    table = manifest["spec"][path] if path else manifest["spec"]
    table[f"{field}s"] = table.pop(field)
    problems = refused_by(of_definition(definitions["Cluster"], "v1"), manifest)
    assert any(f"{field}s" in problem for problem in problems)
