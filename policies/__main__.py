"""The policy pack: every rule, mandatory unless a file of levels says otherwise."""

from pulumi_policy import EnforcementLevel, PolicyPack

from policies.pack import policies

PolicyPack("estate", policies=policies(), enforcement_level=EnforcementLevel.MANDATORY)
