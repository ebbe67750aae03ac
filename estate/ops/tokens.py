"""`estate token` and `estate operator-secret`."""

import base64
import json
import time

import jwt
from jwt.utils import base64url_decode

from estate.core.console import say
from estate.stack.model import NotUpError, Stack, ask, load, secret
from estate.stack.target import target
from infra import key_sets

TOKEN_S = 24 * 3600


def show_token(name: str) -> None:
    """Print a token for experiments, valid for a day."""
    say(new_token(Stack(name, load(name), target())))


def show_operator_secret(name: str) -> None:
    """Print the secret with which the client `operator` gets tokens."""
    say(secret(Stack(name, load(name), target()), "operatorSecret"))


def new_token(stack: Stack) -> str:
    """Return a token that the stack's services accept, signed as the gateway signs it."""
    ingress, now = stack.settings.ingress, int(time.time())
    claims = {
        "iss": ingress.url(ingress.host),
        "aud": "estate",
        "sub": "operator",
        "user_id": 0,
        "username": "operator",
        "iat": now,
        "exp": now + TOKEN_S,
    }
    key = signing_key(stack)
    return jwt.encode(claims, base64url_decode(key), "HS256", {"kid": key_sets.kid(key)})  # pyright: ignore[reportUnknownMemberType]


def signing_key(stack: Stack) -> str:
    """Return the key with which the gateway signs, from the Secret that it has mounted.

    Raises:
        NotUpError: the stack has no keys in the cluster.
        EstateError: the cluster does not answer.
    """
    found = ask(stack, "get", "secret", key_sets.NAME, "--ignore-not-found", "--output=json")
    if not found:
        raise NotUpError(stack.name)
    members = json.loads(base64.b64decode(json.loads(found)["data"][key_sets.FILE]))["keys"]
    return members[0]["k"]
