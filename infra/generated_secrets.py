"""The generated passwords and keys of a stack: made once, kept in Pulumi's state as secrets.

All who share the stack's backend have the same ones; there is no file to copy from machine to machine.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

CHANGE = "ESTATE_SECRETS_CHANGE"
"""Environment variable with a Change as JSON, for one update; absent: every secret stays as it is."""
RESOURCE = "generated-secrets"
TYPE = "pulumi-python:dynamic/estate:GeneratedSecrets"
"""Type of the resource in Pulumi's state."""
Values = dict[str, str]


class Step(NamedTuple):
    """One step of a change."""

    do: Literal["generate", "copy", "set", "take", "remove"]
    """`take` takes the value that the configuration gives."""
    name: str
    of: str = ""
    """Other name for `copy`, value that is not secret for `set`."""


class Keeper(ResourceProvider):
    """Generate what is missing, and change only what is asked for; Pulumi's state names this class, so it keeps its place."""

    serialize_as_secret_always = False  # it holds nothing

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Generate every value that is not given."""
        return CreateResult(RESOURCE, kept({}, props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Find a difference where a name has no value, or where a change has not been made."""
        missing = set(_news["names"]) - set(_olds["values"])
        return DiffResult(changes=bool(missing) or is_new(_news.get("change"), _olds))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Generate what is missing, and make the change unless it is made already."""
        return UpdateResult(kept(_olds, _news))


def kept(olds: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the state holds after an update.

    Args:
        olds: what it held; empty where there was nothing.
        news: `names` that need a value, values to begin with (`given`), and a `change`.
    """
    given: Values = news.get("given") or {}
    values: Values = dict(olds["values"] if olds else given)
    values |= {name: given.get(name) or generated() for name in news["names"] if name not in values}
    made: str | None = olds.get("changed")
    change: dict[str, Any] | None = news.get("change")
    if change and is_new(change, olds):
        values, made = changed(values, change["steps"], given), change["id"]
    return {"names": news["names"], "values": values, "changed": made}


def is_new(change: Mapping[str, Any] | None, olds: Mapping[str, Any]) -> bool:
    """Return whether a change is wanted that the state has not seen."""
    return change is not None and change["id"] != olds.get("changed")


def changed(values: Values, steps: Sequence[Sequence[str]], given: Values) -> Values:
    """Return values after some steps, in their order.

    Args:
        values: by name.
        steps: each a Step.
        given: what `take` takes.
    """
    result = dict(values)
    for kind, name, of in steps:
        match kind:
            case "generate":
                result[name] = generated()
            case "copy":
                result[name] = result[of]
            case "set":
                result[name] = of
            case "take":
                result[name] = given[name]
            case _:
                result.pop(name, None)
    return result


def generated() -> str:
    """Return 32 random bytes as base64url without padding."""
    return secrets.token_urlsafe(32)


class GeneratedSecrets(Resource, module="estate", name="GeneratedSecrets"):
    """The values, by name, as Pulumi secrets."""

    values: pulumi.Output[Values]

    def __init__(self, names: Sequence[str], given: Mapping[str, pulumi.Output[str]]) -> None:
        """Have a value for each name.

        Args:
            names: of what the stack needs.
            given: values to begin with, by name; they say nothing once there is a value.
        """
        properties: dict[str, Any] = {
            "names": sorted(names),
            "given": dict(given),
            "change": json.loads(os.environ.get(CHANGE, "null")),
            "values": None,
            "changed": None,
        }
        super().__init__(Keeper(), RESOURCE, properties, pulumi.ResourceOptions(additional_secret_outputs=["values"]))

    def __getitem__(self, name: str) -> pulumi.Output[str]:
        """Return one of the values."""
        return self.values.apply(lambda values: values[name])

    def among(self, names: Sequence[str]) -> pulumi.Output[list[str]]:
        """Return the values of those names that have one, in the order of the names."""
        return self.values.apply(lambda values: [values[name] for name in names if name in values])
