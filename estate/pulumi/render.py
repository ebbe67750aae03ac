"""`estate render`: write the manifests of a stack to files, with its own program and without a cluster.

Only the files remain: state, passphrase and secrets are discarded with a temporary folder. If the stack builds our images, they are named
by a placeholder digest.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estate.core.console import EstateError, say
from estate.core.paths import PROJECT
from estate.stack.model import STACKS, load, read_yaml
from estate.stack.target import KEEP_BYTECODE, embedded, with_uv
from estate.tools.build import build_missing
from infra.services import NAMES
from infra.settings.secrets import GENERATED_SECRETS
from infra.settings.stack import StackSettings

PLACEHOLDER = "rendered-without-secrets"
DIGEST = "sha256:" + "0" * 64
OUTSIDE = ("ESTATE_KUBE_CONTEXT", "KUBECONFIG", "PULUMI_CONFIG_PASSPHRASE_FILE")
"""Environment variables that are hidden from a rendering program."""


def render(name: str, folder: Path) -> None:
    """Write the manifests of a stack.

    Args:
        name: the name of the stack.
        folder: the folder for the manifests; its content is removed first.

    Raises:
        EstateError: there is no such stack, or its program failed; with Pulumi's error output.
    """
    with rendering(name, folder) as on:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        on.run("up", "--yes", "--skip-preview")


@dataclass(frozen=True)
class Rendering:
    """A stack with its state in a temporary folder, and a folder of manifests instead of a cluster."""

    name: str
    environment: dict[str, str]
    file: Path
    """Stack file with the configuration."""

    def run(self, *words: str) -> str:
        """Run a Pulumi command on the stack, and return its output.

        Raises:
            EstateError: it failed; with Pulumi's error output.
        """
        return run([*words, "--stack", self.name, "--config-file", str(self.file)], self.environment, PROJECT)

    def state(self) -> str:
        """Return the stack's state, as Pulumi exports it."""
        return run(["stack", "export", "--stack", self.name], self.environment, PROJECT)


@contextmanager
def rendering(name: str, folder: Path, **overrides: Any) -> Generator[Rendering]:
    """Yield a stack that writes only to folders.

    Args:
        name: the name of the stack.
        folder: the folder for the manifests.
        overrides: the settings that override those in the stack's file.

    Raises:
        EstateError: there is no such stack.
    """
    settings = load(name)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        environment = rendering_environment(home, folder)
        (home / "Pulumi.yaml").write_text("name: estate\nruntime: python\n")
        run(["stack", "init", name, "--secrets-provider", "passphrase"], environment, home)
        salted = home / f"Pulumi.{name}.yaml"
        config = configuration(name, settings, **overrides)
        salted.write_text(json.dumps(read_yaml(salted) | {"config": config}))
        yield Rendering(name, environment, salted)


def configuration(name: str, settings: StackSettings, **overrides: Any) -> dict[str, Any]:
    """Return the stack's configuration, with placeholders for secrets and with building disabled."""
    config: dict[str, Any] = read_yaml(STACKS / f"Pulumi.{name}.yaml")["config"]
    digests = {app: f"{settings.registry}/{app}@{DIGEST}" for app in NAMES} | settings.digests
    changed = {"estate:settings": config["estate:settings"] | {"build": False, "digests": digests} | overrides}
    secrets = {f"estate:{secret}": PLACEHOLDER for secret in (*GENERATED_SECRETS, *settings.given_secrets)}
    # Encrypted values are tables; everything else except the settings is a plain value.
    known: dict[str, Any] = {key: value for key, value in config.items() if not isinstance(value, dict)}
    return known | changed | secrets


def rendering_environment(home: Path, folder: Path) -> dict[str, str]:
    """Return the environment in which Pulumi renders into a folder, with its state in another one."""
    inherited = {key: value for key, value in os.environ.items() if key not in OUTSIDE}
    tools: dict[str, str] = {}
    if embedded():
        box = build_missing()
        tools = {"PATH": box.path, "PULUMI_HOME": str(box.pulumi_home)}
    return with_uv(
        inherited
        | tools
        | KEEP_BYTECODE
        | {
            "ESTATE_MANIFESTS": str(folder),
            "PULUMI_BACKEND_URL": f"file://{home}",
            "PULUMI_CONFIG_PASSPHRASE": PLACEHOLDER,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
    )


def run(words: list[str], environment: dict[str, str], cwd: Path) -> str:
    """Run Pulumi, and return its output.

    Raises:
        EstateError: it failed; with its output.
    """
    command = ["pulumi", "--non-interactive", *words]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EstateError(f"pulumi {words[0]} failed, nothing was rendered:\n{done.stdout}{done.stderr.strip()}")
    return done.stdout


def write(name: str) -> None:
    """Render a stack into build/manifests, and print the number of its manifests."""
    folder = PROJECT / "build" / "manifests" / name
    render(name, folder)
    say(f"{sum(1 for _ in folder.rglob('*.yaml'))} manifests in {folder}; their Secrets hold placeholders")
