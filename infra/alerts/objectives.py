"""Service level objectives: how fast their error budget is spent (Google's SRE workbook, chapter 5)."""

from dataclasses import dataclass
from typing import Any

from infra.alerts.rule import Alert, group
from infra.settings import Slo

SECONDS = {"2m": 120, "5m": 300, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21600, "1d": 86400, "3d": 259200}
SHORT, LONG = ("2m", "5m", "30m", "1h"), ("2h", "6h", "1d", "3d")
PROBES = "/livez|/readyz|/health|/metrics"
"""Endpoints that no user asks."""
CLIENT_CLOSED = "499"
"""The client left before it was answered: the service has neither kept its promise nor broken it."""
FEWEST = 10
"""Requests that have to have gone wrong before a share of them means anything."""
FAILING = 0.1
"""The share of requests that fail at which nobody waits for a budget."""


@dataclass(frozen=True)
class Burn:
    """A budget is spent `rate` times as fast as it may, in both windows."""

    rate: float
    long: str
    short: str


PAGE = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
TICKET = (Burn(3, "1d", "2h"), Burn(1, "3d", "6h"))


def groups(service: str, slo: Slo, runbooks: str | None) -> list[dict[str, Any]]:
    """The recording rules and alerts of a service; windows of hours are computed less often."""
    return [
        {"name": f"{service}: short windows", "rules": [r for window in SHORT for r in recorded(service, slo, window)]},
        {
            "name": f"{service}: long windows",
            "interval": "1m",
            "rules": [r for window in LONG for r in recorded(service, slo, window)],
        },
        group(f"{service}: objectives", alerts(service, slo), runbooks),
    ]


def recorded(service: str, slo: Slo, window: str) -> list[dict[str, Any]]:
    """Requests by the second, and the shares of them that failed and that were slow, over a window."""

    def by_s(metric: str, *more: str) -> str:
        asked = [f'job="{service}"', f'endpoint!~"{PROBES}"', f'status_code!="{CLIENT_CLOSED}"']
        chosen = ",".join([*asked, *more])
        return f"sum(rate(http_request_duration_seconds_{metric}{{{chosen}}}[{window}]))"

    answered, in_time = 'status_code!~"5.."', f'le="{slo.latency_s}"'
    # Without a failure there is no series of failures.
    failed = by_s("count", 'status_code=~"5.."')
    shares = {
        f"slo:requests:rate{window}": by_s("count"),
        f"slo:errors:ratio_rate{window}": f"({failed} or 0 * {by_s('count')}) / {by_s('count')}",
        f"slo:slow:ratio_rate{window}": f"1 - {by_s('bucket', answered, in_time)} / {by_s('count', answered)}",
    }
    return [{"record": name, "expr": expr, "labels": {"service": service}} for name, expr in shares.items()]


def alerts(service: str, slo: Slo) -> list[Alert]:
    """What rings when the promises of a service are about to be broken."""
    of = f'{{service="{service}"}}'
    too_slow = f"answered in more than {slo.latency_s} s"
    return [
        Alert(
            "RequestsFail",
            f"slo:errors:ratio_rate2m{of} > {FAILING} and {enough('errors', '2m', of)}",
            "critical",
            f"{service} fails to answer",
            "{{ $value | humanizePercentage }} of the requests of the last 2 minutes failed.",
            lasting="15s",
        ),
        *burning("Error", "errors", of, 1 - slo.availability_percent / 100, f"{service} fails", "failed"),
        *burning("Latency", "slow", of, 1 - slo.latency_percent / 100, f"{service} is slow", f"were {too_slow}"),
    ]


def burning(kind: str, what: str, of: str, budget: float, summary: str, happened: str) -> list[Alert]:
    """The two alerts of one objective: somebody is woken, or looks in the morning.

    Args:
        kind: of the objective, in the alerts' names.
        what: went wrong, in the recorded series' names.
        of: selector of the service.
        budget: share of the requests that may go wrong.
        summary: what is the matter.
        happened: to the requests that went wrong.
    """
    share = f"{{{{ $value | humanizePercentage }}}} of the requests {happened}"
    promise = f"{budget:.3g} of them may"
    return [
        Alert(
            f"{kind}BudgetBurnsFast",
            spent(PAGE, what, of, budget),
            "critical",
            f"{summary}: at this rate, a month's budget is gone within days",
            f"{share}; {promise}.",
            lasting="0s",  # the windows are what it lasts
        ),
        Alert(
            f"{kind}BudgetBurnsSlowly",
            spent(TICKET, what, of, budget),
            "warning",
            f"{summary}: at this rate, nothing is left of the month's budget",
            f"{share}; {promise}.",
            lasting="0s",
        ),
    ]


def spent(burns: tuple[Burn, ...], what: str, of: str, budget: float) -> str:
    """True where a budget is spent too fast over any of the pairs of windows."""
    return " or ".join(
        f"(slo:{what}:ratio_rate{burn.long}{of} > {burn.rate * budget:.6g}"
        f" and slo:{what}:ratio_rate{burn.short}{of} > {burn.rate * budget:.6g}"
        f" and {enough(what, burn.long, of)})"
        for burn in burns
    )


def enough(what: str, window: str, of: str) -> str:
    """True where at least FEWEST requests went wrong in a window."""
    return f"slo:{what}:ratio_rate{window}{of} * slo:requests:rate{window}{of} * {SECONDS[window]} >= {FEWEST}"
