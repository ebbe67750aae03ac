"""SCRAM-SHA-256 (RFC 5802, RFC 7677) as Postgres stores it: with it a server checks a password that it never received."""

import hashlib
import hmac
from base64 import b64encode

ITERATIONS = 4096


def verifier(login: str, password: str, key: str) -> str:
    """Return the verifier that Postgres accepts in place of a login's password.

    The salt, which a server reveals to every client, is derived from a key and reveals nothing about the password. The same key and
    password give the same content in every run of the program.
    """
    return stored(password, hmac.digest(key.encode(), f"estate:{login}".encode(), "sha256")[:16])


def stored(password: str, salt: bytes) -> str:
    """Return the two keys of a password, with the iterations and the salt that they were made with."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client_key, server_key = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    keys = f"{encoded(hashlib.sha256(client_key).digest())}:{encoded(server_key)}"
    return f"SCRAM-SHA-256${ITERATIONS}:{encoded(salt)}${keys}"


def encoded(content: bytes) -> str:
    """Return bytes as base64 text."""
    return b64encode(content).decode()
