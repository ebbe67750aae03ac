"""The whole program of stack `local`, run once against mocks; tests look at every resource that it registers."""

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi.runtime
import pytest
import yaml

from infra.settings import GENERATED_SECRETS
from toolchain.paths import PROJECT

CANARY = "canary-of-a-secret"
DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Registered:
    """A resource as the program registered it."""

    type: str
    name: str
    inputs: dict[str, Any]


class Recorder(pulumi.runtime.Mocks):
    """Answers as the providers would, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.registered: list[Registered] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        inputs = cast("dict[str, Any]", args.inputs)  # pyright: ignore[reportUnknownMemberType]
        self.registered.append(Registered(args.typ, args.name, inputs))
        outputs: dict[Any, Any] = {**inputs}
        if args.typ == "docker-build:index:Image":
            outputs["ref"] = f"{inputs['tags'][0]}@{DIGEST}"
        if "metadata" in inputs:
            outputs["metadata"] = {"name": f"{args.name}-auto"} | inputs["metadata"]
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise NotImplementedError(args.token)  # the program calls no function of a provider


@pytest.fixture(scope="session")
def resources() -> Iterator[list[Registered]]:
    patch = pytest.MonkeyPatch()
    patch.setenv("ESTATE_KUBECONFIG", "/nowhere/kubeconfig")
    patch.setenv("ESTATE_KUBE_CONTEXT", "mock")
    settings = yaml.safe_load((PROJECT / "stacks" / "Pulumi.local.yaml").read_text())["config"]["estate:settings"]
    recorder = Recorder()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(recorder, project="estate", stack="local", preview=False)
    pulumi.runtime.set_all_config(
        {"estate:settings": json.dumps(settings)} | {f"estate:{name}": CANARY for name in GENERATED_SECRETS},
        [f"estate:{name}" for name in GENERATED_SECRETS],
    )
    sys.modules.pop("infra.__main__", None)

    @pulumi.runtime.test  # pyright: ignore[reportUnknownMemberType, reportUntypedFunctionDecorator]
    def run() -> None:
        importlib.import_module("infra.__main__")

    run()
    yield recorder.registered
    patch.undo()
