from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from api_gateway.issuing import matches

from estate.core.console import EstateError
from estate.ops import token_keys
from estate.ops.clients import entry, new_client
from estate.ops.token_keys import CURRENT, NEXT, PREVIOUS, Keys, mounting
from infra.generated_secrets import changed
from infra.key_sets import NAME, kid
from infra.settings.load import parse
from infra.settings.secrets import Step
from tests.support.minimum import MINIMUM
from tests.unit.estate.interruptions import Interruptible, InterruptionError

OLD, NEW, OLDER = "o" * 43, "n" * 43, "x" * 43


@dataclass(kw_only=True)
class Stored(Interruptible):
    """The secrets of a stack, and the last values given to its pods."""

    rolled_out: list[Keys] = field(default_factory=list[Keys])
    steps: tuple[Step, ...] = ()
    """Steps of the next update."""

    def keys(self) -> Keys:
        return Keys(self.secrets[CURRENT], self.secrets.get(NEXT), self.secrets.get(PREVIOUS))


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Return the stack whose secrets the commands change."""
    stored = Stored(secrets={CURRENT: OLD})

    def change(_stack: Stored, *steps: Step) -> Stored:
        stored.steps = steps
        return stored

    def update(_stack: Stored) -> None:
        stored.step()
        stored.secrets = changed(stored.secrets, stored.steps, {})

    def roll_out(_stack: Stored, *steps: Step) -> None:
        update(change(stored, *steps))
        stored.rolled_out.append(stored.keys())
        stored.step()

    def nothing(_stack: Stored) -> None: ...

    replaced: dict[str, Any] = {
        "opened": stored.opened, "outputs": nothing, "stored": Stored.keys,
        "with_change": change, "update": update, "roll_out": roll_out,
    }  # fmt: skip
    for name, function in replaced.items():
        monkeypatch.setattr(token_keys, name, function)
    return stored


def test_a_key_is_accepted_everywhere_before_it_signs_and_after_it_did(stack: Stored) -> None:
    token_keys.rotate("local")
    announced, signing = stack.rolled_out
    new = stack.secrets[CURRENT]
    assert announced.kids == [kid(OLD), kid(new)]
    assert signing.kids == [kid(new), kid(OLD)]
    assert stack.secrets == {CURRENT: new, PREVIOUS: OLD}


def test_what_pods_have_at_the_end_is_what_the_next_update_gives_them(stack: Stored) -> None:
    token_keys.rotate("local")
    assert stack.keys().kids == stack.rolled_out[-1].kids


@pytest.mark.parametrize("steps", range(5))
def test_a_rotation_that_was_interrupted_goes_on_from_there(stack: Stored, steps: int) -> None:
    stack.steps_left = steps
    with pytest.raises(InterruptionError):
        token_keys.rotate("local")
    stack.steps_left = 1000
    token_keys.rotate("local")
    new = stack.secrets[CURRENT]
    assert stack.secrets == {CURRENT: new, PREVIOUS: OLD}
    assert {key for keys in stack.rolled_out for key in keys.kids} == {kid(OLD), kid(new)}, "one new key, not two"
    first = next(n for n, keys in enumerate(stack.rolled_out) if keys.current == new)
    assert first > 0
    assert kid(new) in stack.rolled_out[first - 1].kids


def test_a_key_that_was_replaced_has_to_be_retired_before_another_is(stack: Stored) -> None:
    stack.secrets[PREVIOUS] = OLDER
    with pytest.raises(EstateError, match="estate keys retire --stack local first"):
        token_keys.rotate("local")
    assert stack.secrets == {CURRENT: OLD, PREVIOUS: OLDER}


def test_a_retired_key_is_gone_from_the_pods(stack: Stored) -> None:
    stack.secrets[PREVIOUS] = OLDER
    token_keys.retire("local")
    assert stack.rolled_out == [Keys(OLD)]


def test_no_key_is_retired_amid_a_rotation(stack: Stored) -> None:
    stack.secrets |= {NEXT: NEW}
    with pytest.raises(EstateError, match="estate keys rotate --stack local ends it"):
        token_keys.retire("local")


@pytest.mark.parametrize(
    ("keys", "taken_over", "unretired"),
    [
        (Keys(OLD), False, False),
        (Keys(OLD, NEW), False, False),
        (Keys(OLD, NEW, OLD), False, False),
        (Keys(NEW, NEW, OLD), True, False),
        (Keys(NEW, None, OLD), False, True),
        (Keys(NEW, OLDER, OLD), False, True),
    ],
)
def test_where_a_rotation_is_follows_from_what_is_stored(keys: Keys, *, taken_over: bool, unretired: bool) -> None:
    assert (keys.taken_over, keys.unretired) == (taken_over, unretired)


def pod(name: str, secret: str = NAME, phase: str = "Running", **metadata: str) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "keys", "secret": {"secretName": secret}},
    ]
    return {"metadata": {"name": name} | metadata, "spec": {"volumes": volumes}, "status": {"phase": phase}}


def test_pods_that_have_the_keys_mounted_are_waited_for() -> None:
    leaving = pod("leaving", deletionTimestamp="2026-01-01T00:00:00Z")
    pods = [
        pod("gateway"),
        pod("starting", phase="Pending"),
        pod("postgres", "other"),
        leaving,
        pod("done", phase="Succeeded"),
    ]
    assert mounting(pods) == ["gateway", "starting"]


def test_a_new_client_is_an_entry_of_the_stack_file() -> None:
    client, client_secret = new_client("billing", "Billing: all of it", "7")
    (listed,) = yaml.safe_load(entry(client))
    settings = parse(MINIMUM | {"clients": [listed]}, "here")
    assert settings.clients == [client]
    assert matches(client.secret_hash, client_secret)
    assert client_secret not in entry(client)


def test_no_two_clients_have_one_secret() -> None:
    assert new_client("billing", "Billing", "7")[1] != new_client("billing", "Billing", "7")[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [(("", "b", "7"), "ID is missing"), (("b", "", ""), "--username, --user-id is missing"), (("b", "b", "x"), "--user-id wants 1 to 15 of the digits 0 to 9")],
)  # fmt: skip
def test_what_a_new_client_lacks_is_named_with_the_whole_command(given: tuple[str, str, str], said: str) -> None:
    with pytest.raises(EstateError, match=f"{said}: estate client add billing"):
        new_client(*given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("bill\ning", "Billing", "7"), "id: wants a text of one line"),
    ],
)
def test_a_client_that_no_stack_file_takes_is_not_made(given: tuple[str, str, str], said: str) -> None:
    with pytest.raises(EstateError, match=rf"^{said}.* \(estate client add billing"):
        new_client(*given)


@pytest.mark.parametrize("user_id", ["-1", "+7", " 7", "1_000", "\N{ARABIC-INDIC DIGIT SEVEN}", "9" * 5000])
def test_a_user_id_is_digits_and_no_more(user_id: str) -> None:
    with pytest.raises(EstateError, match=r"^--user-id wants 1 to 15 of the digits 0 to 9: estate client add billing"):
        new_client("billing", "Billing", user_id)
