"""Alerts about service level objectives, by the burn rate of their error budgets (Google's SRE workbook, chapter 5)."""

from dataclasses import dataclass
from typing import Any

from infra.alerts.rule import Alert, group
from infra.settings.service import FASTEST_BURN, Slo

SECONDS = {"2m": 120, "5m": 300, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21600, "1d": 86400, "3d": 259200}
SHORT, LONG = ("2m", "5m", "30m", "1h"), ("2h", "6h", "1d", "3d")
PROBES = "/livez|/readyz|/health|/metrics"
"""Pattern of endpoints that no user requests."""
CLIENT_CLOSED = "499"
"""Status of a request whose client left before the answer: the service has neither met its objective nor missed it."""
FEWEST = 10
"""Minimum number of requests that went wrong for a ratio of them to be meaningful."""
FAILING = 0.1
"""Ratio of failed requests that alerts immediately, whatever is left of the budget."""


@dataclass(frozen=True)
class Burn:
    """A burn rate: in both windows, a budget is spent `rate` times as fast as it may be."""

    rate: float
    long: str
    short: str


PAGE = (Burn(FASTEST_BURN, "1h", "5m"), Burn(6, "6h", "30m"))
TICKET = (Burn(3, "1d", "2h"), Burn(1, "3d", "6h"))


def groups(service: str, slo: Slo, runbooks: str | None) -> list[dict[str, Any]]:
    """Return the recording rules and alerts of a service; windows of hours are computed less often."""
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
    """Return recording rules for requests per second, and for the ratios of them that failed and that were slow, over a window."""

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
    """Return the alerts that fire when the objectives of a service are about to be missed."""
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
    """Return the two alerts of one objective: one pages immediately, the other can wait until the morning.

    Args:
        kind: name of the objective, in the alerts' names.
        what: name of the failure, in the recorded series' names.
        of: selector of the service.
        budget: share of the requests that may go wrong.
        summary: summary of the problem.
        happened: description of the requests that went wrong.
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
            lasting="0s",  # the windows already cover a duration
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
    """Return an expression that is true if a budget is spent too fast over any of the pairs of windows."""
    return " or ".join(
        f"(slo:{what}:ratio_rate{burn.long}{of} > {burn.rate * budget:.6g}"
        f" and slo:{what}:ratio_rate{burn.short}{of} > {burn.rate * budget:.6g}"
        f" and {enough(what, burn.long, of)})"
        for burn in burns
    )


def enough(what: str, window: str, of: str) -> str:
    """Return an expression that is true if at least FEWEST requests went wrong in a window."""
    return f"slo:{what}:ratio_rate{window}{of} * slo:requests:rate{window}{of} * {SECONDS[window]} >= {FEWEST}"
