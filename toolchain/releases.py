"""The releases that a stack has had, newest first, kept in its namespace: what `make rollback` goes back to, and `make promote` takes on."""

import json
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from toolchain.paths import PROJECT
from toolchain.stack import Stack, ask

NAME, KEPT = "releases", 10
DIRTY = "-dirty"
"""Ends a commit whose files were changed."""


@dataclass(frozen=True)
class Release:
    """Images that came up together."""

    images: dict[str, str]
    """Of our services, by digest."""
    commit: str
    """What they were built from; ends with `-dirty` where the working tree had changes."""
    at: str
    """When, as RFC 3339 has it."""


def known(stack: Stack) -> list[Release]:
    """The releases of a stack."""
    found = ask(stack, "get", "configmap", NAME, "--ignore-not-found", "-o", "jsonpath={.data.releases}")
    return [Release(**release) for release in json.loads(found or "[]")]


def keep(stack: Stack, releases: list[Release]) -> None:
    """Store releases, the newest first.

    Raises:
        ToolchainError: the cluster does not take them.
    """
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME},
        "data": {"releases": json.dumps([asdict(release) for release in releases[:KEPT]])},
    }
    ask(stack, "apply", "--server-side", "--force-conflicts", "--filename=-", given=json.dumps(config_map))


def with_newest(releases: list[Release], newest: Release) -> list[Release]:
    """The releases after one more; one that is there already is the newest again, as what it was."""
    same = [release for release in releases if release.images == newest.images]
    return [*(same or [newest]), *(release for release in releases if release.images != newest.images)]


def of(stack: Stack, images: dict[str, str]) -> Release:
    """The release that has just come up."""
    promoted = stack.settings.promoted
    commit = promoted.commit if promoted and not stack.settings.build else working_tree()
    return Release(images, commit, datetime.now(UTC).isoformat(timespec="seconds"))


def working_tree() -> str:
    """The commit that is checked out; with DIRTY, where files differ from it."""
    command = ["git", "describe", "--always", f"--dirty={DIRTY}", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
