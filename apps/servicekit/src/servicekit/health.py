"""Health checks of a service's dependencies, run at most once a second however often the service is probed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from servicekit import background

Check = Callable[[], Awaitable[None]]
"""Function that returns if all is well, and raises with the reason otherwise."""


@dataclass(frozen=True)
class Result:
    """Outcome of one check."""

    healthy: bool
    latency_s: float
    reason: str | None = None


class Health:
    """The checks of a service.

    Args:
        checks: checks by name.
        max_age_s: seconds for which a result is reused.
        timeout_s: maximum seconds of a check.
    """

    def __init__(self, checks: dict[str, Check], max_age_s: float = 1.0, timeout_s: float = 2.0) -> None:
        self.checks = checks
        self.max_age_s = max_age_s
        self.timeout_s = timeout_s
        self._results: dict[str, tuple[float, asyncio.Task[Result]]] = {}

    async def report(self, *names: str) -> dict[str, Result]:
        """Return the results of the named checks, or of all of them."""
        wanted = names or tuple(self.checks)
        results = await asyncio.gather(*(self._result(name) for name in wanted))
        return dict(zip(wanted, results, strict=True))

    async def _result(self, name: str) -> Result:
        asked = self._results.get(name)
        if asked is None or time.monotonic() - asked[0] > self.max_age_s:
            # Kept as a task, so that probes that arrive together share one check.
            asked = (time.monotonic(), background.once(f"check of {name}", self._ask(name)))
            self._results[name] = asked
        return await asyncio.shield(asked[1])

    async def _ask(self, name: str) -> Result:
        started = time.perf_counter()
        reason = None
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.checks[name]()
        except TimeoutError:
            reason = f"no answer within {self.timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - any error is the reason
            reason = f"{type(error).__name__}: {error}"
        return Result(reason is None, time.perf_counter() - started, reason)
