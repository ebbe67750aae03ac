"""Promotion of one digest from stack to stack: dev, staging and prod in parallel, each under load while it takes the release."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from estate.delivery.promotion import unwell
from estate.ops.tokens import new_token
from estate.report.status import status_of
from estate.stack import releases
from estate.stack.model import Stack, outputs
from tests.support.load import Load
from tests.support.running import connect, eventually, kubectl_of
from tests.support.stacks import estate, local_images, next_to_local, stack_file, stack_of, variant

SMALL: dict[str, Any] = {
    "postgres": {"kind": "instance"},
    "consul": {"servers": 1},
    "service": {"requests": {"cpu": "10m"}, "scaling": {"least": 1, "most": 2}},
    "services": {},
}
"""Settings with which three stacks of any stage fit on one machine."""
DEV, STAGING, PROD = "test-dev", "test-stage", "test-prod"


@pytest.fixture
def stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Stack]]:
    """Yield a stack of each stage: dev with a newer user-service, prod with a registry of its own."""
    monkeypatch.setattr(releases, "working_tree", lambda: "0" * 40)  # prod takes no release from a dirty working tree
    old = local_images()
    new = variant(old, tmp_path, "newer", "LABEL release=newer")
    with ExitStack() as up:
        yield {
            DEV: up.enter_context(next_to_local(DEV, "dev", new, **SMALL)),
            STAGING: up.enter_context(next_to_local(STAGING, "staging", old, **SMALL)),
            PROD: up.enter_context(
                next_to_local(PROD, "prod", old, **SMALL, registry="localhost:5000/estate/test-prod")
            ),
        }


def digests(stack: Stack) -> dict[str, str]:
    """Return the digest that each container of a stack runs, by its image's path in the registry."""
    images = kubectl_of(stack)("get", "pods", "-o", "jsonpath={.items[*].spec.containers[*].image}").split()
    return {image.partition("@")[0].rpartition("/")[2].partition(":")[0]: image.partition("@")[2] for image in images}


def is_well(stack: Stack) -> bool:
    """Return whether a stack may be promoted, and print the reasons if not: missed objectives, as on a busy machine, are none."""
    reasons = unwell(status_of(stack))
    print(*reasons, sep="\n")
    return not reasons


def promoted_under_load(giving: Stack, taking: Stack) -> None:
    """Promote, and bring the other stack up, under load there."""
    with connect(outputs(taking)["urls"]["gateway"], new_token(taking)) as client:
        # Alerts fire while a stack comes up for the first time.
        eventually(lambda: is_well(giving), f"{giving.name} is well", 300)
        with Load(client) as load:
            done = estate("promote", giving.name, taking.name)
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"user-service@{digests(giving)['user-service']}" in done.stdout
            released = estate("up", stack=taking.name)
            assert released.returncode == 0, released.stdout + released.stderr
        assert load.failures() == {}
        assert load.lost() == []
        load.tidy()
    print(dict(load.answers))


@pytest.mark.timeout(1500)
def test_one_digest_goes_from_dev_over_staging_to_prod_without_a_failed_request(stacks: dict[str, Stack]) -> None:
    dev, staging, prod = stacks.values()
    assert digests(dev)["user-service"] != digests(prod)["user-service"]
    promoted_under_load(dev, staging)
    promoted_under_load(staging, prod)
    assert digests(dev) == digests(staging) == digests(prod)
    assert outputs(prod)["images"]["user-service"].startswith("localhost:5000/estate/test-prod/user-service@sha256:")

    said = yaml.safe_load(stack_file(PROD).read_text())["config"]["estate:settings"]["promoted"]
    assert said["stack"] == STAGING
    assert (
        said["commit"]
        == yaml.safe_load(stack_file(STAGING).read_text())["config"]["estate:settings"]["promoted"]["commit"]
    )
    again = estate("promote", STAGING, PROD)
    assert "nothing is to be promoted" in again.stdout

    kubectl_of(dev)("set", "image", "deployment/user-service", "user-service=localhost:5000/estate/user-service:broken")
    before = stack_file(STAGING).read_text()
    refused = estate("promote", DEV, STAGING)
    assert refused.returncode != 0
    assert "test-dev is not well, so it is not promoted" in refused.stderr
    assert stack_file(STAGING).read_text() == before
    assert stack_of(STAGING).settings.promoted

    content = yaml.safe_load(stack_file(PROD).read_text())
    content["config"]["estate:settings"]["consul"] = {"servers": 3}  # three servers have other names
    stack_file(PROD).write_text(yaml.safe_dump(content))
    held = estate("up", stack=PROD)
    assert held.returncode != 0
    assert (
        "delete or replace what holds data in stack test-prod: StatefulSet consul, PersistentVolumeClaim data-consul-0. Say that"
        in held.stderr
    )
