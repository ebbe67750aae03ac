"""The policy pack as Pulumi runs it, on rendered stacks."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from estate.core.console import EstateError
from estate.pulumi.policies import as_deployed, policies
from estate.pulumi.render import rendering
from estate.stack.model import load
from estate.stack.target import embedded
from estate.tools.build import toolbox
from tests.support.stacks import estate
from tests.tools.manifests.test_manifests import LOGS


@pytest.fixture(scope="module", autouse=True)
def tools_are_there() -> None:
    assert toolbox().folder.exists() or not embedded(), "the tools are not built: estate tools build"


def make_policies(stack: str, *options: str) -> subprocess.CompletedProcess[str]:
    return estate("policy", "check", *options, stack=stack)


@dataclass(frozen=True)
class Rendered:
    """The output of Pulumi for stack prod, and the resulting state."""

    preview: str
    update: str
    state: str


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Return stack prod with a log agent, checked against the policies."""
    pinned, pack = as_deployed(load("prod").images), policies("prod")
    with rendering("prod", tmp_path_factory.mktemp("prod"), logs=LOGS, **pinned) as on:
        return Rendered(on.run("preview", *pack), on.run("up", "--yes", "--skip-preview", *pack), on.state())


def test_a_preview_and_an_update_are_held_to_them(prod: Rendered) -> None:
    assert "✅ estate" in prod.preview
    assert "✅ estate" in prod.update


def test_a_preview_of_what_breaks_them_fails(tmp_path: Path) -> None:
    exposed = {"ingress": {"host": "api.example.com", "trusted": ["10.0.0.1/32"], "consoles": True}}
    with rendering("prod", tmp_path, **exposed) as on, pytest.raises(EstateError) as refused:
        on.run("preview", *policies("prod"))
    assert "[mandatory]  private-backends  (kubernetes:networking.k8s.io/v1:Ingress: consul)" in str(refused.value)
    assert "[mandatory]  images-by-digest" in str(refused.value)
    assert "can't run policy" not in str(refused.value)


def test_a_stack_is_looked_at_without_a_cluster() -> None:
    done = make_policies("local")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[advisory]  private-backends" in done.stdout


def test_an_exported_state_is_looked_at_without_a_cluster(prod: Rendered, tmp_path: Path) -> None:
    state = json.loads(prod.state)
    for resource in state["deployment"]["resources"]:
        resource.pop("protect", None)
    exported = tmp_path / "state.json"
    exported.write_text(json.dumps(state))
    done = make_policies("prod", "--state", str(exported))
    assert done.returncode != 0
    assert "postgres holds data and can be deleted: give it the resource option protect=True" in done.stdout
    assert "stack prod breaks policies" in done.stderr + done.stdout
