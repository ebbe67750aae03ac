"""Timeouts of Pulumi's operations: longer than a slow image pull, short enough to fail fast."""

import pulumi

ROLLOUT = pulumi.CustomTimeouts(create="5m", update="5m", delete="5m")
