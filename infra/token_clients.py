"""Clients of the gateway's POST /auth/token, in a Secret that contains only hashes of their secrets."""

import hashlib
import json
from collections.abc import Sequence

import pulumi
from argon2.low_level import Type, hash_secret
from pulumi_kubernetes.core.v1 import Secret

from infra.namespace import EstateNamespace
from infra.pods import metadata
from infra.settings.auth import OPERATOR, ClientSettings

NAME = "token-clients"
FOLDER = "/run/secrets/token-clients"
FILE = "clients.json"


class TokenClients(pulumi.ComponentResource):
    """Clients that the gateway has mounted. The Secret keeps its name, so that new clients reach running pods without a restart."""

    secret: Secret
    environment: dict[str, str]
    """Environment variables of the gateway."""

    def __init__(
        self, operator_secret: pulumi.Output[str], clients: Sequence[ClientSettings], namespace: EstateNamespace
    ) -> None:
        """Create the Secret.

        Args:
            operator_secret: secret of the client `operator`.
            clients: the other clients.
            namespace: namespace of the gateway.
        """
        super().__init__("estate:token_clients:TokenClients", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        self.secret = Secret(
            NAME,
            metadata=metadata(NAME, namespace.name),
            string_data={FILE: operator_secret.apply(lambda secret: rendered(secret, clients))},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.environment = {"APP_CLIENTS_FILE": f"{FOLDER}/{FILE}"}
        self.register_outputs({})


def rendered(operator_secret: str, clients: Sequence[ClientSettings]) -> str:
    """Return the content of the file of clients."""
    operator = ClientSettings(id=OPERATOR, secret_hash=hashed(operator_secret, OPERATOR), user_id=0, username=OPERATOR)
    return json.dumps({"clients": [client.model_dump() for client in (operator, *clients)]})


def hashed(secret: str, client_id: str) -> str:
    """Return the Argon2id hash of a randomly generated secret, at OWASP's minimum cost.

    The salt is derived from both arguments, so that the same client gives the same content in every run of the program.
    """
    salt = hashlib.sha256(f"estate:{client_id}:{secret}".encode()).digest()[:16]
    return hash_secret(
        secret.encode(), salt, time_cost=2, memory_cost=19456, parallelism=1, hash_len=32, type=Type.ID
    ).decode()
