import pytest

from toolchain.console import ToolchainError
from toolchain.releases import Release, with_newest
from toolchain.rollback import remaining


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


@pytest.mark.parametrize("past", [[], [FIRST]])
def test_where_there_is_none_before_it_says_so(past: list[Release]) -> None:
    with pytest.raises(ToolchainError, match="there is no release before this one"):
        remaining(past, FIRST.images)
