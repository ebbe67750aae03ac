"""Reports on the running estate: that of a pull request, and that of drift detection."""

from collections.abc import Iterator

import pytest

from estate.core.console import DEVIATION
from estate.core.paths import PROJECT
from estate.stack.model import Stack
from tests.support.running import Kubectl
from tests.support.stacks import estate

LABEL, VALUE = "app.kubernetes.io/part-of", "estate"


@pytest.fixture
def drifted(kubectl: Kubectl) -> Iterator[None]:
    """Change a label of a declared object for the time of the test."""
    kubectl("label", "--overwrite", "service", "user-service", f"{LABEL}=drifted")
    yield
    kubectl("label", "--overwrite", "service", "user-service", f"{LABEL}={VALUE}")


def test_a_stack_that_is_as_it_was_left_has_no_drift(stack: Stack) -> None:
    watched = estate("drift", stack=stack.name)
    assert watched.returncode == 0, watched.stdout + watched.stderr


@pytest.mark.usefixtures("drifted")
def test_drift_is_named(stack: Stack) -> None:
    watched = estate("drift", stack=stack.name)
    assert watched.returncode == DEVIATION, watched.stdout + watched.stderr
    assert f'- Service `user-service`: `metadata.labels["{LABEL}"] {VALUE} → drifted`' in watched.stdout


def test_the_comment_for_a_pull_request_is_left_in_a_file(stack: Stack) -> None:
    made = estate("preview", "--markdown", stack=stack.name)
    assert made.returncode == 0, made.stdout + made.stderr
    comment = (PROJECT / "build" / "preview" / f"{stack.name}.md").read_text()
    assert comment.startswith(f"<!-- estate: preview of {stack.name} -->\n\n### Stack {stack.name}: no changes\n")
    assert comment.strip() in made.stdout
