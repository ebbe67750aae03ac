"""Our services: each is declared here, once, and all that it takes follows from that."""

from dataclasses import dataclass
from typing import Literal

Need = Literal["postgres", "redis", "consul"]
GATEWAY = "api-gateway"


@dataclass(frozen=True)
class Service:
    """A service behind the gateway."""

    name: str
    """Of its folder in apps/, its image and all that runs it."""
    needs: tuple[Need, ...]
    """What it connects to."""
    prefixes: tuple[str, ...]
    """Paths at which the gateway serves it; the stack may say on which other terms (`routes`)."""
    migrates: bool = False
    """Whether `python -m <package>.migrate` has to have run before it does."""

    @property
    def package(self) -> str:
        """Of its code."""
        return self.name.replace("-", "_")


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
