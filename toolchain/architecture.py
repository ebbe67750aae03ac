"""`make architecture`: what the program makes, drawn into docs/architecture.md: workloads, who connects to whom, components."""

from collections.abc import Iterator, Mapping
from typing import Any

from toolchain.console import ToolchainError, run_command, say
from toolchain.paths import PROJECT
from toolchain.program import Registered, run_program

PAGE = PROJECT / "docs" / "architecture.md"
BEGIN, END = "<!-- what follows is made by: make architecture -->\n", "<!-- up to here -->\n"
STACK = "local"
SHAPES = {"Deployment": '["{}"]', "StatefulSet": '[("{}")]', "Job": '{{{{"{}"}}}}', "CronJob": '{{{{"{}"}}}}'}
DRAWN = ("estate:network_policy:Flow",)
"""Components that are lines of the diagram."""
WORLD = '  world(["clients"])'

Labels = Mapping[str, str]


def main() -> None:
    PAGE.write_text(drawn(PAGE.read_text(), run_program(STACK)))
    say(f"written: {PAGE}")


def drawn(page: str, resources: list[Registered]) -> str:
    """The page, with what is between its marks made anew.

    Raises:
        ToolchainError: it has no marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ToolchainError(
            f"{PAGE} lacks the lines between which the diagram goes: {BEGIN.strip()} and {END.strip()}"
        )
    return f"{head}{begin}\n{diagram(resources)}\n{components(resources)}\n{end}{tail}"


def diagram(resources: list[Registered]) -> str:
    """Workloads and flows as a Mermaid flowchart."""
    pods = {resource.name: labels(resource) for resource in resources if kind(resource) in SHAPES}
    nodes = [
        f"  {resource.name}{SHAPES[kind(resource)].format(titled(resource))}"
        for resource in resources
        if kind(resource) in SHAPES
    ]
    public = [f'  world -- "{host}" --> {to}' for host, to in entries(resources, pods)]
    flows = [f"  {source} -- {port} --> {to}" for source, to, port in connections(resources, pods)]
    return "\n".join(["```mermaid", "flowchart LR", WORLD, *sorted(nodes), *sorted(public), *sorted(flows), "```", ""])


def components(resources: list[Registered]) -> str:
    """Components and their files as a table."""
    made: dict[str, set[str]] = {}
    for resource in resources:
        project, _, module = resource.type.partition(":")
        if project == "estate" and resource.type not in DRAWN:
            made.setdefault(module, set()).add(resource.name)
    rows: list[str] = []
    for module, names in sorted(made.items()):
        file, _, component = module.partition(":")
        rows.append(f"| [{component}](../infra/{file}.py) | {', '.join(sorted(names))} |")
    return "\n".join(["| component | of this kind there are |", "|---|---|", *rows, ""])


def kind(resource: Registered) -> str:
    """Of a Kubernetes object."""
    return resource.type.rpartition(":")[2]


def labels(workload: Registered) -> Labels:
    """Of its pods."""
    spec = workload.inputs["spec"]
    return spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["metadata"]["labels"]


def titled(resource: Registered) -> str:
    """What a workload's node says."""
    replicas = resource.inputs["spec"].get("replicas")
    return f"{resource.name}<br>{kind(resource)}" + (f", {int(replicas)}" if replicas else "")


def chosen(selector: Mapping[str, Any], pods: Mapping[str, Labels]) -> list[str]:
    """Workloads whose pods a selector chooses."""
    wanted = selector.get("matchLabels", {})
    return [name for name, labels in pods.items() if wanted.items() <= labels.items()]


def connections(resources: list[Registered], pods: Mapping[str, Labels]) -> Iterator[tuple[str, str, int]]:
    """What network policies let pods connect to: workload, workload or what is outside, port. DNS, which all have, aside."""
    for resource in resources:
        if kind(resource) != "NetworkPolicy" or resource.name == "default-deny":
            continue
        spec = resource.inputs["spec"]
        for rule in spec.get("egress", []):
            outside = {resource.name.partition("-to-")[2] for peer in rule["to"] if "ipBlock" in peer}
            inside = [
                name for peer in rule["to"] if "podSelector" in peer for name in chosen(peer["podSelector"], pods)
            ]
            for to in [*outside, *inside]:
                for port in rule["ports"]:
                    yield from ((own, to, int(port["port"])) for own in chosen(spec["podSelector"], pods))


def entries(resources: list[Registered], pods: Mapping[str, Labels]) -> Iterator[tuple[str, str]]:
    """What Ingresses lead to: host and workload."""
    services = {r.inputs["metadata"]["name"]: r.inputs["spec"]["selector"] for r in resources if kind(r) == "Service"}
    for resource in resources:
        for rule in resource.inputs["spec"]["rules"] if kind(resource) == "Ingress" else ():
            backends = {path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
            for backend in backends:
                yield from ((rule["host"], name) for name in chosen({"matchLabels": services[backend]}, pods))


if __name__ == "__main__":
    run_command(main)
