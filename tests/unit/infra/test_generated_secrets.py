from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infra.generated_secrets import Keeper, Values, changed, generated, kept
from infra.settings.secrets import Step

NAMES: tuple[str, ...] = ("tokenKey", "redisPassword", "authoritySeed")


def news(*names: str, given: Values | None = None, change: str = "", steps: tuple[Step, ...] = ()) -> dict[str, Any]:
    """Return inputs as the program passes them."""
    wanted = {"id": change, "steps": [list(step) for step in steps]} if change else None
    return {"names": list(names), "given": given or {}, "change": wanted}


def differs(olds: dict[str, Any], inputs: dict[str, Any]) -> bool | None:
    return Keeper().diff("id", olds, inputs).changes


def test_every_name_has_a_value_of_its_own() -> None:
    values = kept({}, news(*NAMES))["values"]
    assert set(values) == set(NAMES)
    assert len(set(values.values())) == len(NAMES)
    assert all(len(value) == len(generated()) == 43 for value in values.values())


def test_values_begin_with_what_is_given_and_stay_when_it_changes_or_goes() -> None:
    first = kept({}, news(*NAMES, given={"tokenKey": "mine", "previousTokenKey": "older"}))
    assert first["values"]["tokenKey"] == "mine"
    assert first["values"]["previousTokenKey"] == "older"
    for other in ({}, {"tokenKey": "another machine's"}):
        assert not differs(first, news(*NAMES, given=other))
        assert kept(first, news(*NAMES, given=other))["values"] == first["values"]


def test_what_a_later_program_needs_is_generated_and_the_rest_stays() -> None:
    first = kept({}, news("tokenKey"))
    assert differs(first, news(*NAMES))
    later = kept(first, news(*NAMES))
    assert later["values"]["tokenKey"] == first["values"]["tokenKey"]
    assert set(later["values"]) == set(NAMES)


def test_a_change_is_made_once() -> None:
    first = kept({}, news("tokenKey"))
    wanted = news("tokenKey", change="1", steps=(Step("generate", "tokenKey"),))
    assert differs(first, wanted)
    after = kept(first, wanted)
    assert after["values"] != first["values"]
    assert not differs(after, wanted)
    assert kept(after, wanted) == after
    assert not differs(after, news("tokenKey"))


def test_each_step_does_what_it_says() -> None:
    before = {"tokenKey": "a", "nextTokenKey": "b"}
    steps = (Step("copy", "previousTokenKey", "tokenKey"), Step("copy", "tokenKey", "nextTokenKey"))
    over = changed(before, steps, {})
    assert over == {"tokenKey": "b", "nextTokenKey": "b", "previousTokenKey": "a"}
    assert changed(over, (Step("remove", "nextTokenKey"),), {}) == {"tokenKey": "b", "previousTokenKey": "a"}
    assert changed(before, (Step("set", "databaseLogin", "b"), Step("take", "tokenKey")), {"tokenKey": "c"}) == {
        "tokenKey": "c",
        "nextTokenKey": "b",
        "databaseLogin": "b",
    }


@given(st.lists(st.sets(st.sampled_from(NAMES)), min_size=1), st.data())
def test_no_update_without_a_change_alters_a_value(programs: list[set[str]], data: st.DataObject) -> None:
    state: dict[str, Any] = {}
    known: Values = {}
    for names in programs:
        first: Values = dict(data.draw(st.dictionaries(st.sampled_from(NAMES), st.text(min_size=1))))
        state = kept(state, news(*sorted(names), given=first))
        assert {name: state["values"][name] for name in known} == known
        known = dict(state["values"])
