import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.authority import authority, pem
from infra.settings import StackSettings, parse
from tests.minimum import MINIMUM
from toolchain import estate, stack
from toolchain.console import ToolchainError
from toolchain.stack import Stack
from toolchain.target import Target


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the stack's secrets become."""
    secrets: dict[str, str] = {}

    @contextmanager
    def opened(_name: str) -> Generator[None]:
        yield

    def store(_stack: object, key: str, value: str) -> None:
        secrets[key] = value

    monkeypatch.setattr(estate, "opened", opened)
    for module in (estate, stack):
        monkeypatch.setattr(module, "store_secret", store)
    return secrets


def test_a_secret_is_stored_as_it_is_given_and_not_shown(
    stored: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" pass word \n"))
    estate.give_secret("local", "postgresPassword")
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
    with pytest.raises(ToolchainError, match=said):
        estate.give_secret("local", key)
    assert stored == {}


def test_the_secret_of_a_receiver_is_one_that_can_be_given(
    stored: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    receivers = [{"name": "pager", "kind": "pagerduty"}]
    settings = parse(MINIMUM | {"receivers": receivers}, "here")

    def load(_name: str) -> StackSettings:
        return settings

    monkeypatch.setattr(estate, "load", load)
    monkeypatch.setattr("sys.stdin", io.StringIO("key\n"))
    estate.give_secret("local", "receiver-pager")
    assert stored == {"receiver-pager": "key"}


def test_what_somebody_else_has_said_is_not_generated(
    stored: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    where = {"host": "db.example.com", "networks": ["192.0.2.0/24"], "ca": pem(authority("theirs"))}
    postgres = {"kind": "managed", "managed": where}
    settings = parse(MINIMUM | {"postgres": postgres}, "here")

    def there(_stack: object) -> set[str]:
        return {"tokenKey"}

    monkeypatch.setattr(stack, "stored_secrets", there)
    stack.generate_secrets(Stack("team", settings, Target(tmp_path, "context", {}, embedded=False)))
    assert set(stored) == {*settings.secrets} - {"postgresPassword", "tokenKey"}
