"""Stand-ins for third-party images, for machines that cannot pull them; images that can be pulled are not built.

A stand-in is pushed to the embedded registry under the upstream's path, where containerd and BuildKit look first.
"""

import hashlib
import os
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from estate.cluster.images import buildx, digest_in_registry, environment, in_registry
from estate.cluster.layout import CONTAINERD_SOCKET, REGISTRY
from estate.core.console import EstateError, run_logged, step
from estate.core.paths import CACHE
from estate.core.removal import remove
from estate.tools.build import BUILDS, Toolbox, load

HERE = Path(__file__).parent
BASE = "docker.io/library/debian:bookworm-slim"
PULL_DEADLINE_S = 10


def known() -> dict[str, Path]:
    """Return the folders of the stand-ins, by the upstream reference."""
    return {
        reference: HERE / name
        for reference, name in tomllib.loads((HERE / "standins.toml").read_text())["images"].items()
    }


def publish_missing(box: Toolbox, references: Iterable[str]) -> None:
    """Build and push a stand-in for each reference that cannot be pulled and has none yet.

    Raises:
        EstateError: a reference cannot be pulled, and there is no stand-in for it.
    """
    folders = known()
    wanted = [ref for ref in sorted(set(references)) if not is_published(ref, folders)]
    with ThreadPoolExecutor() as pool:
        answers = pool.map(partial(can_be_pulled, box), wanted)
    pulled = dict(zip(wanted, answers, strict=True))
    missing = [ref for ref in wanted if not pulled[ref]]
    if impossible := [ref for ref in missing if ref not in folders]:
        raise EstateError(
            f"{', '.join(impossible)} cannot be pulled from here, and there is no stand-in: give this machine access, "
            f"or name one of {', '.join(sorted(folders))}"
        )
    if missing and not in_registry(own_reference(BASE, folders[BASE])) and not can_be_pulled(box, BASE):
        publish(box, BASE, folders[BASE])
    for reference in missing:
        if reference != BASE:
            publish(box, reference, folders[reference])


def is_published(reference: str, folders: Mapping[str, Path]) -> bool:
    """Return whether the embedded registry has a reference's image: its digest, or the current stand-in."""
    if "@" in reference:
        return in_registry(embedded(reference))
    return reference in folders and in_registry(own_reference(reference, folders[reference]))


def pinned(reference: str) -> str:
    """Return a reference pinned to its digest in the embedded registry; unchanged if there is none, or the registry does not run."""
    if "@" in reference:
        return reference
    try:
        digest = digest_in_registry(embedded(reference))
    except OSError:
        return reference
    return f"{reference}@{digest}" if digest else reference


def own_reference(reference: str, folder: Path) -> str:
    """Return the stand-in's reference in the embedded registry, with a tag derived from its build inputs."""
    digest = hashlib.sha256(load()[1].suite.encode() + machine_certificates())
    for made_of in (HERE / "debian", folder):
        for file in sorted(made_of.iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    if built := tool_folder(folder):
        digest.update(built.name.encode())
    return f"{embedded(reference).rpartition(':')[0]}:standin-{digest.hexdigest()[:12]}"


def tool_folder(folder: Path) -> Path | None:
    """Return the folder of the built tool that a stand-in copies `--from=tools`; None if it uses only packages."""
    if "--from=tools" not in (folder / "Dockerfile").read_text():
        return None
    return next(tool.folder for tool in load()[0] if tool.name == folder.name)


def embedded(reference: str) -> str:
    """Return the reference in the embedded registry for an upstream reference."""
    return f"{REGISTRY}/{reference.partition('/')[2]}"


def can_be_pulled(box: Toolbox, reference: str) -> bool:
    """Return whether this machine can pull an image from the upstream registry, which is queried directly, not through our mirror."""
    command = ["docker-buildx", "imagetools", "inspect", reference]
    try:
        asked = subprocess.run(command, env=environment(box), capture_output=True, timeout=PULL_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def publish(box: Toolbox, reference: str, folder: Path) -> None:
    """Build one stand-in, and push it under the upstream's tag and under its own."""
    context = base_context() if reference == BASE else folder
    tags = ["--tag", embedded(reference), "--tag", own_reference(reference, folder)]
    built = tool_folder(folder)
    tools = ["--build-context", f"tools={built}"] if built else []
    with step(f"stand-in for {reference}"):
        buildx(
            box, "build", "--provenance=false", "--push", *tags, *tools,
            "--file", str(folder / "Dockerfile"), str(context), what=reference,
        )  # fmt: skip
    # The node caches images by tag; without this it would never pull the new one.
    forget = ["ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io", "images", "rm", reference]
    subprocess.run(forget, env={"PATH": box.path}, capture_output=True, check=False)


def base_context() -> Path:
    """Return a folder with rootfs.tar (Debian's minimal system from debootstrap, cached) and machine.crt."""
    suite = load()[1].suite
    folder = CACHE / "rootfs" / suite
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        remove(unfinished)
        root = unfinished / "root"
        root.mkdir(parents=True)
        with step("Debian base system"):
            bootstrap(suite, root, unfinished / "rootfs.tar")
            remove(root)
        unfinished.rename(folder)
    (folder / "machine.crt").write_bytes(machine_certificates())
    return folder


def bootstrap(suite: str, root: Path, tar: Path) -> None:
    """Install Debian's minimal system into `root`, and pack the parts that an image needs."""
    logs = BUILDS / "logs"
    run_logged(["debootstrap", "--variant=minbase", suite, str(root)], logs / "debootstrap.log", "debootstrap")
    left_out = ("var/cache/apt/*", "var/lib/apt/lists/*", "dev/*")
    left_out += tuple(f"usr/share/{kind}/*" for kind in ("doc", "info", "locale", "man"))
    excludes = [f"--exclude=./{pattern}" for pattern in left_out]
    pack = ["tar", "--sort=name", "--numeric-owner", *excludes, "-C", str(root), "-cf", str(tar), "."]
    run_logged(pack, logs / "rootfs.log", "packing the Debian base system")


def machine_certificates() -> bytes:
    """Return the certificates of the authorities that this machine trusts; empty if it has none."""
    bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    return bundle.read_bytes() if bundle.is_file() else b""
