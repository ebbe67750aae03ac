"""Release history of a stack, newest first, stored in its namespace: the source for `estate rollback` and `estate promote`."""

import json
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from estate.core.paths import PROJECT
from estate.stack.model import Stack, ask

NAME, KEPT = "releases", 10
DIRTY = "-dirty"
"""Suffix of a commit with uncommitted changes in the working tree."""


@dataclass(frozen=True)
class Release:
    """Images that were deployed together."""

    images: dict[str, str]
    """Images of our services, by digest."""
    commit: str
    """Commit that the images were built from; ends with `-dirty` if the working tree had changes."""
    at: str
    """Time of the release, in RFC 3339 format."""


def known(stack: Stack) -> list[Release]:
    """Return the releases of a stack."""
    found = ask(stack, "get", "configmap", NAME, "--ignore-not-found", "-o", "jsonpath={.data.releases}")
    return [Release(**release) for release in json.loads(found or "[]")]


def keep(stack: Stack, releases: list[Release]) -> None:
    """Store releases, the newest first.

    Raises:
        EstateError: the cluster does not accept them.
    """
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME},
        "data": {"releases": json.dumps([asdict(release) for release in releases[:KEPT]])},
    }
    ask(stack, "apply", "--server-side", "--force-conflicts", "--filename=-", given=json.dumps(config_map))


def with_newest(releases: list[Release], newest: Release) -> list[Release]:
    """Return the releases with one more at the head; a known one is moved there unchanged."""
    same = [release for release in releases if release.images == newest.images]
    return [*(same or [newest]), *(release for release in releases if release.images != newest.images)]


def of(stack: Stack, images: dict[str, str]) -> Release:
    """Return the release that was just deployed."""
    promoted = stack.settings.promoted
    commit = promoted.commit if promoted and not stack.settings.build else working_tree()
    return Release(images, commit, datetime.now(UTC).isoformat(timespec="seconds"))


def working_tree() -> str:
    """Return the commit that is checked out, with the suffix DIRTY if the working tree differs from it."""
    command = ["git", "describe", "--always", f"--dirty={DIRTY}", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
