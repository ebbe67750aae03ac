"""A stack in the same cluster as `local`, for the time of some tests."""

import json
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from estate.cluster.images import buildx
from estate.core.paths import PROJECT
from estate.ops.update import opened, update
from estate.stack.model import OWN_STACKS, STACKS, Stack, ask, load, outputs, read_yaml, store_secret
from estate.stack.target import target
from estate.tools.build import toolbox
from tests.support.running import STACK, eventually

LIGHT: dict[str, Any] = {"service": {"requests": {"cpu": "10m"}}}
"""Settings that let the stacks of several tests together request no more CPU than two cores have."""


def estate(
    *words: str, stack: str = "", env: Mapping[str, str] | None = None, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of estate as a user would, on a stack, and capture its output.

    Args:
        words: the words of the command.
        stack: the name of the stack, if the command is for one.
        env: its environment, in place of this process's.
        given: its standard input, which is empty by default and never a terminal.
    """
    command = [sys.executable, "-m", "estate", *words, *(["--stack", stack] if stack else [])]
    return subprocess.run(command, cwd=PROJECT, env=env, input=given or "", capture_output=True, text=True, check=False)


def succeed(*words: str, stack: str = "") -> str:
    """Run a command of estate that has to succeed, print its duration, and return its output."""
    started = time.monotonic()
    done = estate(*words, stack=stack)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"estate {' '.join(words)}: {time.monotonic() - started:.1f} s\n{done.stdout}")
    return done.stdout


def local_images() -> dict[str, str]:
    """Return the images of our services that stack `local` runs, by digest."""
    return outputs(Stack(STACK, load(STACK), target()))["images"]


def stack_file(name: str) -> Path:
    """Return the file of a stack."""
    return STACKS / f"Pulumi.{name}.yaml"


def write_stack(name: str, of: str, **settings: Any) -> None:
    """Write the file of a stack that is like another.

    Args:
        name: the name of the stack, which begins with `test-`, so that git ignores its file.
        of: the stack whose file is the template.
        settings: settings that override those in it.
    """
    content = read_yaml(stack_file(of))
    own: dict[str, Any] = content["config"]["estate:settings"]
    own["ingress"]["host"] = f"api-{name}.myapp.com"
    content["config"]["estate:settings"] = own | settings
    stack_file(name).write_text(yaml.safe_dump(content))


def variant(images: dict[str, str], folder: Path, name: str, *instructions: str) -> dict[str, str]:
    """Build a variant of user-service with further instructions, and return the images with it, in the same registry."""
    before = images["user-service"]
    repository = before.partition("@")[0].rpartition(":")[0]
    dockerfile, metadata = folder / "Dockerfile", folder / "metadata.json"
    dockerfile.write_text("\n".join([f"FROM {before}", *instructions]))
    buildx(
        toolbox(), "build", "--provenance=false", "--push", "--tag", f"{repository}:{name}",
        "--metadata-file", str(metadata), str(folder), what=f"user-service {name}",
    )  # fmt: skip
    digest = json.loads(metadata.read_text())["containerimage.digest"]
    return images | {"user-service": f"{repository}@{digest}"}


@contextmanager
def next_to_local(
    name: str, of: str, images: Mapping[str, str], secrets: Mapping[str, str] = MappingProxyType({}), **settings: Any
) -> Generator[Stack]:
    """Yield a stack like another, brought up with existing images, and remove everything of it afterwards.

    Args:
        name: the name of the stack, which begins with `test-`, so that git ignores its file.
        of: the stack whose file is the template.
        images: the images of our services, by digest.
        secrets: the secrets to store, by name.
        settings: settings that override those of the other.
    """
    write_stack(name, of, build=False, digests=dict(images), **settings)
    try:
        with opened(name) as stack:
            for key, value in secrets.items():
                store_secret(stack, key, value)
            update(stack)
        yield stack
    finally:
        gone = estate("down", "--yes", stack=name)  # as in prod, where stateful resources are protected
        removed = stack_of(name).pulumi("stack", "rm", "--yes", "--stack", name, cwd=OWN_STACKS)
        for file in (stack_file(name), *OWN_STACKS.glob(f"*{name}.*")):
            file.unlink(missing_ok=True)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert removed.returncode == 0, removed.stderr
    eventually(lambda: left_of(stack) == [], "nothing is left", 60)  # volumes are deleted after their claims


def left_of(stack: Stack) -> list[str]:
    """Return the objects of a stack that are still in the cluster."""
    claimed = '{range .items[*]}{.spec.claimRef.namespace}{"\\n"}{end}'
    words = ["get", "namespaces", "--output=name"], ["get", "persistentvolumes", f"--output=jsonpath={claimed}"]
    found = [name for command in words for name in ask(stack, *command).split()]
    return [name for name in found if name.rpartition("/")[2].removesuffix("-logs") == stack.namespace]


def stack_of(name: str) -> Stack:
    """Load a stack by its name."""
    return Stack(name, load(name), target())
