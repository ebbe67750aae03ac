"""The walkthrough in docs/new-service.md, in a copy of the project and a stack of its own."""

import json
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from estate.core.paths import PROJECT
from estate.stack.model import Stack
from tests.support.copies import copy_of_project, run_in
from tests.support.running import eventually, kubectl_of

NAME = "test-new-service"
COMMITTER = ("-c", "user.name=test", "-c", "user.email=test@example.com")
UP = ("promtool", "query", "instant", "--format=json", "http://localhost:9090", 'up{job="orders"}')


@pytest.fixture
def own(stack: Stack) -> Stack:
    """Return a stack of this module alone, on the same cluster."""
    return replace(stack, name=NAME)


@pytest.fixture
def project(stack: Stack, own: Stack, tmp_path: Path) -> Iterator[Path]:
    """Yield a copy of the project, with a small stack next to the existing one, and remove the stack afterwards."""
    copy = copy_of_project(tmp_path)
    content = yaml.safe_load(stack.file.read_text())
    settings = content["config"]["estate:settings"]
    small = {"requests": {"cpu": "10m"}, "replicas": 1}
    settings |= {"stage": "dev", "service": small, "services": {"api-gateway": small}}
    settings["ingress"]["host"] = f"api-{NAME}.myapp.com"
    (copy / "stacks" / f"Pulumi.{NAME}.yaml").write_text(yaml.safe_dump(content))
    for words in (["init", "--quiet"], ["add", "--all"], [*COMMITTER, "commit", "--quiet", "--message=As it is"]):
        run_in(copy, "git", *words)
    run_in(copy, "make", "install")
    yield copy
    run_in(copy, ".venv/bin/estate", "down", "--yes", "--stack", NAME)
    assert kubectl_of(own)("get", "namespace", own.namespace, "--ignore-not-found") == ""


def documented() -> list[str]:
    """Return the commands at the start of the page."""
    page = (PROJECT / "docs" / "new-service.md").read_text()
    return page.partition("```sh\n")[2].partition("```")[0].splitlines()


def add_documented_work(project: Path) -> None:
    """Add the job and the worker that the page shows to the service, with its declarations and programs."""
    section = (
        (PROJECT / "docs" / "new-service.md").read_text().partition("## Jobs and workers\n")[2].partition("\n## ")[0]
    )
    declared, *programs = [
        textwrap.dedent(block) for block in re.findall(r" *```python\n(.*?) *```", section, re.DOTALL)
    ]
    lines = re.findall(r"^ *(?:jobs|workers)=.*,$", declared, re.MULTILINE)
    assert len(lines) == 2, declared
    file = project / "infra" / "services.py"
    before, found, after = file.read_text().partition('    Service(\n        "orders",\n')
    assert found
    file.write_text("\n".join([f"{before}{found}{lines[0]}", lines[1], after]))
    for path, program in zip(re.findall(r"^\d+\. `(apps/\S+)`", section, re.MULTILINE), programs, strict=True):
        (project / path).write_text(program)


@pytest.mark.timeout(1200)
def test_a_service_that_was_just_made_answers_through_the_ingress_and_is_scraped(project: Path, own: Stack) -> None:
    path = f"{project}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    for command in documented():
        print(run_in(project, *command.split(), ESTATE_STACK=NAME, PATH=path))
    run_in(project, ".venv/bin/pytest", "tests/live/test_orders.py", ESTATE_STACK=NAME)

    def scraped() -> bool:
        answer = kubectl_of(own)("exec", "statefulset/prometheus", "--", *UP)
        return [series["value"][1] for series in json.loads(answer)] == ["1"]

    eventually(scraped, "one instance of orders is scraped", 60)
    kubectl = kubectl_of(own)
    where = "SELECT relnamespace::regnamespace FROM pg_class WHERE relname = 'orders_items'"
    psql = ("exec", "statefulset/postgres", "--", "psql", "-qAtX", "--dbname=myapp", "--command")
    assert kubectl(*psql, where).strip() == "svc_orders"
    assert kubectl(*psql, "SELECT has_table_privilege('svc_orders__a', 'public.users', 'SELECT')").strip() == "f"

    add_documented_work(project)
    run_in(project, ".venv/bin/estate", "up", "--stack", NAME)
    kubectl("rollout", "status", "deployment/orders-mailer", "--timeout=60s")
    kubectl("create", "job", "--from=cronjob/orders-tidy", "tidy-now")
    kubectl("wait", "job/tidy-now", "--for=condition=complete", "--timeout=60s")
    assert "The job is done" in kubectl("logs", "job/tidy-now")

    run_in(project, "git", "reset", "--quiet", "--hard")
    run_in(project, "git", "clean", "--quiet", "-fd")
    run_in(project, ".venv/bin/estate", "up", "--stack", NAME)
    kinds = "all,configmaps,secrets,ingresses,networkpolicies,serviceaccounts,roles,rolebindings,cronjobs,poddisruptionbudgets"
    left = [name for name in kubectl("get", kinds, "--output=name").split() if "orders" in name]
    assert not left
    assert "orders" not in kubectl("exec", "statefulset/consul", "--", "consul", "catalog", "services").split()
