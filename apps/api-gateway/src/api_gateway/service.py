"""A service behind the gateway: its instances, the choice among them, and the limits of retries."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from api_gateway.balancer import BALANCERS, Choose
from api_gateway.discovery import Instance
from api_gateway.resilience import Breaker, RetryBudget, State
from api_gateway.upstream import Upstream

log = logging.getLogger(__name__)
RETRIES = Counter("gateway_retries", "Requests that were sent once more", ["service"])
FAILURES = Counter("gateway_upstream_failures", "Exchanges with an instance that failed", ["service", "kind"])
EJECTIONS = Counter("gateway_ejections", "Instances that were left out for failing", ["service"])
INSTANCES = Gauge("gateway_upstream_instances", "Instances that are known", ["service"])
EJECTED = Gauge("gateway_upstream_ejected", "Instances that are left out just now", ["service"])
IN_FLIGHT = Gauge("gateway_upstream_in_flight", "Requests that instances have not answered yet", ["service"])
BREAKER = Gauge("gateway_breaker_open", "1 while the service's circuit breaker lets nothing through", ["service"])
FAILURE_LINES_PER_S = 20
"""Maximum log lines on failures of a service in a second: more would add no information."""


@dataclass(frozen=True)
class Failure:
    """A failure of an instance.

    Args:
        kind: kind of failure, for the metrics.
        reason: description for a person.
        request_id: id of the request that failed.
        answered: whether the instance responded, with an error of the service's own; it then does not count for the circuit breaker.
    """

    kind: str
    reason: str
    request_id: str
    answered: bool = False


class UpstreamService:
    """One service.

    Args:
        name: name of the service.
    """

    def __init__(self, name: str) -> None:
        now = asyncio.get_running_loop().time()
        self.name = name
        self.upstreams: tuple[Upstream, ...] = ()
        self._leaving: tuple[Upstream, ...] = ()
        """Instances that are no longer registered but still have requests in flight."""
        self._resting_until = 0.0
        """Loop time from which no instance is ejected."""
        self._second = 0
        self._lines = 0
        self.budget = RetryBudget(now)
        self.breaker = Breaker(now)
        self._choose: dict[str, Choose] = {kind: make() for kind, make in BALANCERS.items()}
        IN_FLIGHT.labels(name).set_function(lambda: self.in_flight)
        INSTANCES.labels(name).set_function(lambda: len(self.upstreams))
        EJECTED.labels(name).set_function(self.ejected)
        BREAKER.labels(name).set_function(lambda: self.breaker.state is State.OPEN)

    def set_instances(self, instances: Sequence[Instance]) -> None:
        """Replace the instances; the state of those that stay, or come back, is kept."""
        known = {upstream.instance: upstream for upstream in (*self._leaving, *self.upstreams)}
        warm = not self.upstreams
        self.upstreams = tuple(known.pop(i, None) or Upstream(i, warm=warm) for i in instances)
        for upstream in self.upstreams:
            upstream.leaving = False
        self._leaving = tuple(known.values())
        for upstream in self._leaving:
            upstream.close()

    @property
    def in_flight(self) -> int:
        """Return the number of requests that its instances have not answered yet, including those no longer registered."""
        return sum(upstream.in_flight for upstream in (*self.upstreams, *self._leaving))

    def choose(self, balance: str, key: bytes, tried: Sequence[Upstream], now: float) -> Upstream | None:
        """Return an instance that was not tried yet, an ejected one only if all are; None if there is none.

        Args:
            balance: name of a balancer in BALANCERS.
            key: key of the request, for balancers that use it.
            tried: instances that the request has been sent to.
            now: loop time.
        """
        candidates: Sequence[Upstream] = self.upstreams
        if tried or now < self._resting_until:
            left = [upstream for upstream in candidates if upstream not in tried]
            candidates = [upstream for upstream in left if not upstream.ejected(now)] or left
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        return self._choose[balance](candidates, key, now)

    def others(self, tried: Sequence[Upstream]) -> int:
        """Return the number of instances that were not tried yet."""
        return sum(upstream not in tried for upstream in self.upstreams) if len(self.upstreams) > 1 else 0

    def succeeded(self, upstream: Upstream, now: float) -> None:
        """Record a successful exchange."""
        upstream.failures = 0
        self.breaker.record(now, failed=False)

    def failed(self, upstream: Upstream, failure: Failure, now: float) -> None:
        """Record a failed exchange."""
        kind = failure.kind
        self.report(upstream, failure, now)
        FAILURES.labels(self.name, kind).inc()
        # Never more than half of the instances, and never the last one: errors that all of them have are no instance's fault.
        may_eject = self.ejected() + 1 <= len(self.upstreams) // 2
        if upstream.failed(now, may_eject=may_eject):
            EJECTIONS.labels(self.name).inc()
            self._resting_until = max(self._resting_until, upstream.ejected_until)
            about = {"upstream": self.name, "instance": upstream.instance.id, "reason": kind}
            log.warning("An instance is left out for a while", extra=about)
        before = self.breaker.state
        self.breaker.record(now, failed=not failure.answered)
        if self.breaker.state is not before:
            log.warning("The circuit breaker has changed", extra={"upstream": self.name, "state": self.breaker.state})

    def report(self, upstream: Upstream, failure: Failure, now: float) -> None:
        """Log a failure of an instance and the id of its request; at most FAILURE_LINES_PER_S lines a second."""
        if self._second != int(now):
            self._second, self._lines = int(now), 0
        self._lines += 1
        if self._lines <= FAILURE_LINES_PER_S:
            about = {"upstream": self.name, "instance": upstream.instance.id, "request_id": failure.request_id}
            log.warning("An instance failed", extra=about | {"kind": failure.kind, "reason": failure.reason})

    def ejected(self) -> int:
        """Return the number of ejected instances."""
        now = asyncio.get_running_loop().time()
        return sum(upstream.ejected(now) for upstream in self.upstreams)

    def tick(self, now: float) -> None:
        """Fail exchanges that are past their deadline, and drop unregistered instances without requests."""
        for upstream in (*self.upstreams, *self._leaving):
            upstream.tick(now)
        if self._leaving:
            self._leaving = tuple(upstream for upstream in self._leaving if upstream.in_flight)

    def close(self) -> None:
        """Remove all instances; their requests in flight are completed."""
        self.set_instances(())

    def forget(self) -> None:
        """Remove the service from the metrics."""
        for gauge in (IN_FLIGHT, INSTANCES, EJECTED, BREAKER):
            gauge.remove(self.name)

    def described(self) -> dict[str, object]:
        """Return the state of the service for a person."""
        now = asyncio.get_running_loop().time()
        return {
            "breaker": self.breaker.state.value,
            "instances": [
                {
                    "id": upstream.instance.id,
                    "address": f"{upstream.instance.address}:{upstream.instance.port}",
                    "in_flight": upstream.in_flight,
                    "state": "ejected" if upstream.ejected(now) else "ok",
                    "ejections": upstream.ejections,
                }
                for upstream in self.upstreams
            ],
        }
