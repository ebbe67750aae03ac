"""Our services: each is declared here, once, and all that it takes follows from that."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Literal

Need = Literal["postgres", "redis", "consul"]
GATEWAY = "api-gateway"
VARIABLE = r"APP_[A-Z0-9_]+"
"""Matches a variable of a service's own."""
PLACE = r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?"
"""Matches what a place outside the estate is called."""


class DeclarationError(Exception):
    """A declaration that cannot be: of which service, what is wrong, and what to do."""


@dataclass(frozen=True)
class Service:
    """A service behind the gateway."""

    name: str
    """Of its folder in apps/, its image and all that runs it."""
    needs: tuple[Need, ...]
    """What it connects to."""
    prefixes: tuple[str, ...]
    """Paths at which the gateway serves it; the stack may say on which other terms (`routes`)."""
    calls: tuple[str, ...] = ()
    """Other services that it calls, by their names."""
    passes_token_to: tuple[str, ...] = ()
    """Those of them that get the token of the user in whose request it calls; others get none."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Settings of its own, by their names in its environment (APP_…), and the values that they have where a stack gives no other."""
    egress: tuple[str, ...] = ()
    """What it connects to outside the estate; a stack says where that is (`outside`)."""
    migrates: bool = False
    """Whether `python -m <package>.migrate` has to have run before it does."""

    @property
    def package(self) -> str:
        """Of its code."""
        return self.name.replace("-", "_")


def callees_first(services: Sequence[Service]) -> tuple[Service, ...]:
    """Return services so that each comes after those that it calls.

    Raises:
        DeclarationError: a service calls one that there is not, itself, one twice, or in a cycle, or has a name that cannot be.
    """
    by_name = {service.name: service for service in services}
    for service in services:
        refuse_wrong_calls(service, by_name)
        refuse_wrong_names(service)
    try:
        order = TopologicalSorter({service.name: service.calls for service in services}).static_order()
        return tuple(by_name[name] for name in order)
    except CycleError as error:
        cycle = " calls ".join(reversed(error.args[1]))
        raise DeclarationError(f"{cycle}: take one of these calls out of infra/services.py") from error


def refuse_wrong_calls(service: Service, others: Collection[str]) -> None:
    """Refuse calls that lead nowhere.

    Raises:
        DeclarationError: with what is wrong, and what to do.
    """
    where = f"service {service.name} in infra/services.py"
    for name in service.calls:
        if name == service.name:
            raise DeclarationError(f"{where} calls itself: take {name} out of calls")
        if name not in others:
            known = ", ".join(sorted(set(others) - {service.name})) or "none besides it"
            raise DeclarationError(f"{where} calls {name}, and there is no such service: calls wants some of {known}")
        if service.calls.count(name) > 1:
            raise DeclarationError(f"{where} calls {name} twice: name it once in calls")
    if unasked := set(service.passes_token_to) - set(service.calls):
        named = ", ".join(sorted(unasked))
        raise DeclarationError(f"{where} passes tokens to {named}, which it does not call: name it in calls, too")


def refuse_wrong_names(service: Service) -> None:
    """Refuse names that no setting, or no place, can have.

    Raises:
        DeclarationError: with what is wrong, and what to do.
    """
    where = f"service {service.name} in infra/services.py"
    for name in service.variables:
        if not re.fullmatch(VARIABLE, name):
            raise DeclarationError(
                f"{where} has the variable {name!r}: it wants APP_ and the key of a setting, such as APP_MAIL_SENDER"
            )
    for name in service.egress:
        if not re.fullmatch(PLACE, name) or service.egress.count(name) > 1:
            raise DeclarationError(
                f"{where} connects to {name!r}: egress wants names of lower-case letters, digits and -, each once"
            )


SERVICES = (
    Service(
        "user-service",
        needs=("postgres", "redis", "consul"),
        prefixes=("/api/v1/users", "/api/v2/users", "/users"),
        migrates=True,
    ),
)
NAMES = (GATEWAY, *(service.name for service in SERVICES))
"""Of all that is built from apps/."""
CALLEES_FIRST = callees_first(SERVICES)
"""The services, each after those that it calls."""
