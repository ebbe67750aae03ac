"""kube-score's critical findings in the manifests of the estate: none except those accepted here, each with its reason."""

import base64
import json
import shutil
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from estate.pulumi.render import DIGEST, PLACEHOLDER, render
from estate.stack.target import embedded
from estate.tools.build import toolbox
from infra.services import NAMES
from tests.support.stacks import stack_file, write_stack

CRITICAL = 1
"""Grade of a critical finding; a warning's is 5."""
KUBERNETES = "v1.34"
WITH_MORE = "test-more"
STACKS = ("local", "prod", WITH_MORE)
LOGS = {"endpoint": "https://logs.example.com", "networks": ["198.51.100.0/24"]}


@dataclass(frozen=True)
class Accepted:
    """A critical finding that is accepted."""

    check: str
    object: str
    """A pattern of the object in kube-score's form, kind/version/namespace/name."""
    reason: str


ACCEPTED = (
    Accepted(
        "container-image-pull-policy",
        "*",
        "Always asks the registry at every start: a pod could not come back while it is away. Our images are named by digest.",
    ),
    Accepted(
        "container-security-context-user-group-id",
        "*Set/*",
        "The users of Postgres' and Consul's upstream images, who own the files in every volume that is there.",
    ),
    Accepted(
        "networkpolicy-targets-pod",
        "NetworkPolicy/*/postgres-*",
        "CloudNativePG's operator makes those pods; a test holds the policies to its labels.",
    ),
)


@dataclass(frozen=True)
class Finding:
    """A critical finding."""

    check: str
    object: str
    what: str

    def is_accepted_by(self, accepted: Accepted) -> bool:
        return self.check == accepted.check and fnmatch(self.object, accepted.object)


@pytest.fixture(scope="module", autouse=True)
def tools_are_there() -> None:
    """Fail at once where the tools are missing: building them takes longer than a test may, and the build prints nothing within one."""
    assert toolbox().folder.exists() or not embedded(), "the tools are not built: estate tools build"
    assert kube_score(), "kube-score is not there: estate tools build, or with ESTATE_TARGET=system put it on PATH"


def kube_score() -> str | None:
    return shutil.which("kube-score", path=toolbox().path)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Return the manifests of a stack with one replica of each stateful service, of one with more, and of one with Grafana and a log agent."""
    write_stack(WITH_MORE, "local", images={"grafana": "docker.io/grafana/grafana:12.2.1"}, logs=LOGS)
    try:
        return {stack: manifests_of(stack, tmp_path_factory.mktemp(stack)) for stack in STACKS}
    finally:
        stack_file(WITH_MORE).unlink()


@pytest.fixture(params=STACKS)
def manifests(request: pytest.FixtureRequest, rendered: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return rendered[request.param]


def manifests_of(stack: str, folder: Path) -> list[dict[str, Any]]:
    render(stack, folder)
    return [yaml.safe_load(file.read_text()) for file in sorted(folder.rglob("*.yaml"))]


def criticals(manifests: list[dict[str, Any]], folder: Path) -> list[Finding]:
    file = folder / "all.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    command = [str(kube_score()), "score", "-o", "json", "--kubernetes-version", KUBERNETES, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # fails where it finds something
    return [
        Finding(check["check"]["id"], scored["object_name"], ", ".join(c["summary"] for c in check["comments"] or ()))
        for scored in json.loads(done.stdout)
        for check in scored["checks"]
        if check["grade"] == CRITICAL and not check["skipped"]
    ]


def test_nothing_is_critical_but_what_is_accepted(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    found = criticals(manifests, tmp_path)
    rest = [f"{f.object}: {f.check}: {f.what}" for f in found if not any(f.is_accepted_by(one) for one in ACCEPTED)]
    assert not rest, "\n".join(rest)


def test_what_is_accepted_is_little_and_still_there(rendered: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    found = [finding for manifests in rendered.values() for finding in criticals(manifests, tmp_path)]
    assert len(ACCEPTED) <= 3
    assert [one for one in ACCEPTED if not any(f.is_accepted_by(one) for f in found)] == []


def test_a_container_without_limits_is_found(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    (deployment,) = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("Deployment", "user-service")]
    broken = json.loads(json.dumps(deployment))
    del broken["spec"]["template"]["spec"]["containers"][0]["resources"]
    found = criticals([broken, *(m for m in manifests if m is not deployment)], tmp_path)
    assert ("container-resources", "user-service") in {
        (finding.check, finding.object.rpartition("/")[2]) for finding in found
    }


def test_what_is_rendered_holds_placeholders_and_no_image_that_was_built(manifests: list[dict[str, Any]]) -> None:
    words = [
        base64.b64decode(content).decode()
        for manifest in manifests
        if manifest["kind"] == "Secret"
        for name, content in manifest["data"].items()
        if "password" in name
    ]
    assert words
    assert all(PLACEHOLDER in word for word in words)
    images = {
        container["image"]
        for manifest in manifests
        if manifest["kind"] == "Deployment"
        for container in manifest["spec"]["template"]["spec"]["containers"]
    }
    assert {image for image in images if DIGEST in image} == {f"localhost:5000/estate/{app}@{DIGEST}" for app in NAMES}
