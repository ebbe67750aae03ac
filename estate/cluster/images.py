"""Images of the add-ons and of the pod sandbox: one static program each, built here and never pulled."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from estate.cluster.layout import BUILDKIT_SOCKET, DOCKER_CONFIG, LOGS, REGISTRY
from estate.core.console import EstateError, last_lines, run_logged
from estate.tools.build import Toolbox

BUILDER = "estate"
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)


OPERATOR = tuple(f"operator/manager_{architecture}" for architecture in ("amd64", "arm64"))
"""Paths at which CloudNativePG's manager looks for its own binary: one of them is for this machine's architecture."""


@dataclass(frozen=True)
class SystemImage:
    """Image of one program."""

    name: str
    program: Path
    entrypoint: tuple[str, ...]
    links: tuple[str, ...] = ()
    """Additional names of the program: symbolic links relative to its folder."""
    user: int = 65532
    folder: str = "/bin"
    """Folder of the program in the image."""

    @property
    def dockerfile(self) -> str:
        return f"FROM scratch\nCOPY bin {self.folder}\nUSER {self.user}\nENTRYPOINT {json.dumps(self.entrypoint)}\n"

    @cached_property
    def reference(self) -> str:
        """Return the image's reference in the registry; the tag is derived from the content."""
        inputs = repr((self.dockerfile, self.links, str(self.program.resolve())))
        return f"{REGISTRY}/estate-system/{self.name}:{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"


def system_images(box: Toolbox) -> list[SystemImage]:
    """Return the images of the add-ons, and the image of the pod sandbox."""
    return [
        SystemImage("pause", box.debian / "usr/bin/catatonit", ("/bin/catatonit", "-P")),
        SystemImage("busybox", box.debian / "bin/busybox", ("/bin/sh",), links=("sh", "mkdir", "rm"), user=0),
        SystemImage("coredns", box.bin / "coredns", ("/bin/coredns",)),
        SystemImage("skipper", box.bin / "skipper", ("/bin/skipper",)),
        SystemImage("local-path-provisioner", box.bin / "local-path-provisioner", ("/bin/local-path-provisioner",)),
        SystemImage("metrics-server", box.bin / "metrics-server", ("/bin/metrics-server",)),
        SystemImage("cloudnative-pg", box.bin / "manager", ("/manager",), links=OPERATOR, folder="/"),
    ]


def pause(box: Toolbox) -> str:
    """Return the reference of the sandbox image, for containerd's configuration."""
    return next(image.reference for image in system_images(box) if image.name == "pause")


def publish_system(box: Toolbox) -> dict[str, str]:
    """Build and push the images that the registry lacks, and return the reference of every image by its name."""
    images = system_images(box)
    for image in images:
        if not in_registry(image.reference):
            build(box, image)
    return {image.name: image.reference for image in images}


def build(box: Toolbox, image: SystemImage) -> None:
    with tempfile.TemporaryDirectory(prefix="estate-image-") as context:
        programs = Path(context) / "bin"
        programs.mkdir()
        shutil.copy(image.program, programs / image.program.name)
        for link in image.links:
            path = programs / link
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(os.path.relpath(programs / image.program.name, path.parent))
        (Path(context) / "Dockerfile").write_text(image.dockerfile)
        buildx(
            box, "build", "--provenance=false", "--push", "--tag", image.reference, context, what=f"image {image.name}"
        )


def in_registry(reference: str) -> bool:
    """Return whether the embedded registry has an image.

    Args:
        reference: the reference, as registry/repository[:tag][@digest].

    Raises:
        EstateError: the registry answers with an unexpected status.
    """
    return digest_in_registry(reference) is not None


def digest_in_registry(reference: str) -> str | None:
    """Return the digest of an image in the embedded registry; None if it is not there.

    Args:
        reference: the reference, as registry/repository[:tag][@digest].

    Raises:
        EstateError: the registry answers with an unexpected status.
    """
    registry, _, rest = reference.partition("/")
    named, _, digest = rest.partition("@")
    repository, _, tag = named.partition(":")
    version = digest or tag
    request = urllib.request.Request(
        f"http://{registry}/v2/{repository}/manifests/{version}", method="HEAD", headers={"Accept": MANIFESTS}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.headers["Docker-Content-Digest"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise EstateError(f"the registry {registry} answers {error.code} for {reference}") from error


def buildx(box: Toolbox, *words: str, what: str) -> None:
    """Run buildx on the embedded BuildKit.

    Raises:
        EstateError: it failed; with the last lines of its output.
    """
    create_builder(box)
    log = LOGS / "buildx" / f"{what.replace(' ', '-').replace('/', '-')}.log"
    command = ["docker-buildx", words[0], "--builder", BUILDER, "--progress", "plain", *words[1:]]
    run_logged(command, log, f"building {what}", env=environment(box))


def environment(box: Toolbox) -> dict[str, str]:
    """Return the environment in which buildx, and Pulumi's docker-build, find the embedded builder."""
    return os.environ | {"PATH": box.path, "DOCKER_CONFIG": str(DOCKER_CONFIG), "BUILDX_BUILDER": BUILDER}


def create_builder(box: Toolbox) -> None:
    """Register the embedded BuildKit with buildx, once."""
    if (DOCKER_CONFIG / "buildx" / "instances" / BUILDER).exists():
        return
    log = LOGS / "buildx" / "create.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["docker-buildx", "create", "--name", BUILDER, "--driver", "remote", f"unix://{BUILDKIT_SOCKET}"]
    done = subprocess.run(command, env=environment(box), capture_output=True, text=True, check=False)
    log.write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        raise EstateError(f"buildx could not be given the embedded BuildKit:\n{last_lines(log)}")
