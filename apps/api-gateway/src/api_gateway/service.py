"""A service behind the gateway: its instances, which of them gets a request, and how often that is tried."""

import asyncio
import logging
from collections.abc import Sequence

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


class UpstreamService:
    """One service.

    Args:
        name: of the service.
    """

    def __init__(self, name: str) -> None:
        now = asyncio.get_running_loop().time()
        self.name = name
        self.upstreams: tuple[Upstream, ...] = ()
        self.budget = RetryBudget(now)
        self.breaker = Breaker(now)
        self._choose: dict[str, Choose] = {kind: make() for kind, make in BALANCERS.items()}
        IN_FLIGHT.labels(name).set_function(lambda: sum(upstream.in_flight for upstream in self.upstreams))
        INSTANCES.labels(name).set_function(lambda: len(self.upstreams))
        EJECTED.labels(name).set_function(self.ejected)
        BREAKER.labels(name).set_function(lambda: self.breaker.state is State.OPEN)

    def set_instances(self, instances: Sequence[Instance]) -> None:
        """Have these from now on; what is known of those that stay is kept."""
        known = {upstream.instance: upstream for upstream in self.upstreams}
        self.upstreams = tuple(known.get(i) or Upstream(i, warm=not known) for i in instances)
        for instance, upstream in known.items():
            if instance not in instances:
                upstream.close()

    def choose(self, balance: str, key: bytes, tried: Sequence[Upstream], now: float) -> Upstream | None:
        """An instance that was not tried yet, and rests only if every one does; None where there is none.

        Args:
            balance: one of BALANCERS.
            key: of the request, for those that look at it.
            tried: instances that the request has been sent to.
            now: loop time.
        """
        candidates: Sequence[Upstream] = self.upstreams
        if tried or any(upstream.ejected_until > now for upstream in candidates):
            left = [upstream for upstream in candidates if upstream not in tried]
            candidates = [upstream for upstream in left if not upstream.ejected(now)] or left
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        return self._choose[balance](candidates, key, now)

    def succeeded(self, upstream: Upstream, now: float) -> None:
        """An instance has answered as it should."""
        upstream.failures = 0
        self.breaker.record(now, failed=False)

    def failed(self, upstream: Upstream, kind: str, now: float, *, answered: bool) -> None:
        """An instance has not.

        Args:
            upstream: the instance.
            kind: of failure, for the metrics.
            now: loop time.
            answered: whether there was an answer, with an error of the service's own: no reason to hold back from all of its
                instances.
        """
        FAILURES.labels(self.name, kind).inc()
        # Never more than half of them, and never the last one: errors that all of them have are no instance's fault.
        may_eject = self.ejected() + 1 <= len(self.upstreams) // 2
        if upstream.failed(now, may_eject=may_eject):
            EJECTIONS.labels(self.name).inc()
            about = {"upstream": self.name, "instance": upstream.instance.id, "reason": kind}
            log.warning("An instance is left out for a while", extra=about)
        before = self.breaker.state
        self.breaker.record(now, failed=not answered)
        if self.breaker.state is not before:
            log.warning("The circuit breaker has changed", extra={"upstream": self.name, "state": self.breaker.state})

    def ejected(self) -> int:
        """How many instances are left out just now."""
        now = asyncio.get_running_loop().time()
        return sum(upstream.ejected(now) for upstream in self.upstreams)

    def tick(self, now: float) -> None:
        """Let time pass."""
        for upstream in self.upstreams:
            upstream.tick(now)

    def close(self) -> None:
        """Close what is idle."""
        for upstream in self.upstreams:
            upstream.close()

    def described(self) -> dict[str, object]:
        """For a person."""
        now = asyncio.get_running_loop().time()
        return {
            "breaker": self.breaker.state.value,
            "instances": [
                {
                    "id": upstream.instance.id,
                    "address": f"{upstream.instance.address}:{upstream.instance.port}",
                    "in_flight": upstream.in_flight,
                    "state": "ejected" if upstream.ejected(now) else "ok",
                }
                for upstream in self.upstreams
            ],
        }
