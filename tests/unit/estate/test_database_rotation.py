from dataclasses import dataclass, field
from typing import Any

import pytest

from estate.ops import database_password
from estate.ops.database_password import outdated, password_of
from infra.generated_secrets import changed
from infra.settings.secrets import DATABASE_LOGIN, Step
from tests.unit.estate.interruptions import Interruptible, InterruptionError


@dataclass(kw_only=True)
class Stored(Interruptible):
    """A stack's secrets, the passwords in the database, and the login of the pods."""

    secrets: dict[str, str] = field(
        default_factory=lambda: {"databasePasswordA": "first a", "databasePasswordB": "first b"}
    )
    known: dict[str, str] = field(default_factory=lambda: {"a": "first a", "b": "first b"})
    pods: tuple[str, str] = ("a", "first a")

    def in_use(self) -> tuple[str, str]:
        login = self.secrets.get(DATABASE_LOGIN, "a")
        return login, self.secrets[password_of(login)]

    def check_pods(self) -> None:
        login, password = self.pods
        assert self.known[login] == password, "pods have a password that the database refuses"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Return the stack whose secrets the command changes."""
    stored = Stored()

    def roll_out(_stack: Stored, *steps: Step) -> None:
        stored.step()
        stored.secrets = changed(stored.secrets, steps, {})
        # First the roles, then the pods, as in the program.
        stored.step()
        stored.known = {login: stored.secrets[password_of(login)] for login in ("a", "b")}
        stored.check_pods()
        stored.step()
        stored.pods = stored.in_use()
        stored.check_pods()

    def nothing(_stack: Stored) -> None: ...

    def generated(_stack: Stored) -> dict[str, str]:
        return stored.secrets

    replaced: dict[str, Any] = {
        "opened": stored.opened,
        "outputs": nothing,
        "generated": generated,
        "roll_out": roll_out,
    }
    for name, function in replaced.items():
        monkeypatch.setattr(database_password, name, function)
    return stored


def test_the_other_login_is_used_by_a_new_password_and_the_old_ones_is_unknown(stack: Stored) -> None:
    database_password.rotate("local")
    assert stack.pods == ("b", stack.known["b"])
    assert "first b" not in stack.known.values()
    assert "first a" not in stack.known.values()


def test_a_second_rotation_comes_back_to_the_first_login(stack: Stored) -> None:
    database_password.rotate("local")
    second = dict(stack.known)
    database_password.rotate("local")
    assert stack.pods == ("a", stack.known["a"])
    assert not set(second.values()) & set(stack.known.values())


@pytest.mark.parametrize("steps", range(9))
def test_a_rotation_that_was_interrupted_is_run_again_without_a_pod_that_is_refused(stack: Stored, steps: int) -> None:
    stack.steps_left = steps
    with pytest.raises(InterruptionError):
        database_password.rotate("local")
    stack.check_pods()
    stack.steps_left = 1000
    database_password.rotate("local")
    assert stack.pods == stack.in_use()
    assert not {"first a", "first b"} & set(stack.known.values())


def item(kind: str, name: str, secret: str, phase: str = "Running") -> dict[str, Any]:
    spec: dict[str, Any] = {
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "secrets", "secret": {"secretName": secret}}]
    }
    if kind == "Deployment":
        return {"kind": kind, "metadata": {"name": name}, "spec": {"template": {"spec": spec}}}
    labels = {"app.kubernetes.io/name": name.partition(" ")[0]}
    return {"kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"phase": phase}}


def test_pods_with_other_secrets_than_their_deployment_are_waited_for() -> None:
    items = [
        item("Deployment", "users", "new"),
        item("Pod", "users 1", "new"),
        item("Pod", "users 2", "old"),
        item("Pod", "users 3", "old", "Succeeded"),
        item("Pod", "postgres 0", "other"),
    ]
    assert outdated(items) == ["users 2"]
