"""The whole program of a stack, run once against mocks: every resource that it registers."""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from unittest.mock import patch

import pulumi
import pulumi.runtime
import yaml
from pulumi.runtime.mocks import MockMonitor

from infra import generated_secrets
from infra.services import NAMES
from toolchain.paths import PROJECT

OURS = {*NAMES}
CANARY = "canary-of-a-secret"
LOOP = asyncio.new_event_loop()
"""One for every run: Pulumi's mocks open another in each thread of its executor, and never close them."""
GIVEN = ("postgresPassword",)
"""Secrets of the configuration, besides those of receivers."""
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
    """Whether it may not be deleted."""
    retained: bool = False
    """Whether it stays where the program no longer has it."""
    ignored: tuple[str, ...] = ()
    """Properties that stay as they were made."""


class Recorder(pulumi.runtime.Mocks):
    """Answers as the providers would, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.registered: list[Registered] = []
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if args.resource_id:  # read, and none of the program's
            return args.resource_id, {"metadata": {"name": args.resource_id, "uid": UID}}
        inputs = cast("dict[str, Any]", args.inputs)  # pyright: ignore[reportUnknownMemberType]
        self.registered.append(Registered(args.typ, args.name, inputs, **self.kept[args.typ, args.name]))
        outputs: dict[Any, Any] = {**inputs}
        if args.typ == "docker-build:index:Image":
            outputs["ref"] = f"{inputs['tags'][0]}@{DIGEST}"
        if args.typ == generated_secrets.TYPE:
            outputs["values"] = dict.fromkeys(inputs["names"], CANARY)
        if "metadata" in inputs:
            outputs["metadata"] = {"name": f"{args.name}-auto", "uid": UID} | inputs["metadata"]
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise NotImplementedError(args.token)  # the program calls no function of a provider


class Monitor(MockMonitor):
    """Keeps what mocks are not told."""

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
    """What the program registers for a stack; where that does not build, with images by some digest."""
    return run_with(stack, settings_of(stack))


def settings_of(stack: str) -> dict[str, Any]:
    """The settings in a stack's file."""
    return yaml.safe_load((PROJECT / "stacks" / f"Pulumi.{stack}.yaml").read_text())["config"]["estate:settings"]


def run_with(stack: str, content: dict[str, Any]) -> list[Registered]:
    """What the program registers for a stack of other settings than in its file."""
    settings = {"digests": {name: f"registry/{name}@{DIGEST}" for name in OURS}} | content
    receivers = [f"receiver-{receiver['name']}" for receiver in content.get("receivers", ())]
    secrets = {f"estate:{name}": CANARY for name in (*GIVEN, *receivers)}
    return against_mocks("infra.__main__", "estate", stack, {"estate:settings": json.dumps(settings)}, secrets)


def against_mocks(
    program: str | Callable[[], object],
    project: str,
    stack: str,
    config: dict[str, str] | None = None,
    secrets: dict[str, str] | None = None,
) -> list[Registered]:
    """What a program registers.

    Args:
        program: a module, imported afresh, or a function.
        project: whose it is.
        stack: that it is run for.
        config: its configuration.
        secrets: what of it is secret.
    """
    recorder = Recorder()
    asyncio.set_event_loop(LOOP)
    pulumi.runtime.set_mocks(recorder, project=project, stack=stack, preview=False, monitor=Monitor(recorder))
    pulumi.runtime.set_all_config((config or {}) | (secrets or {}), list(secrets or ()))

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
