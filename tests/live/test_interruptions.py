"""Updates that are interrupted at any time, that the cluster refuses, or that lose the cluster: the next update completes them."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from estate.cluster import layout
from estate.core.paths import PROJECT
from estate.stack.model import Stack
from tests.process.coherence.links import Link, Network
from tests.support.running import Kubectl, kubectl_of
from tests.support.stacks import LIGHT, estate, local_images, next_to_local, stack_of, write_stack

NAME = "test-interrupted"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
UPDATE_S = 40.0
"""Seconds that an update takes here, from the command to its end."""
INTERRUPTIONS, CUTS = 8, 2
REFUSED_WITHIN_S, HELD_WITHIN_S = 180.0, 300.0
HELD_BY = "example.com/held"
"""Name of a finalizer."""


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    return local_images()


@pytest.fixture(scope="module")
def own(images: dict[str, str]) -> Iterator[Stack]:
    """Yield a stack of this module alone."""
    with next_to_local(NAME, "local", images, **LIGHT) as stack:
        yield stack


def change(digests: dict[str, str], **settings: Any) -> Stack:
    """Change the resource requests of each of our services, so that the next update replaces their pods; and some settings."""
    service: dict[str, Any] = {"requests": {"cpu": f"{random.randint(2, 9)}m"}}  # noqa: S311 - no secret
    write_stack(NAME, "local", build=False, digests=digests, service=service, **settings)
    return stack_of(NAME)


def begun(*command: str, **options: Any) -> "subprocess.Popen[str]":
    """Start a command in the project, with all of its output in one pipe."""
    return subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def finish() -> None:
    """Bring the stack up, and check that the command and plain Pulumi find no difference from the declaration."""
    done = estate("up", stack=NAME)
    assert done.returncode == 0, done.stdout + done.stderr
    drift = estate("drift", stack=NAME)
    assert drift.returncode == 0, drift.stdout + drift.stderr
    preview = stack_of(NAME).pulumi("preview", "--expect-no-changes", "--stack", NAME)
    assert preview.returncode == 0, preview.stdout + preview.stderr


@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("own")
def test_updates_that_are_interrupted_at_any_time_are_ended_by_the_next(images: dict[str, str]) -> None:
    for number in range(INTERRUPTIONS):
        change(images)
        after_s, how = random.uniform(0, UPDATE_S), SIGNALS[number % len(SIGNALS)]  # noqa: S311 - a time
        with begun(sys.executable, "-m", "estate", "up", "--stack", NAME, start_new_session=True) as running:
            time.sleep(after_s)
            if running.poll() is None:
                os.killpg(running.pid, how)
            said, _ = running.communicate(timeout=120)
        print(f"{how.name} after {after_s:.1f} s: exit {running.returncode}, {said.splitlines()[-1:]}")
        # After the other two signals, a thread of Pulumi's own may still report that its engine is gone.
        assert how != signal.SIGINT or "Traceback" not in said, (after_s, said)
    finish()


@pytest.mark.timeout(600)
def test_a_quota_that_is_used_up_ends_the_update_with_its_name(own: Stack, images: dict[str, str]) -> None:
    kubectl = kubectl_of(own)
    kubectl("create", "quota", "used-up", "--hard=pods=0")
    try:
        change(images)
        began = time.monotonic()
        done = estate("up", stack=NAME)
        assert done.returncode != 0
        assert "exceeded quota: used-up" in done.stderr, done.stdout + done.stderr
        assert time.monotonic() - began < REFUSED_WITHIN_S
    finally:
        kubectl("delete", "quota", "used-up")
    finish()


def without(kubectl: Kubectl, what: str) -> None:
    """Remove all finalizers from an object."""
    kubectl("patch", what, "--type=merge", '--patch={"metadata": {"finalizers": null}}')


def hold(kubectl: Kubectl, what: str) -> None:
    """Put a finalizer on an object that no controller removes."""
    kubectl("patch", what, "--type=merge", f'--patch={{"metadata": {{"finalizers": ["{HELD_BY}"]}}}}')


@pytest.mark.timeout(1500)
def test_an_object_that_a_finalizer_holds_ends_an_update_and_a_removal_with_its_name(
    own: Stack, images: dict[str, str]
) -> None:
    kubectl = kubectl_of(own)
    change(images, tracing={"endpoint": "http://collector.observability:4318", "namespace": "observability"})
    finish()
    with_tracing = kubectl("get", "networkpolicies", "--output=name").split()
    policy = next(name for name in with_tracing if "tracing" in name or "collector" in name)
    service = "service/prometheus"
    for goal, what in (("up", policy), ("down", service)):
        hold(kubectl, what)
        try:
            change(images)
            began = time.monotonic()
            done = estate(goal, stack=NAME)
            assert done.returncode != 0
            assert f" {what.partition('/')[2]} was deleted, and is still there after" in done.stderr, (
                done.stdout + done.stderr
            )
            assert f"it is held by {HELD_BY}" in done.stderr
            assert f"estate {goal} --stack {NAME} goes on" in done.stderr
            assert time.monotonic() - began < HELD_WITHIN_S
        finally:
            without(kubectl, what)
        again = estate(goal, stack=NAME)
        assert again.returncode == 0, again.stdout + again.stderr
    finish()


@pytest.mark.timeout(1500)
def test_another_major_version_of_postgres_is_refused_before_its_data_is_touched(
    own: Stack, images: dict[str, str]
) -> None:
    finish()
    pod = kubectl_of(own)("get", "pod/postgres-0", "--output=jsonpath={.metadata.uid}")
    change(images, images={"postgres": "docker.io/library/postgres:16"})
    done = estate("up", stack=NAME)
    assert done.returncode != 0
    assert "is of Postgres 15, which docker.io/library/postgres:16 cannot read, and nothing was changed" in done.stderr
    assert kubectl_of(own)("get", "pod/postgres-0", "--output=jsonpath={.metadata.uid}") == pod
    change(images)
    finish()


@pytest.fixture
def link() -> Iterator[Link]:
    """Yield a link to the cluster's API that can be cut."""
    kubeconfig: dict[str, Any] = yaml.safe_load(layout.KUBECONFIG.read_text())
    server = urlsplit(str(kubeconfig["clusters"][0]["cluster"]["server"]))
    assert server.hostname
    assert server.port
    network = Network()
    yield network.link(server.port, server.hostname)
    network.close()


def by_way_of(link: Link, file: Path) -> Path:
    """Write a kubeconfig that uses a link to the cluster, and return its path."""
    content: dict[str, Any] = yaml.safe_load(layout.KUBECONFIG.read_text())
    cluster: dict[str, Any] = content["clusters"][0]["cluster"]
    cluster["tls-server-name"] = urlsplit(str(cluster["server"])).hostname
    cluster["server"] = f"https://127.0.0.1:{link.port}"
    file.touch(0o600)
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("own")
def test_an_update_that_loses_the_cluster_fails_and_the_next_one_ends_it(
    images: dict[str, str], link: Link, tmp_path: Path
) -> None:
    for _ in range(CUTS):
        stack = change(images)
        environment = stack.target.environment | {"KUBECONFIG": str(by_way_of(link, tmp_path / "kubeconfig"))}
        after_s = random.uniform(0, UPDATE_S / 2)  # noqa: S311 - a time
        with begun("pulumi", "--non-interactive", "up", "--yes", "--stack", NAME, env=environment) as running:
            time.sleep(after_s)
            link.cut()
            said, _ = running.communicate(timeout=360)
        link.heal()
        print(f"cut after {after_s:.1f} s: exit {running.returncode}, {said.splitlines()[-3:]}")
    finish()
