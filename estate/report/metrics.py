"""Client of a stack's Prometheus, through a forwarded port: it works despite network policies, and without a console."""

import re
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from estate.core.console import EstateError
from estate.stack.model import Stack
from infra import prometheus

POINTS, SCRAPED_S = 120, 15
"""Maximum points of a chart, and seconds between two samples."""


class Metrics:
    """Client of Prometheus' HTTP API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def now(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression, each with its current `value`."""
        return self._ask("query", {"query": expression})["result"]

    def over(self, expression: str, start: float, end: float, step: int) -> list[dict[str, Any]]:
        """Return the series of an expression over a time range, each with its `values`, one per step."""
        given = {"query": expression, "start": start, "end": end, "step": step}
        return self._ask("query_range", given)["result"]

    def alerts(self) -> list[dict[str, Any]]:
        """Return the firing alerts."""
        return [alert for alert in self._ask("alerts", {})["alerts"] if alert["state"] == "firing"]

    def _ask(self, path: str, parameters: Mapping[str, Any]) -> Any:
        try:
            answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        except (httpx.HTTPError, ValueError) as error:
            raise EstateError(f"Prometheus does not answer: {error}") from error
        if answer["status"] != "success":
            raise EstateError(f"Prometheus refuses {parameters.get('query', path)}: {answer['error']}")
        return answer["data"]


def step_s(minutes: int) -> int:
    """Return the seconds between two points of a chart."""
    return max(SCRAPED_S, minutes * 60 // POINTS)


@contextmanager
def metrics(stack: Stack) -> Generator[Metrics]:
    """Forward a port to the Prometheus of a stack, and yield a client.

    Raises:
        EstateError: Prometheus cannot be reached; with kubectl's error output.
    """
    words = ("port-forward", "--pod-running-timeout=10s", f"service/{prometheus.NAME}", f":{prometheus.PORT}")
    command = stack.kubectl(*words)
    with subprocess.Popen(
        command, env=stack.target.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as forward:
        try:
            said = forward.stdout.readline() if forward.stdout else ""
            forwarded = re.search(r"127\.0\.0\.1:(\d+)", said)
            if not forwarded:
                why = forward.stderr.read().strip() if forward.stderr else ""
                raise EstateError(f"Prometheus of stack {stack.name} cannot be reached: {why or said.strip()}")
            with httpx.Client(base_url=f"http://127.0.0.1:{forwarded[1]}", timeout=30) as client:
                yield Metrics(client)
        finally:
            forward.terminate()
