"""The keys that tokens are signed and verified by, as a JWK Set (RFC 7517) in a Secret."""

import json

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from infra.namespace import EstateNamespace
from infra.pods import metadata

NAME = "token-keys"
FOLDER = "/run/secrets/token-keys"
FILE = "jwks.json"


class TokenKeys(pulumi.ComponentResource):
    """Keys that services have mounted. The Secret keeps its name, so that new keys reach running pods without a restart."""

    secret: Secret
    environment: dict[str, str]
    """What a service that verifies tokens has in its environment."""

    def __init__(self, key: pulumi.Output[str], issuer: str, namespace: EstateNamespace) -> None:
        """Create the Secret.

        Args:
            key: 32 bytes or more, as base64url without padding.
            issuer: who signs: the public URL of the estate.
            namespace: where the services run.
        """
        super().__init__("estate:token_keys:TokenKeys", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        self.secret = Secret(
            NAME,
            metadata=metadata(NAME, namespace.name),
            string_data={FILE: key.apply(key_set)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.environment = {"APP_AUTH_KEYS_FILE": f"{FOLDER}/{FILE}", "APP_AUTH_ISSUER": issuer}
        self.register_outputs({})


def key_set(key: str) -> str:
    """The JWK Set of one key."""
    return json.dumps({"keys": [{"kty": "oct", "kid": "1", "use": "sig", "alg": "HS256", "k": key}]})
