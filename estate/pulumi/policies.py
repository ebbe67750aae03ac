"""`estate policy check`: check a stack, or an exported state, against the policies, without a cluster."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from estate.core.console import EstateError, UsageError
from estate.core.paths import PROJECT
from estate.pulumi.render import DIGEST, rendering, rendering_environment
from estate.stack.model import load
from estate.stack.target import embedded
from infra.settings.images import Images
from infra.stages import Stage

PACK = "policies"


def policies(stage: Stage) -> list[str]:
    """Return the Pulumi options that enforce the policies at the levels of a stage."""
    return ["--policy-pack", PACK, "--policy-pack-config", f"{PACK}/{stage}.json"]


def check(name: str, state: Path | None) -> None:
    """Print the policy violations in a rendered stack, or in an exported state.

    Args:
        name: the stack, whose stage sets the enforcement levels.
        state: the output of `pulumi stack export`; None for the rendered stack.

    Raises:
        EstateError: there is no such stack or file, or a mandatory policy is violated.
    """
    settings = load(name)
    if state and not state.is_file():
        raise UsageError(f"--state {state} is no file: pulumi stack export --file {state} writes one")
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
        raise EstateError(f"stack {name} breaks policies, or they could not be asked: the lines above say which")


def as_deployed(images: Images) -> dict[str, Any]:
    """Return settings that give third-party images a digest where `make up` would."""
    if not embedded():
        return {}
    named: dict[str, str] = images.model_dump(exclude_none=True)
    return {"images": {name: image if "@" in image else f"{image}@{DIGEST}" for name, image in named.items()}}
