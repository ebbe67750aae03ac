"""The keys with which tokens are signed and verified, as a JWK Set (RFC 7517) in a Secret."""

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from infra.key_sets import FILE, FOLDER, NAME, key_set
from infra.namespace import EstateNamespace
from infra.pods import metadata
from infra.settings.auth import JwksSettings


class TokenKeys(pulumi.ComponentResource):
    """Keys that services have mounted. The Secret keeps its name, so that new keys reach running pods without a restart."""

    secret: Secret
    environment: dict[str, str]
    """Environment variables of a service that verifies tokens."""

    def __init__(
        self, keys: pulumi.Output[list[str]], issuer: str, jwks: JwksSettings | None, namespace: EstateNamespace
    ) -> None:
        """Create the Secret.

        Args:
            keys: keys of 32 bytes or more, as base64url without padding; the first one signs.
            issuer: issuer of the tokens: the public URL of the estate.
            jwks: another issuer, whose tokens are accepted too.
            namespace: namespace of the services.
        """
        self.jwks = jwks
        super().__init__("estate:token_keys:TokenKeys", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        self.secret = Secret(
            NAME,
            metadata=metadata(NAME, namespace.name),
            string_data={FILE: keys.apply(key_set)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        other = {"APP_AUTH_JWKS_URL": jwks.url, "APP_AUTH_JWKS_ISSUER": jwks.issuer} if jwks else {}
        self.environment = {"APP_AUTH_KEYS_FILE": f"{FOLDER}/{FILE}", "APP_AUTH_ISSUER": issuer} | other
        self.register_outputs({})
