"""The pack as Pulumi runs it: a process that analyzes resources."""

import ast
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import analyzer_pb2 as asked
from pulumi.runtime.proto.analyzer_pb2_grpc import AnalyzerStub
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE

from estate.core.paths import PROJECT
from policies.resources import Resource
from policies.rules import RESOURCE_RULES, STACK_RULES
from tests.unit.policies.examples import BUDGET, DEPLOYMENT, IN_CONTAINER, SERVICE, changed

PACK = PROJECT / "policies"
OPENED = changed(SERVICE, "spec.type", "NodePort")


@contextmanager
def running() -> Generator[Any]:
    """Start the pack from its folder, as Pulumi's language host does: Pulumi would wait for output that Python holds back in a buffer."""
    with subprocess.Popen([sys.executable, str(PACK)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            port = int(process.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield AnalyzerStub(channel)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def pack() -> Generator[Any]:
    with running() as stub:
        yield stub


@pytest.fixture(autouse=True)
def unconfigured(pack: Any) -> None:
    pack.Configure(asked.ConfigureAnalyzerRequest())


def configure(pack: Any, name: str, **options: Any) -> None:
    """Configure one policy, as a file of levels does."""
    config = asked.PolicyConfig(enforcementLevel=asked.MANDATORY)
    config.properties.update(options)
    pack.Configure(asked.ConfigureAnalyzerRequest(policyConfig={name: config}))


def found(pack: Any, resource: Resource) -> list[tuple[str, int, str]]:
    """Return the pack's findings on a resource: policy, level, and message."""
    options = asked.AnalyzerResourceOptions(protect=resource.protected)
    request = asked.AnalyzeRequest(type=resource.type, name=resource.name, urn="urn", options=options)
    request.properties.update(resource.inputs)
    return [
        (one.policyName, one.enforcementLevel, one.message.rpartition("\n")[2])
        for one in pack.Analyze(request).diagnostics
    ]


def found_in_stack(pack: Any, *resources: Resource) -> list[tuple[str, str]]:
    """Return the pack's findings on a stack: policy, and the URN of the resource."""
    request = asked.AnalyzeStackRequest()
    for resource in resources:
        one = request.resources.add(type=resource.type, name=resource.name, urn=f"urn of {resource.kind}")
        one.properties.update(resource.inputs)
    return [(one.policyName, one.urn) for one in pack.AnalyzeStack(request).diagnostics]


def test_every_rule_is_a_mandatory_policy_that_says_why(pack: Any) -> None:
    infos = list(pack.GetAnalyzerInfo(empty_pb2.Empty()).policies)
    assert [info.name for info in infos] == [
        rule.__name__.replace("_", "-") for rule in (*RESOURCE_RULES, *STACK_RULES)
    ]
    assert {info.enforcementLevel for info in infos} == {asked.MANDATORY}
    assert all(info.description.strip() for info in infos)


def test_options_say_what_they_are_and_have_defaults(pack: Any) -> None:
    infos = {info.name: info for info in pack.GetAnalyzerInfo(empty_pb2.Empty()).policies}
    options = [dict(option) for info in infos.values() for option in info.configSchema.properties.values()]
    assert len(options) == 13
    assert all({"type", "description", "default"} <= set(option) for option in options)
    assert dict(infos["cost-guard"].configSchema.properties["cpu"])["default"] == "16"


def test_a_problem_names_the_resource(pack: Any) -> None:
    reported = "app is open to the world as NodePort: take spec.type out and use an Ingress, or name it in internal-services.public"
    assert found(pack, OPENED) == [("internal-services", asked.MANDATORY, reported)]


def test_what_is_unknown_at_the_preview_is_looked_at_in_the_update(pack: Any) -> None:
    """Expect a finding in the update, when Pulumi asks again with the value."""
    assert found(pack, changed(DEPLOYMENT, f"{IN_CONTAINER}.image", UNKNOWN_STRING_VALUE)) == []
    (problem,) = found(pack, changed(DEPLOYMENT, f"{IN_CONTAINER}.image", "ghcr.io/shop/app:1"))
    assert problem[:2] == ("images-by-digest", asked.MANDATORY)


def test_a_stack_with_something_unknown_in_it_is_looked_at(pack: Any) -> None:
    unknown = changed(SERVICE, "metadata.namespace", UNKNOWN_STRING_VALUE)
    assert found_in_stack(pack, DEPLOYMENT, BUDGET, unknown) == []
    assert found_in_stack(pack, DEPLOYMENT, unknown) == [("disruption-budgets", "urn of Deployment")]
    assert found_in_stack(pack, DEPLOYMENT, changed(BUDGET, "spec.selector", UNKNOWN_STRING_VALUE)) == []


def test_options_are_those_of_the_file_of_levels(pack: Any) -> None:
    configure(pack, "internal-services", public=["app"])
    assert found(pack, OPENED) == []
    configure(pack, "cost-guard", cpu="1")
    assert found_in_stack(pack, DEPLOYMENT, BUDGET) == [("cost-guard", "")]


def test_an_option_that_there_is_not_is_named_with_those_that_there_are(pack: Any) -> None:
    configure(pack, "cost-guard", cpus="1")
    with pytest.raises(
        grpc.RpcError, match="cost-guard has no option 'cpus' in the file of levels: its options are cpu, memory"
    ):
        found_in_stack(pack, DEPLOYMENT)


def test_the_pack_needs_nothing_but_itself_and_pulumi() -> None:
    needed: set[str] = set()
    for file in PACK.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                needed |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                needed.add((node.module or "").partition(".")[0])
    assert needed - set(sys.stdlib_module_names) == {"policies", "pulumi_policy"}
