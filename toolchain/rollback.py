"""`make rollback`: our services as they were in the release before, by the digests that the stack's namespace remembers."""

import json
import sys
from itertools import dropwhile

from infra.services import NAMES
from toolchain import releases
from toolchain.console import ToolchainError, run_command, say
from toolchain.estate import opened, show_urls, update
from toolchain.releases import Release
from toolchain.stack import Stack, ask, with_images


def running(stack: Stack) -> dict[str, str]:
    """The image of each of our services, ready or not."""
    found = json.loads(ask(stack, "get", "deployments", "-o", "json"))["items"]
    images = {item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["image"] for item in found}
    return {name: image for name, image in images.items() if name in NAMES}


def remaining(past: list[Release], now: dict[str, str]) -> list[Release]:
    """The releases from the one on that a rollback goes to.

    What runs is no release where it never came up, or where a rollback was interrupted: then it is the newest one.

    Args:
        past: the releases, newest first.
        now: the images that run.

    Raises:
        ToolchainError: there is none before.
    """
    left = list(dropwhile(lambda release: restored(release, now) == now, past))
    if not left:
        raise ToolchainError("there is no release before this one: the stack remembers no other that came up")
    return left


def restored(release: Release, now: dict[str, str]) -> dict[str, str]:
    """Return the images after a rollback to a release; of a service that it does not know, what runs now."""
    return now | {name: image for name, image in release.images.items() if name in NAMES}


def main() -> None:
    if len(sys.argv) != 2:
        raise ToolchainError("usage: python -m toolchain.rollback STACK")
    with opened(sys.argv[1]) as stack:
        now = running(stack)
        left = remaining(releases.known(stack), now)
        images = restored(left[0], now)
        if absent := sorted({*NAMES} - {*images}):
            raise ToolchainError(
                f"{', '.join(absent)} never ran in stack {stack.name}, and has no image to go back to: make up STACK={stack.name} first"
            )
        releases.keep(stack, left)  # first: where this is interrupted, the same command goes on from here
        for name, image in sorted(images.items()):
            say(f"  {name} " + ("stays as it is" if now.get(name) == image else f"goes back to {image}"))
        back = with_images(stack, images)
        update(back)
        show_urls(back)
    if stack.settings.build:
        say("The next make up builds from the working tree again: take the change back there too.")
    else:
        say(f"stacks/Pulumi.{stack.name}.yaml still names the other digests: put these there before the next make up.")


if __name__ == "__main__":
    run_command(main)
