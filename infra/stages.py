"""Default settings of each stage, in one place; a stack file holds only what differs."""

from typing import Any, Literal, cast

Stage = Literal["local", "dev", "staging", "prod"]
Values = dict[str, Any]

SMALL = {"requests": {"cpu": "50m"}}
ALWAYS_THERE: Values = {"postgres": {"kind": "cluster"}, "consul": {"servers": 3}}

EVERY_STAGE: Values = {
    # The reference system's Deployment.
    "service": {
        "replicas": 3,
        "requests": {"cpu": "250m", "memory": "64Mi"},
        "limits": {"cpu": "500m", "memory": "128Mi"},
        "slo": {"availability_percent": 99.9, "latency_percent": 99, "latency_s": 0.5},
    },
    "services": {
        # It verifies secrets with Argon2, and buffers responses to slow clients.
        "api-gateway": {"replicas": 2, "limits": {"memory": "256Mi"}},
    },
}
STAGES: dict[Stage, Values] = {
    "local": {"build": True, "service": SMALL, "ingress": {"consoles": True}},
    "dev": {"build": True, "service": SMALL | {"replicas": 2}},
    "staging": ALWAYS_THERE | {"service": SMALL},
    "prod": ALWAYS_THERE | {"protected": True, "service": {"scaling": {"least": 3, "most": 10}}},
}


def with_defaults(values: Values, stage: Stage) -> Values:
    """Return a stack's settings merged over those of its stage, and each service's over `service`, which applies to all."""
    defaults = defaults_of(stage)
    merged = over(defaults, with_fixed_replicas(values))
    # Values that are not tables are left for validation, to be refused once.
    common = merged["service"] if isinstance(merged["service"], dict) else defaults["service"]
    own = cast("Values", merged["services"]) if isinstance(merged["services"], dict) else {}
    return merged | {"services": {name: over(common, one) for name, one in own.items()} or merged["services"]}


def with_fixed_replicas(values: Values) -> Values:
    """Return settings in which a service with a number of replicas has no scaling by default."""

    def fixed(service: object) -> object:
        if not isinstance(service, dict) or "replicas" not in service:
            return cast("object", service)
        return {"scaling": None, **cast("Values", service)}

    own: Any = values.get("services")
    named = {name: fixed(one) for name, one in cast("Values", own).items()} if isinstance(own, dict) else own
    given = {"service": fixed(values.get("service")), "services": named}
    return values | {key: value for key, value in given.items() if key in values}


def defaults_of(stage: Stage) -> Values:
    """Return the default settings of a stage."""
    return over(EVERY_STAGE, STAGES[stage])


def over(defaults: Any, values: Any) -> Any:
    """Return values merged over defaults, table by table; a list is replaced as a whole."""
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    known, given = cast("Values", defaults), cast("Values", values)
    return known | {key: over(known.get(key), value) for key, value in given.items()}
