"""Runner of a stack's whole program against mocks, which records every registered resource."""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from unittest.mock import patch

import pulumi
import pulumi.runtime
import yaml
from pulumi.runtime.mocks import MockMonitor

from estate.core.paths import PROJECT
from infra import services
from infra.services import NAMES
from infra.settings import secrets

OURS = {*NAMES}
CANARY = "canary-of-a-secret"
LOOP = asyncio.new_event_loop()
"""Event loop of all runs: Pulumi's mocks open another in each thread of its executor, and never close them."""
GIVEN = ("postgresPassword",)
"""Secrets in the configuration, in addition to those of receivers and services."""
DIGEST = "sha256:" + "0" * 64
UID = "00000000-0000-4000-8000-000000000000"
"""Uid of every object in the mocked cluster."""


@dataclass(frozen=True)
class Registered:
    """A resource as the program registered it."""

    type: str
    name: str
    inputs: dict[str, Any]
    protected: bool = False
    """Pulumi's option `protect`: the resource may not be deleted."""
    retained: bool = False
    """Pulumi's option `retainOnDelete`: the object stays when the program no longer declares it."""
    ignored: tuple[str, ...] = ()
    """Pulumi's option `ignoreChanges`: properties that keep their first value."""


class Recorder(pulumi.runtime.Mocks):
    """Mocks that respond as the providers would, and record the requested resources."""

    def __init__(self) -> None:
        self.registered: list[Registered] = []
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if args.resource_id:  # read, not created by the program
            return args.resource_id, {"metadata": {"name": args.resource_id, "uid": UID}}
        inputs = cast("dict[str, Any]", args.inputs)  # pyright: ignore[reportUnknownMemberType]
        self.registered.append(Registered(args.typ, args.name, inputs, **self.kept[args.typ, args.name]))
        outputs: dict[Any, Any] = {**inputs}
        if args.typ == "docker-build:index:Image":
            outputs["ref"] = f"{inputs['tags'][0]}@{DIGEST}"
        if args.typ == secrets.TYPE:
            outputs["values"] = dict.fromkeys(inputs["names"], CANARY)
        if "metadata" in inputs:
            outputs["metadata"] = {"name": f"{args.name}-auto", "uid": UID} | inputs["metadata"]
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise NotImplementedError(args.token)  # the program calls no function of a provider


class Monitor(MockMonitor):
    """Monitor that records the resource options that mocks do not receive."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.recorder = recorder

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - Pulumi's name
        self.recorder.kept[request.type, request.name] = {
            "protected": request.protect,
            "retained": request.retainOnDelete,
            "ignored": tuple(request.ignoreChanges),
        }
        return super().RegisterResource(request)  # pyright: ignore[reportUnknownMemberType]


@cache
def run_program(stack: str) -> list[Registered]:
    """Return the resources that the program registers for a stack; a file without digests gets placeholder digests."""
    return run_with(stack, settings_of(stack))


def settings_of(stack: str) -> dict[str, Any]:
    """Return the settings in a stack's file."""
    return yaml.safe_load((PROJECT / "stacks" / f"Pulumi.{stack}.yaml").read_text())["config"]["estate:settings"]


def run_with(stack: str, content: dict[str, Any]) -> list[Registered]:
    """Return the resources that the program registers for a stack with the given settings instead of those in its file."""
    settings = {"digests": {name: f"registry/{name}@{DIGEST}" for name in OURS}} | content
    receivers = [f"receiver-{receiver['name']}" for receiver in content.get("receivers", ())]
    own = [service.secret_key(name) for service in services.SERVICES for name in service.secrets]
    secrets = {f"estate:{name}": CANARY for name in (*GIVEN, *receivers, *own)}
    return against_mocks("infra.__main__", "estate", stack, {"estate:settings": json.dumps(settings)}, secrets)


def against_mocks(
    program: str | Callable[[], object],
    project: str,
    stack: str,
    config: dict[str, str] | None = None,
    secrets: dict[str, str] | None = None,
) -> list[Registered]:
    """Return the resources that a program registers. No state of the run, its configuration in particular, affects later runs.

    Args:
        program: a module, imported afresh, or a function.
        project: the name of the Pulumi project.
        stack: the name of the stack.
        config: the plain configuration.
        secrets: the secret configuration.
    """
    return copy_context().run(registered, program, project, stack, config or {}, secrets or {})


def registered(
    program: str | Callable[[], object], project: str, stack: str, config: dict[str, str], secrets: dict[str, str]
) -> list[Registered]:
    """Return the resources that a program registers; Pulumi's runtime in this context keeps the state of the run."""
    recorder = Recorder()
    asyncio.set_event_loop(LOOP)
    pulumi.runtime.set_mocks(recorder, project=project, stack=stack, preview=False, monitor=Monitor(recorder))
    pulumi.runtime.set_all_config(config | secrets, list(secrets))

    @pulumi.runtime.test  # pyright: ignore[reportUnknownMemberType, reportUntypedFunctionDecorator]
    def run() -> None:
        if isinstance(program, str):
            sys.modules.pop(program, None)
            importlib.import_module(program)
        else:
            program()

    with patch.dict(os.environ, ESTATE_KUBE_CONTEXT="mock"):
        run()
    return recorder.registered
