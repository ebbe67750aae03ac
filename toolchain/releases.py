"""The releases that a stack has had, newest first, kept in its namespace: what `make rollback` goes back to."""

import json

from toolchain.stack import Stack, ask

NAME, KEPT = "releases", 10


def known(stack: Stack) -> list[dict[str, str]]:
    """The images of each release, by service."""
    found = ask(stack, "get", "configmap", NAME, "--ignore-not-found", "-o", "jsonpath={.data.images}")
    return json.loads(found or "[]")


def keep(stack: Stack, releases: list[dict[str, str]]) -> None:
    """Store releases, the newest first.

    Raises:
        ToolchainError: the cluster does not take them.
    """
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME},
        "data": {"images": json.dumps(releases[:KEPT])},
    }
    ask(stack, "apply", "--server-side", "--force-conflicts", "--filename=-", given=json.dumps(config_map))


def with_newest(releases: list[dict[str, str]], images: dict[str, str]) -> list[dict[str, str]]:
    """The releases after one more; one that is there already is the newest again."""
    return [images, *(release for release in releases if release != images)]
