"""Limits of attempts: a retry budget and a circuit breaker."""

from enum import StrEnum

RETRY_RATIO = 0.2
RETRIES_PER_S = 10.0
WINDOW_S = 10.0
"""Seconds of the budget's window. A fifth of the requests and ten a second may be retries, as in Finagle and Linkerd
(https://linkerd.io/2-edge/reference/retries/): more would add load to an overloaded service."""
FAILURE_RATIO = 0.5
LEAST_REQUESTS = 20
OPEN_S = 5.0
TRIALS = 3


class RetryBudget:
    """The retries that a service's requests have earned.

    Args:
        now: loop time.
    """

    def __init__(self, now: float) -> None:
        self._limit = RETRIES_PER_S * WINDOW_S
        self._balance = self._limit
        self._at = now

    def earn(self) -> None:
        """Earn a part of a retry for a new request."""
        if self._balance < self._limit:
            self._balance += RETRY_RATIO

    def spend(self, now: float) -> bool:
        """Spend a retry; return whether there was one."""
        self._balance = min(self._limit, self._balance + (now - self._at) * RETRIES_PER_S)
        self._at = now
        if self._balance < 1:
            return False
        self._balance -= 1
        return True


class State(StrEnum):
    """The state of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Circuit breaker: stops requests to a failing service until a few trials have shown that it works again.

    It opens when half of the requests of a window fail; after OPEN_S, up to TRIALS requests are let through, and close it if they succeed.

    Args:
        now: loop time.
    """

    def __init__(self, now: float) -> None:
        self.state = State.CLOSED
        self._since = now
        self._requests = self._failures = self._trials = 0

    def allows(self, now: float) -> bool:
        """Return whether a request may be tried."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN and now - self._since >= OPEN_S:
            self._become(State.HALF_OPEN, now)
        if self.state is State.HALF_OPEN and self._trials < TRIALS:
            self._trials += 1
            return True
        if self.state is State.HALF_OPEN and now - self._since >= OPEN_S:
            self._become(State.HALF_OPEN, now)  # trials without a recorded outcome
            self._trials = 1
            return True
        return False

    def record(self, now: float, *, failed: bool) -> None:
        """Record the outcome of a request."""
        if self.state is State.HALF_OPEN and failed:
            self._become(State.OPEN, now)
        elif self.state is State.HALF_OPEN:
            self._requests += 1
            if self._requests >= TRIALS:
                self._become(State.CLOSED, now)
        elif self.state is State.CLOSED:
            self._count(now, failed=failed)

    def _count(self, now: float, *, failed: bool) -> None:
        if now - self._since > WINDOW_S:
            self._become(State.CLOSED, now)
        self._requests += 1
        if failed:
            self._failures += 1
            if self._requests >= LEAST_REQUESTS and self._failures >= FAILURE_RATIO * self._requests:
                self._become(State.OPEN, now)

    def _become(self, state: State, now: float) -> None:
        self.state, self._since = state, now
        self._requests = self._failures = self._trials = 0
