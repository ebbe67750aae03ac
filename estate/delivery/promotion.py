"""`estate promote`: write the digests that one stack runs into the file of another, as a change to review.

Nothing is built, and no tag is resolved. If the other stack has its own registry, the images are copied there.
"""

import difflib
import getpass
import io
import json
import subprocess
from datetime import UTC, datetime
from typing import Any

from ruamel.yaml import YAML

from estate.core.console import EstateError, UsageError, say, step
from estate.core.paths import PROJECT, write_whole
from estate.pulumi.recovery import refuse_locked
from estate.report.status import Status, status_of
from estate.stack import releases
from estate.stack.model import OURS, Stack, ask, load, outputs
from estate.stack.releases import DIRTY, Release
from estate.stack.target import target

UNUSED = {"python"}
"""Images that only a stack that builds its own images needs."""


def promote(source: str, to: str) -> None:
    """Write the images that stack `source` runs into the file of stack `to`.

    Raises:
        EstateError: `to` cannot take the release, `source` is unhealthy or being updated, or an image is missing; nothing was changed.
    """
    if source == to:
        raise UsageError(f"{source} cannot take its own release: name two stacks, such as estate promote dev staging")
    giving, taking = (Stack(name, load(name), target()) for name in (source, to))
    if taking.settings.build:
        raise UsageError(f"stack {to} builds its own images: promote to a stack that takes them by digest")
    found = outputs(giving)
    refuse_locked(giving)
    release = healthy_release(giving, found["images"])
    if taking.settings.protected:
        must_be_committed(source, release)
    with step("images"):
        digests = {name: carry(taking, name, image) for name, image in sorted(release.images.items())}
    third_party = {name: image for name, image in found["versions"].items() if "@" in image and name not in UNUSED}
    before = taking.file.read_text()
    after = with_release(before, digests, third_party, provenance(source, release))
    if after == before:
        say(f"stack {to} names the release of {source} already: nothing is to be promoted")
        return
    write_whole(taking.file, after)
    name = str(taking.file.relative_to(PROJECT))
    say(
        "".join(
            difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), name, name, n=1)
        )
    )
    say(
        f"Have this change reviewed and commit it; then estate up --stack {to}, and estate rollback --stack {to} leads back."
    )


def must_be_committed(source: str, release: Release) -> None:
    """Refuse a release that was built from uncommitted changes.

    Raises:
        EstateError: no commit has the source of the release.
    """
    if release.commit.endswith(DIRTY):
        raise EstateError(
            f"stack {source} runs what was built from changes that no commit has ({release.commit}): "
            "commit them, bring that up where it is built, and promote it from there"
        )


def healthy_release(stack: Stack, images: dict[str, str]) -> Release:
    """Return the newest release of a healthy stack.

    Raises:
        EstateError: the last update failed, a workload is not ready or runs another image, a critical alert fires, or
            Prometheus does not answer.
    """
    newest = next(iter(releases.known(stack)), None)
    if newest is None or newest.images != images:
        raise EstateError(
            f"the last update of stack {stack.name} did not come up: estate up --stack {stack.name} first"
        )
    deployments = json.loads(ask(stack, "get", "deployments", OURS, "-o", "json"))["items"]
    if ill := [*unwell(status_of(stack)), *other_images(deployments, images)]:
        raise EstateError(
            f"stack {stack.name} is not well, so it is not promoted (estate status --stack {stack.name}): {'; '.join(ill)}"
        )
    return newest


def unwell(status: Status) -> list[str]:
    """Return the reasons not to promote a stack: workloads that are not ready, critical alerts, or no answer from Prometheus."""
    return [
        *(f"{found.name} has {found.ready} of {found.desired} ready" for found in status.workloads if not found.well),
        *(f"{alert.name} fires: {alert.summary}" for alert in status.alerts if alert.severity == "critical"),
        *([status.unanswered] if status.unanswered else []),
    ]


def other_images(deployments: list[dict[str, Any]], images: dict[str, str]) -> list[str]:
    """Return a line for each of our services that runs another image than that of the stack's last update."""
    running = {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["image"] for item in deployments
    }
    return [
        f"{name} runs {running.get(name)}, not {image}" for name, image in images.items() if running.get(name) != image
    ]


def carry(to: Stack, name: str, image: str) -> str:
    """Return the reference of an image in the registry of a stack, by the same digest; copy it there if it is missing.

    Raises:
        EstateError: the image cannot be read or copied, or has another digest after the copy.
    """
    _, _, digest = image.partition("@")
    repository = f"{to.settings.registry}/{name}"
    reference = f"{repository}@{digest}"
    if not is_there(to, reference):
        tag = f"{repository}:{digest.removeprefix('sha256:')[:12]}"  # registries garbage-collect untagged images
        imagetools(to, "create", "--prefer-index=false", "--tag", tag, image)
        if not is_there(to, reference):
            raise EstateError(f"{image} became another in {repository}: that registry does not keep digests")
    return reference


def is_there(stack: Stack, reference: str) -> bool:
    """Return whether a registry has the image of a reference by digest."""
    try:
        imagetools(stack, "inspect", reference)
    except EstateError:
        return False
    return True


def imagetools(stack: Stack, *words: str) -> str:
    """Run `docker buildx imagetools`, and return its output.

    Raises:
        EstateError: it failed; with its error output.
    """
    buildx = ["docker-buildx"] if stack.target.embedded else ["docker", "buildx"]
    command = [*buildx, "imagetools", *words]
    done = subprocess.run(command, env=stack.target.environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EstateError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def provenance(source: str, release: Release) -> dict[str, str]:
    """Return the source stack and commit of a release, and the user and time of the promotion."""
    mail = subprocess.run(
        ["git", "config", "user.email"], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout.strip()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"stack": source, "commit": release.commit, "at": now, "by": mail or getpass.getuser()}


def with_release(text: str, digests: dict[str, str], third_party: dict[str, str], promoted: dict[str, str]) -> str:
    """Return the text of a stack file with another release, comments preserved; unchanged if it names the release already."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content: Any = yaml.load(text)  # pyright: ignore[reportUnknownMemberType]
    settings = content["config"]["estate:settings"]
    images = {**settings.get("images", {}), **third_party}
    if settings.get("digests") == digests and settings.get("images", {}) == images:
        return text
    settings |= {"digests": digests, "images": images, "promoted": promoted}
    written = io.StringIO()
    yaml.dump(content, written)  # pyright: ignore[reportUnknownMemberType]
    return written.getvalue()
