"""Commands on a stack's secrets, tokens and clients."""

from typing import Annotated

import typer

from estate.cli.options import LOCAL, StackName
from estate.core.console import timed

app = typer.Typer()
secret, keys = typer.Typer(no_args_is_help=True), typer.Typer(no_args_is_help=True)
db_password, client = typer.Typer(no_args_is_help=True), typer.Typer(no_args_is_help=True)
app.add_typer(secret, name="secret", help="Store secrets.")
app.add_typer(keys, name="keys", help="Rotate the keys that sign tokens.")
app.add_typer(db_password, name="db-password", help="Rotate the passwords of the services at the database.")
app.add_typer(client, name="client", help="Register programs that request tokens.")


@secret.command("set")
def store(name: Annotated[str, typer.Argument(help="Name of the secret.")], stack: StackName = LOCAL) -> None:
    """Store one of the stack's secrets: ask for it, or read it from standard input."""
    from estate.ops import update

    update.give_secret(stack, name)


@app.command()
def token(stack: StackName = LOCAL) -> None:
    """Print a token for the API, valid for a day."""
    from estate.ops import tokens

    tokens.show_token(stack)


@app.command()
def operator_secret(stack: StackName = LOCAL) -> None:
    """Print the secret with which the client `operator` gets tokens."""
    from estate.ops import tokens

    tokens.show_operator_secret(stack)


@keys.command("rotate")
def rotate_keys(stack: StackName = LOCAL) -> None:
    """Sign tokens with a new key; the old one stays valid until it is retired."""
    from estate.ops import token_keys

    with timed():
        token_keys.rotate(stack)


@keys.command("retire")
def retire_key(stack: StackName = LOCAL) -> None:
    """Stop accepting tokens that the old key signed."""
    from estate.ops import token_keys

    with timed():
        token_keys.retire(stack)


@db_password.command("rotate")
def rotate_database_password(stack: StackName = LOCAL) -> None:
    """Give the services' logins at the database other passwords."""
    from estate.ops import database_password

    with timed():
        database_password.rotate(stack)


@client.command()
def add(
    client_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the client in requests for tokens.")],
    username: Annotated[str, typer.Option(help="Username in its tokens.")],
    user_id: Annotated[str, typer.Option(help="User id in its tokens.")],
    stack: StackName = LOCAL,
) -> None:
    """Make a secret for a program that requests tokens."""
    from estate.ops import clients

    clients.add(stack, client_id, username, user_id)
