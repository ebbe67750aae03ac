"""Stand-ins for third-party images, for machines that cannot pull them; where they can be pulled, nothing is built.

A stand-in is pushed to the embedded registry under the upstream's path, where containerd and BuildKit look first.
"""

import hashlib
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from toolchain.build import BUILDS, Toolbox, load
from toolchain.cluster.images import buildx, environment, in_registry
from toolchain.cluster.layout import REGISTRY
from toolchain.console import ToolchainError, run_logged, step
from toolchain.paths import CACHE

HERE = Path(__file__).parent
BASE = "docker.io/library/debian:bookworm-slim"
PULL_DEADLINE_S = 10


def known() -> dict[str, Path]:
    """Folder of the stand-in for each upstream reference that has one."""
    return {
        reference: HERE / name
        for reference, name in tomllib.loads((HERE / "standins.toml").read_text())["images"].items()
    }


def publish_missing(box: Toolbox, references: Iterable[str]) -> None:
    """Build and push a stand-in for each reference that cannot be pulled and has none yet.

    Raises:
        ToolchainError: a reference can neither be pulled nor be stood in for.
    """
    folders = known()
    wanted = [
        ref
        for ref in sorted(set(references))
        if ref not in folders or not in_registry(own_reference(ref, folders[ref]))
    ]
    with ThreadPoolExecutor() as pool:
        answers = pool.map(partial(can_be_pulled, box), wanted)
    pulled = dict(zip(wanted, answers, strict=True))
    missing = [ref for ref in wanted if not pulled[ref]]
    if impossible := [ref for ref in missing if ref not in folders]:
        raise ToolchainError(
            f"{', '.join(impossible)} cannot be pulled from here, and there is no stand-in: give this machine access, "
            f"or name one of {', '.join(sorted(folders))}"
        )
    if missing and not in_registry(own_reference(BASE, folders[BASE])) and not can_be_pulled(box, BASE):
        publish(box, BASE, folders[BASE])
    for reference in missing:
        if reference != BASE:
            publish(box, reference, folders[reference])


def own_reference(reference: str, folder: Path) -> str:
    """The stand-in in the embedded registry, by a tag that follows from what it is made of."""
    tools, debian = load()
    digest = hashlib.sha256(debian.suite.encode())
    digest.update(
        next(tool.folder.name for tool in tools if tool.name == "consul").encode() if folder.name == "consul" else b""
    )
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"{embedded(reference).rpartition(':')[0]}:standin-{digest.hexdigest()[:12]}"


def embedded(reference: str) -> str:
    """Where the embedded registry has an upstream reference."""
    return f"{REGISTRY}/{reference.removeprefix('docker.io/')}"


def can_be_pulled(box: Toolbox, reference: str) -> bool:
    """Whether the upstream registry gives this machine the image; asks it, past our own mirror."""
    command = ["docker-buildx", "imagetools", "inspect", reference]
    try:
        asked = subprocess.run(command, env=environment(box), capture_output=True, timeout=PULL_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def publish(box: Toolbox, reference: str, folder: Path) -> None:
    """Build one stand-in and push it under the upstream's tag and under its own."""
    context = base_context() if reference == BASE else folder
    tags = ["--tag", embedded(reference), "--tag", own_reference(reference, folder)]
    programs = next(tool.folder for tool in load()[0] if tool.name == "consul")
    with step(f"stand-in for {reference}"):
        buildx(
            box, "build", "--provenance=false", "--push", *tags, "--build-context", f"tools={programs}",
            "--file", str(folder / "Dockerfile"), str(context), what=reference,
        )  # fmt: skip


def base_context() -> Path:
    """A folder with rootfs.tar: Debian's smallest system, by debootstrap, kept for the next time."""
    _, debian = load()
    folder = CACHE / "rootfs" / debian.suite
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    root = unfinished / "root"
    root.mkdir(parents=True)
    logs = BUILDS / "logs"
    with step("Debian base system"):
        run_logged(
            ["debootstrap", "--variant=minbase", debian.suite, str(root)], logs / "debootstrap.log", "debootstrap"
        )
        trust_what_the_machine_trusts(root)
        run_logged(
            ["tar", "--sort=name", "--numeric-owner", "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*",
             "--exclude=./usr/share/doc/*", "--exclude=./usr/share/man/*", "--exclude=./dev/*",
             "-C", str(root), "-cf", str(unfinished / "rootfs.tar"), "."],
            logs / "rootfs.log", "packing the Debian base system",
        )  # fmt: skip
        shutil.rmtree(root)
    unfinished.rename(folder)
    return folder


def trust_what_the_machine_trusts(root: Path) -> None:
    """Copy the machine's certificates: behind a company's proxy, apt and pip in a build need them."""
    bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    if bundle.is_file():
        target = root / "etc/ssl/certs"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle, target / "ca-certificates.crt")
