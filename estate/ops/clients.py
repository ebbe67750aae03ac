"""`estate client add`: create a client that may request tokens. Its secret is shown once and stored nowhere; the stack file holds a hash."""

import re
import secrets
import textwrap

import yaml
from pydantic import ValidationError

from estate.core.console import UsageError, say
from estate.stack.model import load
from infra.mistakes import mistakes_of
from infra.settings.auth import OPERATOR, ClientSettings
from infra.stack_file import said
from infra.token_clients import hashed

USAGE = "estate client add billing --username billing --user-id 7 --stack local"


def new_client(client_id: str, username: str, user_id: str) -> tuple[ClientSettings, str]:
    """Create a client and its secret.

    Args:
        client_id: the client's id in token requests.
        username: the username in its tokens.
        user_id: the user id in its tokens.

    Raises:
        UsageError: an argument is missing or invalid; names it.
    """
    given = {"ID": client_id, "--username": username, "--user-id": user_id}
    if missing := [name for name, value in given.items() if not value.strip()]:
        raise UsageError(f"{', '.join(missing)} is missing: {USAGE}")
    if not re.fullmatch("[0-9]{1,15}", user_id):
        raise UsageError(f"--user-id wants 1 to 15 of the digits 0 to 9: {USAGE}")
    client_secret = secrets.token_urlsafe(32)
    secret_hash = hashed(client_secret, client_id)
    try:
        client = ClientSettings(id=client_id, user_id=int(user_id), username=username, secret_hash=secret_hash)
    except ValidationError as error:
        wrong = "; ".join(map(said, mistakes_of(error, ClientSettings, {})))
        raise UsageError(f"{wrong} ({USAGE})") from error
    return client, client_secret


def entry(client: ClientSettings) -> str:
    """Return a client as an entry of the stack file."""
    values = client.model_dump(include={"id", "user_id", "username", "secret_hash"})
    return textwrap.indent(yaml.safe_dump([values], sort_keys=False, width=1000), " " * 6)


def add(name: str, client_id: str, username: str, user_id: str) -> None:
    """Make a client's secret, and print it with the client's entry in the stack file.

    Raises:
        UsageError: the stack has such a client already, or an argument is invalid.
    """
    settings = load(name)
    if client_id in {OPERATOR, *(client.id for client in settings.clients)}:
        raise UsageError(f"stack {name} has a client {client_id!r} already: choose another ID, or remove it first")
    client, client_secret = new_client(client_id, username, user_id)
    say(f"The secret of {client_id}, which is shown this once: {client_secret}")
    say(f"Put this into stacks/Pulumi.{name}.yaml, below clients:, then estate up --stack {name}")
    say(entry(client).rstrip())
