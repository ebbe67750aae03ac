"""Volumes with a changed size, where the storage class lets none grow, as on the embedded cluster."""

import re

import pytest
import yaml

from estate.stack.model import Stack, read_yaml
from tests.support.running import Kubectl
from tests.support.stacks import estate, stack_file

KINDS = "persistentvolumeclaims,statefulsets,deployments,clusters.postgresql.cnpg.io"
VERSIONS = (
    '{range .items[*]}{.kind}/{.metadata.name} {.metadata.uid} {.metadata.generation} {.spec.resources}{"\\n"}{end}'
)
CASES = [
    (
        {"postgres": "3Gi", "prometheus": "3Gi", "alertmanager": "128Mi"},
        r"postgres-\d|data-(prometheus|alertmanager)-0",
    ),
    ({"postgres": "1Gi"}, r"postgres-\d"),
]
"""Cases of settings, and the claims that the error names."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("storage", "of"), CASES, ids=["larger", "smaller"])
def test_a_size_that_cannot_be_is_refused_before_anything_is_touched(
    stack: Stack, kubectl: Kubectl, storage: dict[str, str], of: str
) -> None:
    names = kubectl("get", "persistentvolumeclaims", "-o", "jsonpath={.items[*].metadata.name}").split()
    before = kubectl("get", KINDS, "-o", f"jsonpath={VERSIONS}")
    file = stack_file(stack.name)
    kept, content = file.read_text(), read_yaml(file)
    content["config"]["estate:settings"]["storage"] = storage
    file.write_text(yaml.safe_dump(content))
    try:
        refused = estate("up", stack=stack.name)
    finally:
        file.write_text(kept)
    assert refused.returncode != 0
    said = re.findall(r"^  (\S+) \S+ → \S+: \S", refused.stderr, re.MULTILINE)
    assert sorted(said) == sorted(name for name in names if re.fullmatch(of, name)), refused.stderr
    assert kubectl("get", KINDS, "-o", f"jsonpath={VERSIONS}") == before
