import json

from servicekit.jwks import parse

from infra.key_sets import key_set, kid

KEYS = ["a" * 43, "b" * 43, "c" * 43]


def test_services_can_read_the_keys_and_the_first_one_stays_the_first() -> None:
    keys = parse(key_set(KEYS))
    assert list(keys) == [kid(key) for key in KEYS]
    assert {key.algorithm for key in keys.values()} == {"HS256"}


def test_a_key_that_is_stored_twice_amid_a_rotation_is_there_once() -> None:
    current, following, _ = KEYS
    assert key_set([following, following, current]) == key_set([following, current])


def test_the_name_of_a_key_says_nothing_of_it() -> None:
    assert kid(KEYS[0]) not in KEYS[0]
    assert len({kid(key) for key in KEYS}) == 3
    members = json.loads(key_set(KEYS))["keys"]
    assert all(member["kid"] == kid(member["k"]) for member in members)
