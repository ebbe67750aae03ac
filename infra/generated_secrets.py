"""Generated passwords and keys of a stack, created once and kept in Pulumi's state as secrets.

Everyone who shares the stack's backend has the same ones; no file has to be copied from machine to machine.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from infra.settings.secrets import CHANGE

RESOURCE = "generated-secrets"
Values = dict[str, str]


class Keeper(ResourceProvider):
    """Provider that generates missing values, and changes only those requested. Pulumi's state refers to this class, so it must not move."""

    serialize_as_secret_always = False  # it has no content

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Generate every value that is not given."""
        return CreateResult(RESOURCE, kept({}, props))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Report a difference if a name has no value, or if a change has not been made."""
        missing = set(_news["names"]) - set(_olds["values"])
        return DiffResult(changes=bool(missing) or is_new(_news.get("change"), _olds))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Generate missing values, and make the change unless it is made already."""
        return UpdateResult(kept(_olds, _news))


def kept(olds: Mapping[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of the state after an update.

    Args:
        olds: contents before; empty if there were none.
        news: `names` that need a value, initial values (`given`), and a `change`.
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
    """Return whether a change is requested that the state does not have yet."""
    return change is not None and change["id"] != olds.get("changed")


def changed(values: Values, steps: Sequence[Sequence[str]], given: Values) -> Values:
    """Return the values after the steps, in their order.

    Args:
        values: values by name.
        steps: steps, each in the form of a Step.
        given: values for `take`, by name.
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
    """The generated values, by name, as Pulumi secrets."""

    values: pulumi.Output[Values]

    def __init__(self, names: Sequence[str], given: Mapping[str, pulumi.Output[str]]) -> None:
        """Ensure a value for each name.

        Args:
            names: names of the secrets that the stack needs.
            given: initial values, by name; ignored once there is a value.
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
