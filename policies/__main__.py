"""The policy pack: every rule of rules.py, mandatory."""

from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)

from policies.rules import RULES


def policy(rule: Any) -> ResourceValidationPolicy:
    """A rule as CrossGuard has it."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for problem in rule(args.resource_type, args.props):
            report(f"{args.name} {problem}", None)

    return ResourceValidationPolicy(
        name=rule.__name__.replace("_", "-"),
        description=rule.__doc__ or "",
        validate=validate,
    )


PolicyPack("estate", policies=[policy(rule) for rule in RULES], enforcement_level=EnforcementLevel.MANDATORY)
