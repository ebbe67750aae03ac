"""The rules as CrossGuard policies."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from pulumi_policy import (
    Policy,
    PolicyConfigSchema,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from policies.resources import Resource
from policies.rules import RESOURCE_RULES, STACK_RULES

SCHEMAS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    Sequence[str]: {"type": "array", "items": {"type": "string"}},
    Sequence[int]: {"type": "array", "items": {"type": "integer"}},
}


def policies() -> list[Policy]:
    """Return every rule as a policy."""
    return [*map(of_resource, RESOURCE_RULES), *map(of_stack, STACK_RULES)]


def name_of(rule: Callable[..., Any]) -> str:
    """Return a rule's name in a file of levels."""
    return rule.__name__.replace("_", "-")


def of_resource(rule: Callable[..., Any]) -> ResourceValidationPolicy:
    """Return the policy for a rule about each resource."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for problem in rule(resource(args), **given(rule, args.get_config())):
            report(f"{args.name} {problem}", None)

    return ResourceValidationPolicy(name_of(rule), described(rule), validate, config_schema=schema(rule))


def of_stack(rule: Callable[..., Any]) -> StackValidationPolicy:
    """Return the policy for a rule about a whole stack."""

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        resources = [resource(of) for of in args.resources]
        for found, problem in rule(resources, **given(rule, args.get_config())):
            report(f"{found.name if found else 'the stack'} {problem}", found.urn if found else None)

    return StackValidationPolicy(name_of(rule), described(rule), validate, config_schema=schema(rule))


def resource(args: ResourceValidationArgs | PolicyResource) -> Resource:
    """Return a resource as rules see it."""
    return Resource(args.resource_type, args.name, args.props, args.opts.protect, args.urn)


def given(rule: Callable[..., Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a file of levels gives a rule.

    Raises:
        ValueError: the rule has no such option; Pulumi lets it through.
    """
    known = schema(rule)
    for key in config:
        if known is None or key not in known.properties:
            has = f"its options are {', '.join(known.properties)}" if known else "it has none"
            raise ValueError(f"{name_of(rule)} has no option {key!r} in the file of levels: {has}")
    return dict(config)


def described(rule: Callable[..., Any]) -> str:
    """Return the description of a rule: its docstring."""
    return inspect.getdoc(rule) or ""


@cache
def schema(rule: Callable[..., Any]) -> PolicyConfigSchema | None:
    """Return the schema of a rule's options, which are its parameters with defaults."""
    annotations = typing.get_type_hints(rule, include_extras=True)
    options: dict[str, dict[str, Any]] = {}
    for option in inspect.signature(rule).parameters.values():
        if option.default is not inspect.Parameter.empty:
            kind, description = typing.get_args(annotations[option.name])
            default = option.default if isinstance(option.default, str) else list(option.default)
            options[option.name] = SCHEMAS[kind] | {"description": description, "default": default}
    return PolicyConfigSchema(options) if options else None
