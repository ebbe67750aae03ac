"""The levels of each stage, and the compliance of each of our stacks."""

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest

from estate.core.paths import PROJECT
from estate.pulumi.program import DIGEST, OURS, run_with, settings_of
from infra.protection import STATE
from infra.settings.images import Images
from infra.stages import STAGES
from policies.pack import described, name_of, schema
from policies.resources import Resource
from policies.rules import RESOURCE_RULES, STACK_RULES

RULES = (*RESOURCE_RULES, *STACK_RULES)
README = (PROJECT / "policies" / "README.md").read_text()
ON_PURPOSE = {("local", "private-backends", "consul")}
"""Accepted findings: stack local publishes the console of Consul, for a private machine."""


@cache
def levels(stage: str) -> dict[str, Any]:
    """Return the content of a stage's file, by policy."""
    return json.loads((PROJECT / "policies" / f"{stage}.json").read_text())


def level(stage: str, name: str) -> str:
    """Return the level of a policy."""
    given = levels(stage).get(name, {})
    return given if isinstance(given, str) else given.get("enforcementLevel", "mandatory")


def options(stage: str, name: str) -> dict[str, Any]:
    """Return the options of a policy."""
    given = levels(stage).get(name, {})
    return {} if isinstance(given, str) else {key: value for key, value in given.items() if key != "enforcementLevel"}


def asked(stage: str, rules: Iterable[Callable[..., Any]]) -> list[Callable[..., Any]]:
    """Return the rules that are not disabled."""
    return [rule for rule in rules if level(stage, name_of(rule)) != "disabled"]


@cache
def resources(stack: str) -> list[Resource]:
    """Return the resources that a stack registers, with images by digest, as `make up` has them."""
    ours = {name: f"localhost:5000/estate/{name}@{DIGEST}" for name in OURS}
    named = Images().model_dump(exclude_none=True)
    images = {name: image if "@" in image else f"{image}@{DIGEST}" for name, image in named.items()}
    registered = run_with(stack, settings_of(stack) | {"digests": ours, "images": images})
    return [Resource(one.type, one.name, one.inputs, one.protected) for one in registered]


@pytest.mark.parametrize("stack", ["local", "dev", "staging", "prod"])
def test_a_stack_breaks_nothing_but_what_it_breaks_on_purpose(stack: str) -> None:
    made = resources(stack)
    broken = {
        (stack, name_of(rule), one.name)
        for rule in asked(stack, RESOURCE_RULES)
        for one in made
        for _ in rule(one, **options(stack, name_of(rule)))
    }
    for rule in asked(stack, STACK_RULES):
        broken |= {(stack, name_of(rule), problem) for _, problem in rule(made, **options(stack, name_of(rule)))}
    assert broken == {one for one in ON_PURPOSE if one[0] == stack}
    assert all(level(stage, name) == "advisory" for stage, name, _ in broken)


def test_in_prod_what_holds_data_cannot_be_deleted() -> None:
    assert {one.type for one in resources("prod") if one.protected} == STATE
    assert not [one.name for stack in ("local", "dev", "staging") for one in resources(stack) if one.protected]


def test_in_prod_everything_is_mandatory() -> None:
    assert {level("prod", name_of(rule)) for rule in RULES} == {"mandatory"}


@pytest.mark.parametrize("stage", STAGES)
def test_levels_name_policies_and_options_that_there_are(stage: str) -> None:
    known = {name_of(rule): schema(rule) for rule in RULES}
    assert set(levels(stage)) <= set(known)
    for name in levels(stage):
        of = known[name]
        assert set(options(stage, name)) <= set(of.properties if of else ())
        assert level(stage, name) in {"mandatory", "advisory", "disabled"}


def test_the_readme_lists_every_policy_with_its_levels() -> None:
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*$", README, re.MULTILINE)
    ]
    listed = {row[0].strip("`"): row[-len(STAGES) :] for row in rows if len(row) == len(STAGES) + 2}
    assert listed == {name_of(rule): [level(stage, name_of(rule)) for stage in STAGES] for rule in RULES}


def test_the_readme_lists_every_option_with_its_default() -> None:
    for rule in RULES:
        of = schema(rule)
        for option, about in (of.properties if of else {}).items():
            default = about["default"]
            shown = default if isinstance(default, str) else ", ".join(str(one) for one in default) or "none"
            assert (
                f"| `{name_of(rule)}.{option}` | {about['description']} | {shown.replace('*', chr(92) + '*')} |"
                in README
            )


def test_every_policy_says_why_in_one_line() -> None:
    assert [
        name_of(rule) for rule in RULES if "\n" in described(rule) or not described(rule).endswith((".", ")."))
    ] == []
