"""`estate docs architecture`: generate the diagram of workloads and connections, and the table of components, in docs/architecture.md."""

from collections.abc import Iterator, Mapping
from typing import Any

from estate.core.console import EstateError, say
from estate.core.paths import PROJECT
from estate.pulumi.program import Registered, run_program

PAGE = PROJECT / "docs" / "architecture.md"
BEGIN, END = "<!-- what follows is made by: estate docs architecture -->\n", "<!-- up to here -->\n"
STACK = "local"
SHAPES = {"Deployment": '["{}"]', "StatefulSet": '[("{}")]', "Job": '{{{{"{}"}}}}', "CronJob": '{{{{"{}"}}}}'}
DRAWN = ("estate:network_policy:Flow",)
"""Components that the diagram shows as edges."""
WORLD = '  world(["clients"])'

Labels = Mapping[str, str]


def write() -> None:
    """Draw the program's resources into the page."""
    PAGE.write_text(drawn(PAGE.read_text(), run_program(STACK)))
    say(f"written: {PAGE}")


def drawn(page: str, resources: list[Registered]) -> str:
    """Return the page with the part between its markers regenerated.

    Raises:
        EstateError: the page has no markers.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise EstateError(f"{PAGE} lacks the lines between which the diagram goes: {BEGIN.strip()} and {END.strip()}")
    return f"{head}{begin}\n{diagram(resources)}\n{components(resources)}\n{end}{tail}"


def diagram(resources: list[Registered]) -> str:
    """Return the workloads and flows as a Mermaid flowchart."""
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
    """Return the components and their files as a Markdown table."""
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
    """Return the kind of a Kubernetes object."""
    return resource.type.rpartition(":")[2]


def labels(workload: Registered) -> Labels:
    """Return the labels of a workload's pods."""
    spec = workload.inputs["spec"]
    return spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["metadata"]["labels"]


def titled(resource: Registered) -> str:
    """Return the text of a workload's node."""
    replicas = resource.inputs["spec"].get("replicas")
    return f"{resource.name}<br>{kind(resource)}" + (f", {int(replicas)}" if replicas else "")


def chosen(selector: Mapping[str, Any], pods: Mapping[str, Labels]) -> list[str]:
    """Return the workloads with pods that match a selector."""
    wanted = selector.get("matchLabels", {})
    return [name for name, labels in pods.items() if wanted.items() <= labels.items()]


def connections(resources: list[Registered], pods: Mapping[str, Labels]) -> Iterator[tuple[str, str, int]]:
    """Yield the connections that network policies allow, except DNS: workload, target (a workload or an outside address), port."""
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
    """Yield the host and the workload of each Ingress backend."""
    services = {r.inputs["metadata"]["name"]: r.inputs["spec"]["selector"] for r in resources if kind(r) == "Service"}
    for resource in resources:
        for rule in resource.inputs["spec"]["rules"] if kind(resource) == "Ingress" else ():
            backends = {path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
            for backend in backends:
                yield from ((rule["host"], name) for name in chosen({"matchLabels": services[backend]}, pods))
