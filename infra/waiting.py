"""How long Pulumi waits for what it creates: longer than a slow pull, shorter than anybody's patience."""

import pulumi

ROLLOUT = pulumi.CustomTimeouts(create="5m", update="5m", delete="5m")
