"""Add-ons that run in the cluster from the start: DNS, storage, Ingress, metrics, and the CloudNativePG operator."""

import base64
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from string import Template
from typing import Any

from estate.cluster.layout import CONFIG, DNS, HTTP_PORT, HTTPS_PORT, KUBECONFIG, NODE, VOLUMES
from estate.cluster.pki import INGRESS_CERTIFICATE, INGRESS_KEY
from estate.core.console import EstateError, wait_until
from estate.core.paths import CACHE
from estate.tools.build import Toolbox

MANIFESTS = Path(__file__).parent / "addons"
APPLIED = CONFIG / "addons.sha256"
"""File with the version of the add-ons that were applied last."""
READY_DEADLINE_S = 180


def kubectl(box: Toolbox, *words: str, stdin: str | None = None) -> str:
    """Run kubectl on the embedded cluster, and return its output.

    Raises:
        EstateError: it failed; with its error output.
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
        raise EstateError(f"`kubectl {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout


def render(box: Toolbox, images: dict[str, str]) -> str:
    """Return the rendered manifests of all add-ons.

    Args:
        box: the tools, with their own manifests.
        images: the references of the system images by name.
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
    """Return the parts of CloudNativePG's release manifest that ours does not replace: definitions, roles, webhooks."""
    (release,) = box.bin.glob("cnpg-*.yaml")
    ours = re.compile(r"^kind: (?:Deployment|Namespace)$", re.MULTILINE)
    return [document for document in release.read_text().split("\n---\n") if not ours.search(document)]


def apply_access(box: Toolbox) -> None:
    """Apply the RBAC rules of the host processes that have a user of their own."""
    kubectl(box, "apply", "--server-side", "--force-conflicts", "-f", str(MANIFESTS / "rbac.yaml"))


def apply(box: Toolbox, images: dict[str, str]) -> None:
    """Apply the manifests of the add-ons."""
    kubectl(box, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=render(box, images))
    APPLIED.write_text(version(box))


def version(box: Toolbox) -> str:
    """Return a digest of everything that the add-ons are built from: the tools in their images, and the manifests."""
    parts = [box.folder.name.encode(), *(path.read_bytes() for path in sorted(MANIFESTS.glob("*.yaml")))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def are_applied(box: Toolbox) -> bool:
    """Return whether the running cluster has the add-ons of these tools and manifests."""
    return APPLIED.exists() and APPLIED.read_text() == version(box)


def not_ready(box: Toolbox) -> list[str]:
    """Return the names of the node and the add-ons that are not ready."""
    found = json.loads(kubectl(box, "get", "nodes,deployments,daemonsets", "-A", "-o", "json"))["items"]
    system = [item for item in found if not item["metadata"].get("namespace", "").startswith("estate-")]
    expected = re.findall(
        r"^kind: (?:Deployment|DaemonSet)$", "\n".join(p.read_text() for p in MANIFESTS.glob("*.yaml")), re.MULTILINE
    )
    if len(system) < len(expected) + 1:
        return ["the add-ons"]
    return [f"{item['kind']} {item['metadata']['name']}" for item in system if not is_ready(item)]


def is_ready(item: dict[str, Any]) -> bool:
    """Return whether a node, Deployment or DaemonSet is ready and up to date, by its status."""
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
        EstateError: some were not ready in time; names them, with the warning events.
    """
    try:
        wait_until(lambda: not not_ready(box), "a ready cluster", READY_DEADLINE_S, every_s=0.5)
    except EstateError as error:
        events = kubectl(
            box, "get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"
        ).splitlines()[-8:]
        raise EstateError(
            f"{error}: {', '.join(not_ready(box))}\n" + "\n".join(f"    {e[:220]}" for e in events)
        ) from None
