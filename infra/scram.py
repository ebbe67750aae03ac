"""SCRAM-SHA-256 (RFC 5802, RFC 7677) as Postgres stores it: by it a server knows a password that it was never told."""

import hashlib
import hmac
from base64 import b64encode

ITERATIONS = 4096


def verifier(login: str, password: str, key: str) -> str:
    """What Postgres takes in place of the password of a login.

    The salt, which a server tells everybody, follows from a key and tells nothing of the password; the same key and
    password are the same content at every run of the program.
    """
    return stored(password, hmac.digest(key.encode(), f"estate:{login}".encode(), "sha256")[:16])


def stored(password: str, salt: bytes) -> str:
    """The two keys of a password, and how they came about."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client_key, server_key = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    keys = f"{encoded(hashlib.sha256(client_key).digest())}:{encoded(server_key)}"
    return f"SCRAM-SHA-256${ITERATIONS}:{encoded(salt)}${keys}"


def encoded(content: bytes) -> str:
    """Base64, as text."""
    return b64encode(content).decode()
