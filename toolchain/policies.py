"""`make policies`: what the policies say of a stack, or of an exported state, without a cluster."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from infra.settings import Images
from infra.stages import Stage
from toolchain.console import ToolchainError, run_command
from toolchain.paths import PROJECT
from toolchain.render import DIGEST, rendering, rendering_environment
from toolchain.stack import load

PACK = "policies"


def policies(stage: Stage) -> list[str]:
    """Options that hold a stack to the policies, at the levels of its stage."""
    return ["--policy-pack", PACK, "--policy-pack-config", f"{PACK}/{stage}.json"]


def check(name: str, state: Path | None) -> None:
    """Say what the policies find in a stack as it is to be, or in a state of it.

    Args:
        name: of the stack, whose stage has the levels.
        state: by `pulumi stack export`; None: what the stack renders.

    Raises:
        ToolchainError: there is no such stack, or something mandatory is broken.
    """
    settings = load(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exported = state.resolve() if state else folder / "state.json"
        if state is None:
            with rendering(name, folder, **as_deployed(settings.images)) as on:
                on.run("up", "--yes", "--skip-preview")
                exported.write_text(on.state())
        command = ["pulumi", "--non-interactive", "policy", "analyze", "--file", str(exported)]
        environment = rendering_environment(folder, folder)
        done = subprocess.run([*command, *policies(settings.stage)], env=environment, cwd=PROJECT, check=False)
    if done.returncode != 0:
        raise ToolchainError(f"stack {name} breaks policies, or they could not be asked: the lines above say which")


def as_deployed(images: Images) -> dict[str, Any]:
    """Settings by which third-party images have a digest where `make up` would give them one."""
    if os.environ.get("TOOLS", "embedded") != "embedded":
        return {}
    named: dict[str, str] = images.model_dump(exclude_none=True)
    return {"images": {name: image if "@" in image else f"{image}@{DIGEST}" for name, image in named.items()}}


def main() -> None:
    if len(sys.argv) not in (2, 3):
        raise ToolchainError("usage: python -m toolchain.policies STACK [STATE]")
    state = Path(sys.argv[2]) if len(sys.argv) == 3 else None
    check(sys.argv[1], state)


if __name__ == "__main__":
    run_command(main)
