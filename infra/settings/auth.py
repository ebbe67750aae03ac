"""Clients that get tokens, and other issuers of tokens."""

import base64
import re
from typing import Annotated, cast

from pydantic import AfterValidator, Field

from infra.addresses import Network, Url
from infra.settings.base import Settings, port_of
from infra.values import Text, matching

NUMBER = r"([1-9]\d{0,9})"
ARGON2ID = rf"\$argon2id\$v=19\$m={NUMBER},t={NUMBER},p={NUMBER}\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
"""Pattern of a hash (https://github.com/P-H-C/phc-string-format)."""
MOST_MEMORY_KIB, MOST_PASSES, MOST_LANES = 64 * 1024, 64, 64
"""Maximum cost of one token for the gateway: a quarter of its memory, and the time that a client waits. RFC 9106 ends at 2^32 and 2^24."""
SALT_BYTES, HASH_BYTES = range(8, 65), range(16, 129)
"""Lengths of salt and hash. RFC 9106, section 3.1, has 16 bytes of salt, and at least 4 of hash; libargon2 accepts 8 of salt."""


def argon2id(value: str) -> str:
    """Return a hash of a secret that can be verified (RFC 9106, section 3.1).

    Raises:
        ValueError: the value is invalid.
    """
    wanted = "wants the whole hash that estate client add prints"
    matching(ARGON2ID, value, wanted)
    memory, passes, lanes, salt, tag = cast("re.Match[str]", re.fullmatch(ARGON2ID, value)).groups()
    lengths = [len(bytes_of(part)) for part in (salt, tag)]
    if lengths[0] not in SALT_BYTES or lengths[1] not in HASH_BYTES:
        raise ValueError(f"{wanted}: 8 to 64 bytes of salt and 16 to 128 of hash, in base64 without =")
    if int(passes) > MOST_PASSES or int(lanes) > MOST_LANES or not 8 * int(lanes) <= int(memory) <= MOST_MEMORY_KIB:
        raise ValueError(
            f"{wanted}: m of 8 times p to {MOST_MEMORY_KIB}, t and p of 1 to {MOST_PASSES}, which the gateway can verify"
        )
    return value


def bytes_of(part: str) -> bytes:
    """Return the bytes of base64 without padding; none if that is not how they are written, as where the last character is cut off."""
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), validate=True)
    except ValueError:
        return b""
    return decoded if base64.b64encode(decoded).decode().rstrip("=") == part else b""


HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"
OPERATOR = "operator"
"""The client that every stack has; its secret is the stack's `operatorSecret`."""
MOST_PRECISE = 10**15 - 1
"""Largest number that Pulumi keeps exactly."""


class ClientSettings(Settings):
    """A program that may get tokens from POST /auth/token; `estate client add` creates one."""

    id: Text
    """Name that it sends as client_id."""
    secret_hash: Annotated[str, AfterValidator(argon2id)] = Field(
        examples=[HASH], json_schema_extra={"pattern": f"^{ARGON2ID}$"}
    )
    """Hash of its secret, made with Argon2id."""
    user_id: int = Field(ge=0, le=MOST_PRECISE, examples=[7])
    """Id of the user that its tokens are for."""
    username: Text
    """Name of the same user."""


class JwksSettings(Settings):
    """Another issuer, whose tokens are accepted in addition to our own."""

    url: Url
    """URL of its JWK Set."""
    issuer: Text = Field(examples=["https://login.example.com/"])
    """Value of `iss` in its tokens."""
    networks: list[Network] = Field(default=["0.0.0.0/0"], min_length=1)
    """CIDRs of its host; services that verify tokens may connect there, on the URL's port."""

    @property
    def port(self) -> int:
        """Return the port of the URL."""
        return port_of(self.url)
