"""The policy pack: every rule, mandatory unless a file of levels says otherwise."""

import sys
from pathlib import Path

from pulumi_policy import EnforcementLevel, PolicyPack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Pulumi runs this folder, wherever it has been put
from policies.pack import policies

PolicyPack("estate", policies=policies(), enforcement_level=EnforcementLevel.MANDATORY)
