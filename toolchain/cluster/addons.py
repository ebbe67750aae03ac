"""What runs inside the cluster from the start: DNS, storage, Ingress, metrics."""

import base64
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from string import Template
from typing import Any

from toolchain.build import Toolbox
from toolchain.cluster.layout import CONFIG, DNS, HTTP_PORT, HTTPS_PORT, KUBECONFIG, NODE, VOLUMES
from toolchain.cluster.pki import INGRESS_CERTIFICATE, INGRESS_KEY
from toolchain.console import ToolchainError, wait_until
from toolchain.paths import CACHE

MANIFESTS = Path(__file__).parent / "addons"
APPLIED = CONFIG / "addons.sha256"
"""The version of the add-ons that were applied last."""
READY_DEADLINE_S = 180


def kubectl(box: Toolbox, *words: str, stdin: str | None = None) -> str:
    """Output of kubectl on the embedded cluster.

    Raises:
        ToolchainError: it failed; with its own words.
    """
    command = [
        "kubectl",
        f"--kubeconfig={KUBECONFIG}",
        "--request-timeout=20s",
        f"--cache-dir={CACHE / 'kubectl'}",
        *words,
    ]
    done = subprocess.run(
        command, env=os.environ | {"PATH": box.path}, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ToolchainError(f"`kubectl {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout


def render(box: Toolbox, images: dict[str, str]) -> str:
    """Every add-on's manifest, filled in.

    Args:
        box: where the tools' own manifests are.
        images: reference of each system image by its name.
    """
    certificate = INGRESS_CERTIFICATE.read_bytes()
    values = {name.replace("-", "_"): reference for name, reference in images.items()} | {
        "certificate": base64.b64encode(certificate).decode(),
        "certificate_hash": hashlib.sha256(certificate).hexdigest()[:16],
        "dns": str(DNS),
        "forward": "forward . /etc/resolv.conf",
        "http_port": str(HTTP_PORT),
        "https_port": str(HTTPS_PORT),
        "key": base64.b64encode(INGRESS_KEY.read_bytes()).decode(),
        "node": str(NODE),
        "volumes": str(VOLUMES),
    }
    own = [Template(path.read_text()).substitute(values) for path in sorted(MANIFESTS.glob("*.yaml"))]
    return "\n---\n".join([*own, *released(box)])


def released(box: Toolbox) -> list[str]:
    """What CloudNativePG's release manifest has and our own does not: definitions, roles, webhooks."""
    (release,) = box.bin.glob("cnpg-*.yaml")
    ours = re.compile(r"^kind: (?:Deployment|Namespace)$", re.MULTILINE)
    return [document for document in release.read_text().split("\n---\n") if not ours.search(document)]


def apply_access(box: Toolbox) -> None:
    """Allow what the host processes need that are users of their own."""
    kubectl(box, "apply", "--server-side", "--force-conflicts", "-f", str(MANIFESTS / "rbac.yaml"))


def apply(box: Toolbox, images: dict[str, str]) -> None:
    """Bring the add-ons to what the manifests say."""
    kubectl(box, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=render(box, images))
    APPLIED.write_text(version(box))


def version(box: Toolbox) -> str:
    """Return a digest of all that the add-ons are made of: the tools in their images, and the manifests."""
    parts = [box.folder.name.encode(), *(path.read_bytes() for path in sorted(MANIFESTS.glob("*.yaml")))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def are_applied(box: Toolbox) -> bool:
    """Return whether the add-ons of the running cluster are those of these tools and manifests."""
    return APPLIED.exists() and APPLIED.read_text() == version(box)


def not_ready(box: Toolbox) -> list[str]:
    """Names of the node and of the add-ons that are not ready."""
    found = json.loads(kubectl(box, "get", "nodes,deployments,daemonsets", "-A", "-o", "json"))["items"]
    system = [item for item in found if not item["metadata"].get("namespace", "").startswith("estate-")]
    expected = re.findall(
        r"^kind: (?:Deployment|DaemonSet)$", "\n".join(p.read_text() for p in MANIFESTS.glob("*.yaml")), re.MULTILINE
    )
    if len(system) < len(expected) + 1:
        return ["the add-ons"]
    return [f"{item['kind']} {item['metadata']['name']}" for item in system if not is_ready(item)]


def is_ready(item: dict[str, Any]) -> bool:
    """Whether a node, Deployment or DaemonSet is as wanted, by its status."""
    status = item.get("status", {})
    if item["kind"] == "Node":
        return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
    if status.get("observedGeneration") != item["metadata"]["generation"]:
        return False
    if item["kind"] == "DaemonSet":
        return (
            status.get("numberReady", 0) == status.get("desiredNumberScheduled") == status.get("updatedNumberScheduled")
        )
    return status.get("availableReplicas", 0) >= 1 and status.get("updatedReplicas") == status.get("replicas")


def wait_ready(box: Toolbox) -> None:
    """Return once the node and every add-on are ready.

    Raises:
        ToolchainError: they were not in time; names them, with the events that say why.
    """
    try:
        wait_until(lambda: not not_ready(box), "a ready cluster", READY_DEADLINE_S, every_s=0.5)
    except ToolchainError as error:
        events = kubectl(
            box, "get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"
        ).splitlines()[-8:]
        raise ToolchainError(
            f"{error}: {', '.join(not_ready(box))}\n" + "\n".join(f"    {e[:220]}" for e in events)
        ) from None
