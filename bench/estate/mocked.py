"""python -m bench.estate.mocked [SERVICES]: the program of stack `local`, or of so many services, run against mocks in this process."""

import asyncio
import importlib
import json
import os
import sys
from typing import Any, cast

import pulumi
import pulumi.runtime

from infra.settings import GENERATED_SECRETS
from toolchain.stack import STACKS, read_yaml

DIGEST = "sha256:" + "0" * 64


class Answers(pulumi.runtime.Mocks):
    """Answers as the providers would."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """What was asked for, with a name and a digest."""
        outputs = dict(cast("dict[Any, Any]", args.inputs))  # pyright: ignore[reportUnknownMemberType]
        if args.typ == "docker-build:index:Image":
            outputs["ref"] = f"{outputs['tags'][0]}@{DIGEST}"
        if "metadata" in outputs:
            outputs["metadata"] = {"name": f"{args.name}-auto"} | outputs["metadata"]
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """No program of ours calls any."""
        raise NotImplementedError(args.token)


def main() -> None:
    """Run the program, and wait for what it registers."""
    os.environ |= {"ESTATE_KUBECONFIG": "/nowhere/kubeconfig", "ESTATE_KUBE_CONTEXT": "mock"}
    asyncio.set_event_loop(asyncio.new_event_loop())
    if services := sys.argv[1:]:
        project, program, config = "synthetic", "bench.estate.synthetic.__main__", {"synthetic:services": services[0]}
    else:
        project, program = "estate", "infra.__main__"
        settings = read_yaml(STACKS / "Pulumi.local.yaml")["config"]["estate:settings"]
        config = {"estate:settings": json.dumps(settings)} | {f"estate:{name}": "x" * 43 for name in GENERATED_SECRETS}
    pulumi.runtime.set_mocks(Answers(), project=project, stack="local", preview=False)
    pulumi.runtime.set_all_config(config, [key for key in config if key != "estate:settings"])

    @pulumi.runtime.test  # pyright: ignore[reportUnknownMemberType, reportUntypedFunctionDecorator]
    def run() -> None:
        importlib.import_module(program)

    run()


if __name__ == "__main__":
    main()
