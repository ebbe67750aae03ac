"""What docs/new-service.md promises, in a copy of the project and a stack of its own."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.copies import copy_of_project, run_in
from tests.running import eventually, kubectl_of
from toolchain.paths import PROJECT
from toolchain.stack import Stack

NAME = "test-new-service"
UP = ("promtool", "query", "instant", "--format=json", "http://localhost:9090", 'up{job="orders"}')


@pytest.fixture
def own(stack: Stack) -> Stack:
    """A stack of its own, on the same cluster."""
    return replace(stack, name=NAME)


@pytest.fixture
def project(stack: Stack, own: Stack, tmp_path: Path) -> Iterator[Path]:
    """A copy of the project, with a stack that takes little room beside the one that is there, and is gone afterwards."""
    copy = copy_of_project(tmp_path)
    content = yaml.safe_load(stack.file.read_text())
    settings = content["config"]["estate:settings"]
    small = {"requests": {"cpu": "10m"}, "replicas": 1}
    settings |= {"stage": "dev", "service": small, "services": {"api-gateway": small}}
    settings["ingress"]["host"] = f"api-{NAME}.myapp.com"
    (copy / "stacks" / f"Pulumi.{NAME}.yaml").write_text(yaml.safe_dump(content))
    yield copy
    run_in(copy, "make", "down", STACK=NAME)
    assert kubectl_of(own)("get", "namespace", own.namespace, "--ignore-not-found") == ""


def documented() -> list[str]:
    """The commands with which the page begins."""
    page = (PROJECT / "docs" / "new-service.md").read_text()
    return page.partition("```sh\n")[2].partition("```")[0].splitlines()


@pytest.mark.timeout(900)
def test_a_service_that_was_just_made_answers_through_the_ingress_and_is_scraped(project: Path, own: Stack) -> None:
    for command in documented():
        print(run_in(project, *command.split(), STACK=NAME))
    run_in(project, ".venv/bin/pytest", "tests/e2e/test_orders.py", STACK=NAME)

    def scraped() -> bool:
        answer = kubectl_of(own)("exec", "statefulset/prometheus", "--", *UP)
        return [series["value"][1] for series in json.loads(answer)] == ["1"]

    eventually(scraped, "one instance of orders is scraped", 60)
