import io
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from estate.core.console import EstateError
from estate.ops import update
from infra.services import Service
from infra.settings.load import parse
from infra.settings.secrets import Step
from infra.settings.stack import StackSettings
from tests.support.declarations import declare
from tests.support.minimum import MINIMUM


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Yield the stack's secrets as the command stores them."""
    secrets: dict[str, str] = {}

    @contextmanager
    def opened(_name: str) -> Generator[None]:
        yield

    def generated(_stack: object) -> dict[str, str]:
        return {"tokenKey": "in use", "operatorSecret": "before"}

    def change(_stack: object, *steps: Step) -> tuple[Step, ...]:
        return steps

    def updated(steps: tuple[Step, ...]) -> None:
        secrets["updated"] = str(*steps)

    def store(_stack: object, key: str, value: str) -> None:
        secrets[key] = value

    monkeypatch.setattr(update, "opened", opened)
    for name, function in {
        "store_secret": store,
        "generated": generated,
        "with_change": change,
        "update": updated,
    }.items():
        monkeypatch.setattr(update, name, function)
    return secrets


def test_a_secret_in_use_is_replaced_at_once(stored: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("another\n"))
    update.give_secret("local", "operatorSecret")
    assert stored == {"operatorSecret": "another", "updated": str(Step("take", "operatorSecret"))}


def test_a_key_that_pods_could_not_go_over_from_stays(stored: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("another\n"))
    with pytest.raises(
        EstateError, match="tokenKey of stack local is in use, and was not replaced: estate keys rotate"
    ):
        update.give_secret("local", "tokenKey")
    assert stored == {}


def test_a_secret_is_stored_as_it_is_given_and_not_shown(
    stored: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" pass word \n"))
    update.give_secret("local", "postgresPassword")
    assert stored == {"postgresPassword": " pass word "}
    assert "pass word" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("postgresPasword", "x\n", r"there is no secret 'postgresPasword': did you mean postgresPassword\?"),
        ("postgresPassword", "\n", "postgresPassword was not given: type it"),
    ],
)
def test_a_secret_that_is_unknown_or_empty_is_refused(
    stored: dict[str, str], monkeypatch: pytest.MonkeyPatch, key: str, given: str, said: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    with pytest.raises(EstateError, match=said):
        update.give_secret("local", key)
    assert stored == {}


def test_the_secret_of_a_receiver_is_one_that_can_be_given(
    stored: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    receivers = [{"name": "pager", "kind": "pagerduty"}]
    settings = parse(MINIMUM | {"receivers": receivers}, "here")

    def load(_name: str) -> StackSettings:
        return settings

    monkeypatch.setattr(update, "load", load)
    monkeypatch.setattr("sys.stdin", io.StringIO("key\n"))
    update.give_secret("local", "receiver-pager")
    assert stored == {"receiver-pager": "key"}


def test_a_secret_of_a_services_own_is_one_that_can_be_given(
    stored: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Service("user-service", (), (), secrets=("mail-password",))
    declare(monkeypatch, own)
    monkeypatch.setattr("sys.stdin", io.StringIO("hunter2\n"))
    update.give_secret("local", "user-service-mail-password")
    assert stored == {"user-service-mail-password": "hunter2"}
