"""`estate rollback`: redeploy our services from the previous release, by the digests stored in the stack's namespace."""

import json
from itertools import dropwhile

from estate.core.console import EstateError, say
from estate.ops.update import opened, show_urls, update
from estate.stack import releases
from estate.stack.model import OURS, Stack, ask, outputs, with_images
from estate.stack.releases import Release
from infra.services import NAMES


def running(stack: Stack) -> dict[str, str]:
    """Return the image of each of our services, ready or not."""
    found = json.loads(ask(stack, "get", "deployments", OURS, "-o", "json"))["items"]
    images = {item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["image"] for item in found}
    return {name: image for name, image in images.items() if name in NAMES}


def remaining(past: list[Release], now: dict[str, str]) -> list[Release]:
    """Return the releases from the rollback's target on.

    If the running images are no release (an update failed, or a rollback was interrupted), the target is the newest release.

    Args:
        past: the releases, newest first.
        now: the running images.

    Raises:
        EstateError: there is no earlier release.
    """
    left = list(dropwhile(lambda release: restored(release, now) == now, past))
    if not left:
        raise EstateError("there is no release before this one: the stack has no other that came up")
    return left


def restored(release: Release, now: dict[str, str]) -> dict[str, str]:
    """Return the images after a rollback to a release; a service that is not in the release keeps its running image."""
    return now | {name: image for name, image in release.images.items() if name in NAMES}


def roll_back(name: str) -> None:
    """Bring the services of a stack back to the release before the last one.

    Raises:
        EstateError: there is none, or the update fails.
    """
    with opened(name) as stack:
        outputs(stack)  # refuses a stack that was never up
        now = running(stack)
        left = remaining(releases.known(stack), now)
        images = restored(left[0], now)
        if absent := sorted({*NAMES} - {*images}):
            raise EstateError(
                f"{', '.join(absent)} never ran in stack {stack.name}, and has no image to go back to: estate up --stack {stack.name} first"
            )
        releases.keep(stack, left)  # first: after an interruption the same command continues from here
        for service, image in sorted(images.items()):
            say(f"  {service} " + ("stays as it is" if now.get(service) == image else f"goes back to {image}"))
        back = with_images(stack, images)
        update(back)
        show_urls(back)
    if stack.settings.build:
        say("The next make up builds from the working tree again: take the change back there too.")
    else:
        say(f"stacks/Pulumi.{stack.name}.yaml still names the other digests: put these there before the next make up.")
