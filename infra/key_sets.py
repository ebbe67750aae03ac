"""Sets of the keys with which tokens are signed and verified (RFC 7517)."""

import hashlib
import json
from collections.abc import Sequence

NAME = "token-keys"
"""Name of the Secret with the keys of a stack."""
FOLDER = "/run/secrets/token-keys"
"""Folder in which pods mount it."""
FILE = "jwks.json"


def key_set(keys: Sequence[str]) -> str:
    """Return the JWK Set of keys, in their order; a key that is listed twice, as it is during a rotation, is in it once."""
    members = [{"kty": "oct", "kid": kid(key), "use": "sig", "alg": "HS256", "k": key} for key in dict.fromkeys(keys)]
    return json.dumps({"keys": members})


def kid(key: str) -> str:
    """Return the ID of a key: it distinguishes keys, and reveals nothing else about a random key."""
    return hashlib.sha256(f"kid:{key}".encode()).hexdigest()[:16]
