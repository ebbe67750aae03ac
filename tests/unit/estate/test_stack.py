import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from estate.cluster import lifecycle
from estate.core.console import EstateError
from estate.core.paths import PROJECT
from estate.ops import update
from estate.ops.update import protected
from estate.pulumi.recovery import check_cluster, clear_unfinished
from estate.stack import model
from estate.stack.model import (
    NotUpError,
    Stack,
    forget_taken_over,
    generated,
    load,
    outputs,
    read_yaml,
    refuse_missing_secrets,
    secret,
)
from estate.stack.target import Target
from infra.services import Service
from infra.settings.load import parse
from tests.support.declarations import declare
from tests.support.minimum import MINIMUM


def test_what_the_state_has_taken_over_leaves_the_machines_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(model, "OWN_STACKS", tmp_path)
    stack = Stack("dev", parse(MINIMUM, "here"), Target(tmp_path, "context", {}, embedded=True))
    forget_taken_over(stack)  # the stack does not exist
    file = tmp_path / "Pulumi.dev.yaml"
    given = {"estate:receiver-pager": {"secure": "v1:given"}}
    generated = {f"estate:{name}": {"secure": "v1:x"} for name in stack.settings.generated_secrets}
    file.write_text(json.dumps({"encryptionsalt": "v1:salt", "config": given | generated}))
    forget_taken_over(stack)
    assert read_yaml(file) == {"encryptionsalt": "v1:salt", "config": given}


GIVEN = "estate:user-service-mail-password"


@pytest.fixture
def mailing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the file of stack `dev`, whose user-service has a secret and which has a receiver, both without a value."""
    own = Service("user-service", (), (), secrets=("mail-password",))
    declare(monkeypatch, own)
    monkeypatch.setattr(model, "STACKS", tmp_path)
    monkeypatch.setattr(model, "OWN_STACKS", tmp_path / "own")
    settings = MINIMUM | {"receivers": [{"name": "pager", "kind": "pagerduty"}]}
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(json.dumps({"config": {"estate:settings": settings}}))
    return file


def test_a_stack_without_a_secret_that_has_to_be_given_is_refused_before_anything_is_started(
    mailing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESTATE_TARGET", "embedded")
    monkeypatch.setattr(lifecycle, "start", lambda: pytest.fail("the cluster is started"))
    assert mailing.exists()
    with pytest.raises(EstateError) as raised:
        update.up("dev")
    pager, mail = str(raised.value).splitlines()
    assert pager.startswith(
        "the secret receiver-pager is missing: estate secret set receiver-pager --stack dev asks for it"
    )
    assert mail.startswith(
        "the secret user-service-mail-password is missing: estate secret set user-service-mail-password"
    )


@pytest.mark.parametrize("where", ["the stack's file", "this machine's file"])
def test_a_secret_counts_as_given_wherever_pulumi_reads_it(mailing: Path, where: str) -> None:
    given = {"estate:receiver-pager": {"secure": "v1:x"}, GIVEN: {"secure": "v1:y"}}
    content = read_yaml(mailing)
    if where == "the stack's file":
        mailing.write_text(json.dumps(content | {"config": content["config"] | given}))
    else:
        (mailing.parent / "own").mkdir()
        (mailing.parent / "own" / mailing.name).write_text(json.dumps({"encryptionsalt": "v1:z", "config": given}))
    refuse_missing_secrets("dev", load("dev"))


def test_of_a_stack_with_environments_pulumi_alone_knows_what_is_missing(mailing: Path) -> None:
    mailing.write_text(json.dumps(read_yaml(mailing) | {"environment": ["acme/dev"]}))
    refuse_missing_secrets("dev", load("dev"))


def stack_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, said: str, printed: str = "") -> Stack:
    """Return a stack for which Pulumi returns this output."""
    monkeypatch.setattr(Stack, "pulumi", lambda *_, **_more: CompletedProcess([], code, printed, said))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    return Stack("dev", parse(MINIMUM, "here"), Target(tmp_path, "context", {}, embedded=False))


READERS: list[Callable[[Stack], object]] = [outputs, generated, protected]


@pytest.mark.parametrize("read", [*READERS, check_cluster, clear_unfinished])
@pytest.mark.parametrize("said", ["error: unable to open state directory", "error: connection refused"])
def test_a_backend_that_cannot_be_read_is_not_a_stack_without_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read: Callable[[Stack], object], said: str
) -> None:
    stack = stack_of(monkeypatch, tmp_path, 1, said)
    with pytest.raises(EstateError, match=f"stack dev cannot be read: {said}"):
        read(stack)


def token_key(stack: Stack) -> str:
    return secret(stack, "tokenKey")


@pytest.mark.parametrize("read", [*READERS, token_key])
def test_a_stack_that_was_never_up_is_said_to_be_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read: Callable[[Stack], object]
) -> None:
    stack = stack_of(monkeypatch, tmp_path, 6, "error: no stack named 'dev' found")
    with pytest.raises(NotUpError, match="stack dev is not up: estate up --stack dev"):
        read(stack)
    check_cluster(stack)  # no cluster exists for it


def test_a_stack_without_outputs_is_not_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(NotUpError):
        outputs(stack_of(monkeypatch, tmp_path, 0, "", "{}"))


def test_every_advice_to_remove_a_stack_keeps_its_committed_file() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    files = [PROJECT / name for name in listed.split("\0") if name and name != os.path.relpath(__file__, PROJECT)]
    removing = [
        line
        for file in files
        if file.is_file()
        for line in file.read_text(errors="replace").splitlines()
        if "pulumi stack rm" in line
    ]
    assert removing
    assert [line for line in removing if "--preserve-config" not in line] == []


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ('Error from server (Forbidden): pods is forbidden: User "x" cannot list resource "pods"', "refuses"),
        ('The Service "postgres" is invalid: spec.ports[1].name: Duplicate value: "postgres"', "refuses"),
        ("The request is invalid: the server rejected our request due to an error in our request", "refuses"),
        ("Unable to connect to the server: dial tcp 127.0.0.1:6443: connect: connection refused", "does not answer"),
        ("error: context deadline exceeded", "does not answer"),
    ],
)
def test_a_refusal_of_the_cluster_is_not_its_absence(tmp_path: Path, said: str, means: str) -> None:
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\necho {shlex.quote(said)} >&2\nexit 1\n")
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    stack = Stack("dev", parse(MINIMUM, "here"), Target(tmp_path, "context", environment, embedded=False))
    with pytest.raises(EstateError, match=f"^the cluster {means}") as error:
        model.ask(stack, "get", "pods")
    assert said in str(error.value)
