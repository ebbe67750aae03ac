"""The secret of a receiver is set with the command that docs/alerts.md names."""

from estate.stack.model import Stack, secret
from tests.support.sink import SECRETS
from tests.support.stacks import estate

GIVEN = "receiver-sink"


def test_a_receivers_secret_is_stored_as_it_is_given(stack: Stack) -> None:
    done = estate("secret", "set", GIVEN, stack=stack.name, given=f"{SECRETS[GIVEN]}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECRETS[GIVEN] not in done.stdout + done.stderr
    assert secret(stack, GIVEN) == SECRETS[GIVEN]
