"""The service registry."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from infra.settings.base import Settings, no_boolean


class ConsulSettings(Settings):
    """The service registry."""

    servers: Annotated[Literal[1, 3], BeforeValidator(no_boolean)] = 1
    """Number of servers; three: with an agent on each node, gossip encryption, ACLs and TLS."""
