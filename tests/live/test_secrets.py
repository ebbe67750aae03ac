"""Every secret of the stack is searched for in the outputs that may hold none: the state, a preview, logs, manifests, images."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from estate.pulumi.events import SECRET
from estate.stack.model import Stack, on, outputs, secret
from tests.support.running import Items, Kubectl

INDEX = "application/vnd.oci.image.index.v1+json"
Canaries = dict[str, SecretStr]
ACCEPTED = f"{INDEX}, application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def canaries(stack: Stack) -> Canaries:
    found = {name: SecretStr(secret(stack, name)) for name in stack.settings.secrets}
    assert all(len(value) > 20 for value in found.values())
    return found


def reported(canaries: Canaries, text: bytes | str) -> list[str]:
    """Return the names of the secrets that a text contains."""
    sought = text if isinstance(text, bytes) else text.encode()
    return [name for name, value in canaries.items() if value.get_secret_value().encode() in sought]


def test_the_exported_state_tells_none(stack: Stack, canaries: Canaries) -> None:
    exported = stack.pulumi("stack", "export", "--stack", stack.name).stdout
    assert '"urn"' in exported
    assert reported(canaries, exported) == []


def test_a_preview_tells_none(stack: Stack, canaries: Canaries) -> None:
    preview = stack.pulumi("preview", "--json", "--show-sames", *on(stack)).stdout
    assert "stringData" in preview
    assert reported(canaries, preview) == []


def test_the_event_log_that_comments_are_made_from_tells_none(stack: Stack, canaries: Canaries, tmp_path: Path) -> None:
    log = tmp_path / "events"
    stack.pulumi("preview", "--event-log", str(log), *on(stack))
    assert SECRET in log.read_text()
    assert reported(canaries, log.read_text()) == []


def test_logs_and_pods_tell_none(kubectl: Kubectl, items: Items, canaries: Canaries) -> None:
    pods = items("pods")
    logs = [kubectl("logs", pod["metadata"]["name"], "--all-containers") for pod in pods]
    assert any(logs)
    assert reported(canaries, "".join(logs)) == []
    manifests = json.dumps(items("pods,deployments,statefulsets,jobs,cronjobs,configmaps,ingresses"))
    assert reported(canaries, manifests) == []


def contents(registry: httpx.Client, digest: str) -> Iterator[bytes]:
    """Yield the content of every part of an image, unpacked (https://github.com/opencontainers/image-spec)."""
    manifest = registry.get(f"/manifests/{digest}").raise_for_status()
    yield manifest.content
    document = manifest.json()
    for child in document.get("manifests", ()):
        yield from contents(registry, child["digest"])
    for part in (document["config"], *document["layers"]) if "layers" in document else ():
        blob = registry.get(f"/blobs/{part['digest']}", follow_redirects=True).raise_for_status().content
        yield gzip.decompress(blob) if blob.startswith(b"\x1f\x8b") else blob


@pytest.mark.parametrize("service", ["user-service", "api-gateway"])
def test_images_tell_none(stack: Stack, canaries: Canaries, service: str) -> None:
    reference = outputs(stack)["images"][service]
    name, digest = reference.partition("@")[::2]
    host, path = name.rpartition(":")[0].split("/", 1)
    with httpx.Client(base_url=f"http://{host}/v2/{path}", headers={"Accept": ACCEPTED}) as registry:
        blobs = list(contents(registry, digest))
    assert sum(map(len, blobs)) > 10_000_000
    assert reported(canaries, b"\n".join(blobs)) == []
