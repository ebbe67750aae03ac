"""Settings of a service: replicas, resources, routes, objectives, and what it connects to."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from infra.addresses import Network
from infra.mistakes import Contradiction, ContradictionError
from infra.services import GATEWAY, NAMES, PLACE, VARIABLE
from infra.settings.base import Quantities, Settings
from infra.settings.routes import Route
from infra.stack_file import nearest
from infra.values import INT32, amount, matching


class Scaling(Settings):
    """Bounds and target of a HorizontalPodAutoscaler."""

    least: int = Field(ge=1, le=INT32, examples=[3])
    """Minimum number of replicas."""
    most: int = Field(ge=1, le=INT32, examples=[10])
    """Maximum number of replicas."""
    cpu_percent: int = Field(default=70, ge=1, le=100)
    """Target utilization in percent of the CPU request; above it there are more replicas, below it fewer."""

    @model_validator(mode="after")
    def _ordered(self) -> "Scaling":
        if self.least > self.most:
            raise ContradictionError(
                Contradiction(
                    ("least",),
                    f"is {self.least}, more than most, which is {self.most}",
                    f"least: {self.most}",
                    Contradiction(
                        ("most",), f"is {self.most}, less than least, which is {self.least}", f"most: {self.least}"
                    ),
                )
            )
        return self


BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bucket bounds of http_request_duration_seconds, in seconds."""


def bound(given: float) -> float:
    """Return one of BOUNDS_S.

    Raises:
        ValueError: the value is invalid.
    """
    if given not in BOUNDS_S:
        raise ValueError(f"wants one of {', '.join(map(str, BOUNDS_S))}, by which requests are counted")
    return given


FASTEST_BURN = 14.4
"""Highest burn rate of an error budget at which an alert fires (infra/alerts/objectives.py)."""


def objective(percent: float) -> float:
    """Return an objective that can be missed so fast that its alerts fire.

    Raises:
        ValueError: its error budget is so large that the alert would need more than all requests to fail.
    """
    least = 100 * (1 - 1 / FASTEST_BURN)
    if percent <= least:
        raise ValueError(f"wants a percentage above {least:.1f}: below, no alert could ever fire")
    return percent


Objective = Annotated[
    float, AfterValidator(objective), Field(json_schema_extra={"exclusiveMinimum": 100 * (1 - 1 / FASTEST_BURN)})
]


class Slo(Settings):
    """Objectives of a service, over a month."""

    availability_percent: Objective = Field(gt=0, lt=100, examples=[99.9])
    """Percentage of requests that do not fail."""
    latency_percent: Objective = Field(gt=0, lt=100, examples=[99])
    """Percentage of requests that are answered within `latency_s`."""
    latency_s: Annotated[float, AfterValidator(bound), Field(examples=[0.5], json_schema_extra={"enum": [*BOUNDS_S]})]
    """Seconds: a bound of the histogram of requests."""


def variable(value: str) -> str:
    """Return the name of a variable of a service.

    Raises:
        ValueError: the value is invalid.
    """
    return matching(VARIABLE, value, "wants APP_ and capital letters, digits and _")


Variable = Annotated[
    str,
    AfterValidator(variable),
    Field(examples=["APP_MAIL_SENDER"], json_schema_extra={"pattern": f"^{VARIABLE}$"}),
]


class ServiceSettings(Settings):
    """Settings of one of our services; defaults are in infra/stages.py."""

    replicas: int = Field(ge=1, le=INT32, examples=[3])
    """Number of its pods, if `scaling` is absent; in a stack file, it takes the place of the stage's scaling."""
    scaling: Scaling | None = None
    """Autoscaling; absent: there are `replicas` pods."""
    requests: Quantities
    """CPU and memory that are reserved for a pod."""
    limits: Quantities
    """Maximum CPU and memory of a pod."""
    slo: Slo
    """Objectives from which alerts are derived."""
    routes: list[Route] | None = Field(default=None, min_length=1)
    """Routes at which the gateway serves it; absent: those that the service declares."""
    variables: dict[Variable, str] = Field(default={}, examples=[{}])
    """Other values for variables that the service declares (infra/services.py)."""

    @model_validator(mode="after")
    def _requests_are_within_limits(self) -> Self:
        """Refuse requests that exceed limits, as the cluster would."""
        asked, most = self.requests, self.limits
        if above := [
            Contradiction(
                ("requests", key),
                f"is more than limits.{key}, which is {limit}",
                f"{key}: {limit}",
                Contradiction(("limits", key), f"is less than requests.{key}, which is {request}", f"{key}: {request}"),
            )
            for key, request, limit in (("cpu", asked.cpu, most.cpu), ("memory", asked.memory, most.memory))
            if amount(request) > amount(limit)
        ]:
            raise ContradictionError(*above)
        return self

    @model_validator(mode="after")
    def _prefixes_are_unique(self) -> Self:
        """Refuse two routes with one prefix, for which the gateway would refuse all routes."""
        prefixes = [route.prefix for route in self.routes or ()]
        if found := [
            Contradiction(("routes", index, "prefix"), "is that of another route already", "prefix: /api/v1/users-2")
            for index, prefix in enumerate(prefixes)
            if prefix in prefixes[:index]
        ]:
            raise ContradictionError(*found)
        return self

    @property
    def least(self) -> int:
        """Return the minimum number of replicas."""
        return self.scaling.least if self.scaling else self.replicas


def place_name(value: str) -> str:
    """Return the name of a destination that services connect to.

    Raises:
        ValueError: the value is invalid.
    """
    return matching(PLACE, value, "wants up to 32 lower-case letters, digits and -, a letter first")


PlaceName = Annotated[
    str,
    AfterValidator(place_name),
    Field(examples=["mail"], json_schema_extra={"pattern": f"^{PLACE}$"}),
]


class Outside(Settings):
    """A destination outside the estate, to which services connect."""

    networks: list[Network] = Field(min_length=1)
    """CIDRs of the destination."""
    port: int = Field(ge=1, le=65535, examples=[443])
    """Port on which it listens."""


def service_name(value: str) -> str:
    """Return the name of one of our services.

    Raises:
        ValueError: there is no such service.
    """
    if value not in NAMES:
        raise ValueError(f"there is no such service ({nearest(value, NAMES)})")
    return value


ServiceName = Annotated[str, AfterValidator(service_name), Field(examples=[GATEWAY])]
"""Name of a service in infra/services.py."""
