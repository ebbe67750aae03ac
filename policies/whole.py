"""Rules about a stack as a whole."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from policies.resources import POSTGRES_CLUSTER, UNKNOWN, WORKLOADS, Resource, at, each, is_known, template

Found = tuple[Resource | None, str]
"""A problem, with its resource; None: the whole stack."""
REPLICATED = ("kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet", "kubernetes:apps/v1:ReplicaSet")
BUDGET, AUTOSCALER = "kubernetes:policy/v1:PodDisruptionBudget", "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
UNITS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip


def disruption_budgets(resources: Sequence[Resource]) -> Iterator[Found]:
    """Require a PodDisruptionBudget for replicas: only a budget keeps a drained node from evicting all of them at once (https://kubernetes.io/docs/tasks/run-application/configure-pdb/)."""
    budgets = [resource for resource in resources if resource.type == BUDGET]
    for resource in resources:
        several = resource.type in REPLICATED and replicas(resource, resources, "minReplicas") > 1
        if several and not any(guards(budget, resource) for budget in budgets):
            yield (
                resource,
                "has replicas that may all be evicted at once: add a PodDisruptionBudget that selects its pods",
            )


def guards(budget: Resource, workload: Resource) -> bool:
    """Return whether a budget selects a workload's pods, or may do so."""
    selector, labels = at(budget.properties, "spec", "selector"), at(template(workload), "metadata", "labels")
    if selector is None or (
        budget.namespace != workload.namespace and is_known([budget.namespace, workload.namespace])
    ):
        return False
    if not is_known([selector, labels]):
        return True
    wanted: dict[str, str] = at(selector, "matchLabels") or {}
    same = all(at(labels, label) == value for label, value in wanted.items())
    return same and all(is_met(expression, labels) for expression in each(selector, "matchExpressions"))


def is_met(expression: Any, labels: Any) -> bool:
    """Return whether labels meet an entry of matchExpressions."""
    value, values = at(labels, at(expression, "key")), each(expression, "values")
    met = {"In": value in values, "NotIn": value not in values, "Exists": value is not None}
    return met.get(at(expression, "operator"), value is None)


def cost_guard(
    resources: Sequence[Resource],
    cpu: Annotated[str, "What all pods may request together, a Kubernetes quantity"] = "16",
    memory: Annotated[str, "What all pods may request together, a Kubernetes quantity"] = "32Gi",
) -> Iterator[Found]:
    """Limit requests, which cost money, used or not; autoscalers count with their maximum, DaemonSets as one pod, suspended CronJobs with none."""
    paid = [resource for resource in resources if resource.type in WORKLOADS | {POSTGRES_CLUSTER}]
    for quantity, limit in (("cpu", cpu), ("memory", memory)):
        total = sum(requested(resource, quantity) * pods(resource, resources) for resource in paid)
        if total > amount(limit):
            asked = f"{total:g} CPUs" if quantity == "cpu" else f"{total / UNITS['Gi']:.3g}Gi of memory"
            yield (
                None,
                f"requests {asked} in all, more than {limit}: lower requests or replicas, or raise cost-guard.{quantity}",
            )


def pods(resource: Resource, resources: Sequence[Resource]) -> int:
    """Return the number of pods of a workload that there may be at once, as far as it is known."""
    spec = at(resource.properties, "spec")
    if resource.type == POSTGRES_CLUSTER:
        return number(at(spec, "instances"))
    if resource.kind == "CronJob":
        return 0 if at(spec, "suspend") is True else number(at(spec, "jobTemplate", "spec", "parallelism"))
    if resource.kind == "Job":
        return number(at(spec, "parallelism"))
    return replicas(resource, resources, "maxReplicas")


def replicas(resource: Resource, resources: Sequence[Resource], bound: str) -> int:
    """Return the number of a workload's replicas, from its autoscaler if there is one.

    Args:
        resource: the workload.
        resources: resources of the stack.
        bound: bound of the autoscaler, `minReplicas` or `maxReplicas`.
    """
    for scaler in resources:
        target = at(scaler.properties, "spec", "scaleTargetRef") if scaler.type == AUTOSCALER else None
        named = (at(target, "kind"), at(target, "name"), scaler.namespace)
        if target is not None and named == (
            resource.kind,
            at(resource.properties, "metadata", "name"),
            resource.namespace,
        ):
            return number(at(scaler.properties, "spec", bound))
    return number(at(resource.properties, "spec", "replicas"))


def number(given: Any) -> int:
    """Return a count; 1 if none is given, or it is not known yet."""
    return 1 if given in (None, UNKNOWN) else int(given)


def requested(resource: Resource, quantity: str) -> float:
    """Return the request of each pod of a workload: that of its containers together, or of one init container, if that is more."""
    if resource.type == POSTGRES_CLUSTER:
        return amount(at(resource.properties, "spec", "resources", "requests", quantity))
    pod = at(template(resource), "spec")
    of, before = (
        [amount(at(container, "resources", "requests", quantity)) for container in each(pod, key)]
        for key in ("containers", "initContainers")
    )
    return max([sum(of), *before])


def amount(quantity: Any) -> float:
    """Return a Kubernetes quantity as a number: `250m` is 0.25; a quantity that is not given, or not known yet, is 0."""
    if quantity in (None, UNKNOWN):
        return 0
    text = str(quantity)
    digits = text.rstrip("".join(UNITS))
    return float(digits) * UNITS[text[len(digits) :]] if digits != text else float(text)
