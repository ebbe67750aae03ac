import pytest

from estate.core.console import EstateError
from estate.ops import rollback
from estate.ops.rollback import remaining, restored
from estate.stack.releases import Release, with_newest


def release(users: str) -> Release:
    return Release({"api-gateway": "gateway@1", "user-service": f"users@{users}"}, f"commit {users}", f"then {users}")


FIRST, SECOND, THIRD = release("1"), release("2"), release("3")
BAD = SECOND.images | {"user-service": "users@bad"}


def test_a_release_is_the_newest_once() -> None:
    releases = with_newest(with_newest([], FIRST), SECOND)
    again = Release(SECOND.images, "a later commit with nothing in it", "later")
    assert with_newest(releases, again) == releases == [SECOND, FIRST]
    assert with_newest(releases, FIRST) == [FIRST, SECOND]


def test_a_rollback_goes_to_the_release_before_and_again_one_further_back() -> None:
    assert remaining([THIRD, SECOND, FIRST], THIRD.images) == [SECOND, FIRST]
    assert remaining([SECOND, FIRST], SECOND.images) == [FIRST]


def test_from_one_that_never_came_up_it_goes_to_the_newest_that_did() -> None:
    assert remaining([SECOND, FIRST], BAD) == [SECOND, FIRST]


def test_one_that_was_interrupted_goes_on_from_there() -> None:
    left = remaining([THIRD, SECOND, FIRST], THIRD.images)
    assert remaining(left, THIRD.images) == left
    assert remaining(left, SECOND.images | {"api-gateway": "gateway@3"}) == left


def test_a_service_that_the_release_does_not_know_stays_and_one_that_is_gone_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollback, "NAMES", ("api-gateway", "user-service", "orders"))
    now = THIRD.images | {"orders": "orders@1"}
    assert restored(SECOND, now) == SECOND.images | {"orders": "orders@1"}
    gone = Release(SECOND.images | {"billing": "billing@1"}, "", "")
    assert restored(gone, now) == SECOND.images | {"orders": "orders@1"}
    # Images that a rollback past the service's first release has left behind are no release of their own.
    left = remaining([Release(now, "", ""), SECOND, FIRST], now)
    after = restored(left[0], now)
    assert remaining([Release(after, "", ""), *left], after) == [FIRST]


@pytest.mark.parametrize("past", [[], [FIRST]])
def test_where_there_is_none_before_it_says_so(past: list[Release]) -> None:
    with pytest.raises(EstateError, match="there is no release before this one"):
        remaining(past, FIRST.images)
