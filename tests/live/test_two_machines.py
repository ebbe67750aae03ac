"""Two machines with one backend and one cluster, with plain Pulumi: each continues from the other's state."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from estate import UV_OPTIONS
from estate.cluster import layout, standins
from estate.cluster.tools import at_hand
from estate.core.environment import uv
from estate.stack.model import load, read_yaml
from tests.support.copies import copy_of_project
from tests.support.stacks import LIGHT, local_images, stack_file

UV_CACHE = subprocess.run([str(uv()), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
"""This machine's uv cache, which saves the two their downloads."""
SMALL: dict[str, Any] = LIGHT | {"postgres": {"kind": "instance"}, "consul": {"servers": 1}}
DEV, STAGING, PROD = "test-two-dev", "test-two-stage", "test-two-prod"


@dataclass(frozen=True)
class Machine:
    """A home with a clone, a kubeconfig of its own, and nothing of our environment."""

    home: Path
    backend: Path

    @property
    def clone(self) -> Path:
        return self.home / "estate"

    @property
    def environment(self) -> dict[str, str]:
        box = at_hand()
        return {
            "HOME": str(self.home),
            "PATH": f"{box.bin}:{uv().parent}:{os.environ['PATH']}",
            "PULUMI_HOME": str(box.pulumi_home),
            "PULUMI_BACKEND_URL": f"file://{self.backend}",
            "PULUMI_CONFIG_PASSPHRASE": "of the team",
            **UV_OPTIONS,
        }

    def run(self, *words: str, **environment: str) -> str:
        """Run a command in the clone, and return its output."""
        done = subprocess.run(
            words, cwd=self.clone, env=self.environment | environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def pulumi(self, stack: str, *words: str) -> str:
        """Run Pulumi on a stack."""
        return self.run("pulumi", "--non-interactive", *words, "--stack", stack)

    def secrets(self, stack: str) -> dict[str, str]:
        """Return the generated secrets of a stack."""
        state = json.loads(self.pulumi(stack, "stack", "export", "--show-secrets"))["deployment"]
        (values,) = [one["outputs"]["values"] for one in state["resources"] if "values" in one.get("outputs", {})]
        return json.loads(values["plaintext"])


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Yield two machines without a stack; remove all of their stacks afterwards."""
    backend = tmp_path / "backend"
    backend.mkdir()
    both = (Machine(tmp_path / "a", backend), Machine(tmp_path / "b", backend))
    for machine in both:
        copy_of_project(machine.clone)
        (machine.home / ".kube").mkdir()
        shutil.copy(layout.KUBECONFIG, machine.home / ".kube" / "config")
        machine.run("uv", "sync", "--frozen", UV_CACHE_DIR=UV_CACHE)
    yield both
    for stack in json.loads(both[1].run("pulumi", "stack", "ls", "--json")):
        for words in (("state", "unprotect", "--all", "--yes"), ("destroy", "--yes", "--remove")):
            both[1].pulumi(stack["name"], *words)


def write(machine: Machine, stack: str, of: str, digests: dict[str, str]) -> None:
    """Write a stack's file into a clone, as its owner would, with images that this cluster has.

    Args:
        machine: the machine with the clone.
        stack: the name of the stack.
        of: the stack whose file is the template.
        digests: the digests of our services.
    """
    content = read_yaml(stack_file(of))
    own: dict[str, Any] = content["config"]["estate:settings"]
    own["ingress"]["host"] = f"api-{stack}.myapp.com"
    images: dict[str, str] = load(of).images.model_dump(exclude_none=True)
    pulled = {name: standins.pinned(image) for name, image in images.items()}
    content["config"]["estate:settings"] = own | SMALL | {"build": False, "digests": digests, "images": pulled}
    (machine.clone / "stacks" / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump(content))


def share(stack: str, giving: Machine, taking: Machine) -> None:
    """Copy a stack's file to another machine, as a commit would."""
    name = f"stacks/Pulumi.{stack}.yaml"
    shutil.copy(giving.clone / name, taking.clone / name)


def new_stack(machine: Machine, stack: str) -> None:
    """Create a stack in the backend, and set its cluster."""
    machine.run("pulumi", "stack", "init", stack)
    machine.pulumi(stack, "config", "set", "kubernetes:context", layout.CONTEXT)


def images_of(machine: Machine, stack: str) -> dict[str, str]:
    """Return the images of our services that a stack runs."""
    return json.loads(machine.pulumi(stack, "stack", "output", "--json"))["images"]


@pytest.mark.timeout(1500)
def test_a_second_machine_goes_on_with_what_the_first_has_made(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    write(a, DEV, "dev", local_images())
    new_stack(a, DEV)
    a.pulumi(DEV, "up", "--yes", "--skip-preview")
    share(DEV, a, b)
    b.pulumi(DEV, "preview", "--expect-no-changes")
    assert b.secrets(DEV) == a.secrets(DEV)

    b.pulumi(DEV, "config", "set", "--path", "estate:settings.services.user-service.replicas", "2")
    b.pulumi(DEV, "up", "--yes", "--skip-preview")
    share(DEV, b, a)
    made = a.run(sys.executable, "-m", "estate", "--target=system", f"--context={layout.CONTEXT}", "up", "--stack", DEV)
    assert "Updating (" not in made  # the preview finds nothing to change, so that no update runs
    a.pulumi(DEV, "preview", "--expect-no-changes")
    assert b.secrets(DEV) == a.secrets(DEV)

    b.pulumi(DEV, "refresh", "--yes", "--expect-no-changes")
    b.pulumi(DEV, "destroy", "--yes", "--remove")
    assert "estate-test-two-dev" not in a.run("kubectl", "get", "namespaces", "--output=name")


@pytest.mark.timeout(1800)
def test_plain_pulumi_promotes_one_digest_from_stack_to_stack(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    ours = local_images()
    write(a, DEV, "dev", ours)
    new_stack(a, DEV)
    a.pulumi(DEV, "up", "--yes", "--skip-preview")
    for giving, taking, of in ((DEV, STAGING, "staging"), (STAGING, PROD, "prod")):
        write(b, taking, of, {})
        new_stack(b, taking)
        for name, image in images_of(a, giving).items():
            b.pulumi(taking, "config", "set", "--path", f"estate:settings.digests.{name}", image)
        b.pulumi(taking, "up", "--yes", "--skip-preview")
        share(taking, b, a)
        assert images_of(a, taking) == ours
