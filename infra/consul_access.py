"""Who may do what in Consul: a policy and a token for each, where every token follows from one secret of the stack."""

import base64
import hmac
import uuid
from collections.abc import Sequence

import pulumi

MANAGEMENT, SERVER, AGENT, PROMETHEUS = "management", "server", "agent", "prometheus"
READ_CATALOG = 'node_prefix "" { policy = "read" }\nservice_prefix "" { policy = "read" }\n'


class Keys:
    """The tokens, and the key that gossip is encrypted by."""

    def __init__(self, seed: pulumi.Output[str]) -> None:
        """Take the secret from which everything follows."""
        self._seed = seed
        self.gossip = pulumi.Output.secret(seed.apply(gossip_key))

    def token(self, name: str) -> pulumi.Output[str]:
        """The token of one."""
        return pulumi.Output.secret(self._seed.apply(lambda seed: token(seed, name)))


def token(seed: str, name: str) -> str:
    """The token of one: a UUID, as Consul wants it, that nobody guesses without the secret."""
    return str(uuid.UUID(bytes=derived(seed, f"token:{name}")[:16], version=4))


def gossip_key(seed: str) -> str:
    """32 bytes, as `consul keygen` makes them."""
    return base64.b64encode(derived(seed, "gossip")).decode()


def derived(seed: str, purpose: str) -> bytes:
    """32 bytes for one purpose."""
    return hmac.digest(seed.encode(), f"estate:consul:{purpose}".encode(), "sha256")


def policies(apps: Sequence[str], gateway: str, server_nodes: str, agent_nodes: str) -> dict[str, str]:
    """The rules of each token but the management's, by its name.

    Args:
        apps: services that register; each may register itself alone.
        gateway: the one of them that looks for the others.
        server_nodes: what the names of the servers' nodes begin with.
        agent_nodes: likewise of the agents'; the servers' may begin with it too, since the longer one counts.
    """
    own = {name: f'service "{name}" {{ policy = "write" }}\n' for name in apps}
    return own | {
        gateway: own[gateway] + READ_CATALOG,
        SERVER: f'node_prefix "{server_nodes}" {{ policy = "write" }}\n{READ_CATALOG}',
        AGENT: f'node_prefix "{agent_nodes}" {{ policy = "write" }}\n'
        f'node_prefix "{server_nodes}" {{ policy = "read" }}\n{READ_CATALOG}',
        PROMETHEUS: f'agent_prefix "{agent_nodes}" {{ policy = "read" }}\n',
    }
