import time
from typing import Any

import pytest
from api_gateway.discovery import EMPTY_S, Discovery, Instance, following
from servicekit.settings import Registry

ENTRY: dict[str, Any] = {
    "Service": {"ID": "a", "Address": "192.0.2.1", "Port": 1},
    "Node": {"Address": ""},
    "Checks": [],
}


async def test_a_gateway_that_has_a_list_stays_ready_without_consul() -> None:
    discovery = Discovery(Registry(address="127.0.0.1:1"), "user-service")
    with pytest.raises(ConnectionError):
        await discovery.known()
    discovery.take([ENTRY])
    await discovery.known()
    assert discovery.instances == (Instance("a", "192.0.2.1", 1),)
    with pytest.raises(ConnectionError):
        await discovery.check()


def test_an_empty_list_is_believed_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    discovery = Discovery(Registry(address="127.0.0.1:1"), "user-service")
    discovery.take([ENTRY])
    discovery.take([])
    assert discovery.instances
    now += EMPTY_S
    discovery.take([])
    assert discovery.instances == ()


@pytest.mark.parametrize(
    ("index", "new", "next_"), [(None, "7", "7"), ("7", "9", "9"), ("7", "7", "7"), ("7", "5", None), ("7", "0", None)]
)
def test_an_index_that_goes_back_starts_again(index: str | None, new: str, next_: str | None) -> None:
    assert following(index, new) == next_


def test_an_instance_that_two_agents_know_is_one() -> None:
    discovery = Discovery(Registry(address="127.0.0.1:1"), "user-service")
    discovery.take([ENTRY, ENTRY | {"Node": {"Address": "192.0.2.9"}}])
    assert discovery.instances == (Instance("a", "192.0.2.1", 1),)


WRONG = [
    ENTRY | {"Service": {"ID": "b", "Address": "192.0.2.2", "Port": 0}},
    ENTRY | {"Service": {"ID": "b", "Address": "", "Port": 1}},
    ENTRY | {"Service": {"ID": "", "Address": "192.0.2.2", "Port": 1}},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_an_entry_that_leads_nowhere_is_left_out_and_the_others_stay(
    wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    discovery = Discovery(Registry(address="127.0.0.1:1"), "user-service")
    moved = ENTRY | {"Service": {"ID": "a", "Address": "192.0.2.3", "Port": 1}}
    for answer in ([ENTRY, wrong], [wrong, moved]):
        discovery.take(answer)
    assert discovery.instances == (Instance("a", "192.0.2.3", 1),)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1  # not for every answer
    with pytest.raises(ValueError, match="no entry has"):
        discovery.take([wrong])
    assert discovery.instances
