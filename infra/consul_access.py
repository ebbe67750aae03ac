"""Consul's ACL: a policy and a token for each client, with every token derived from one secret of the stack."""

import base64
import hmac
import uuid
from collections.abc import Sequence

import pulumi

MANAGEMENT, SERVER, AGENT, PROMETHEUS = "management", "server", "agent", "prometheus"
READ_CATALOG = 'node_prefix "" { policy = "read" }\nservice_prefix "" { policy = "read" }\n'


class Keys:
    """The ACL tokens, and the key with which gossip is encrypted."""

    def __init__(self, seed: pulumi.Output[str]) -> None:
        """Take the secret from which tokens and key are derived."""
        self._seed = seed
        self.gossip = pulumi.Output.secret(seed.apply(gossip_key))

    def token(self, name: str) -> pulumi.Output[str]:
        """Return the ACL token of a name, as a Pulumi secret."""
        return pulumi.Output.secret(self._seed.apply(lambda seed: token(seed, name)))


def token(seed: str, name: str) -> str:
    """Return the ACL token of a name: a UUID, as Consul requires, that cannot be guessed without the secret."""
    return str(uuid.UUID(bytes=derived(seed, f"token:{name}")[:16], version=4))


def gossip_key(seed: str) -> str:
    """Return a gossip key of 32 bytes, as `consul keygen` prints it."""
    return base64.b64encode(derived(seed, "gossip")).decode()


def derived(seed: str, purpose: str) -> bytes:
    """Return 32 bytes for one purpose."""
    return hmac.digest(seed.encode(), f"estate:consul:{purpose}".encode(), "sha256")


def policies(apps: Sequence[str], gateway: str, server_nodes: str, agent_nodes: str) -> dict[str, str]:
    """Return the ACL rules of each token except the management token, by the token's name.

    Args:
        apps: services that register; each may register only itself.
        gateway: the service that looks up the others.
        server_nodes: prefix of the names of the servers' nodes.
        agent_nodes: prefix of the names of the agents' nodes; the servers' may begin with it too, since the longest match counts.
    """
    own = {name: f'service "{name}" {{ policy = "write" }}\n' for name in apps}
    return own | {
        gateway: own[gateway] + READ_CATALOG,
        SERVER: f'node_prefix "{server_nodes}" {{ policy = "write" }}\n{READ_CATALOG}',
        AGENT: f'node_prefix "{agent_nodes}" {{ policy = "write" }}\n'
        f'node_prefix "{server_nodes}" {{ policy = "read" }}\n{READ_CATALOG}',
        PROMETHEUS: f'agent_prefix "{agent_nodes}" {{ policy = "read" }}\n',
    }
