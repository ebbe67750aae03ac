"""The secret of a receiver is set with the command that docs/alerts.md names."""

import subprocess

from estate.core.paths import PROJECT
from estate.stack.model import Stack, secret
from tests.support.sink import SECRETS

GIVEN = "receiver-sink"


def test_a_receivers_secret_is_stored_as_it_is_given(stack: Stack) -> None:
    words = ["make", "secret", f"NAME={GIVEN}", f"STACK={stack.name}"]
    done = subprocess.run(words, cwd=PROJECT, input=f"{SECRETS[GIVEN]}\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECRETS[GIVEN] not in done.stdout + done.stderr
    assert secret(stack, GIVEN) == SECRETS[GIVEN]
