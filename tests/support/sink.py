"""A receiver of alerts on this machine, and the alerts that it has received."""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from estate.cluster import layout

PORT = 19093
NETWORK = f"{layout.NODE}/32"
"""Network of the machine, as pods see it."""
NAMES = ("sink", "dead-man")
RECEIVERS: list[dict[str, Any]] = [
    {"name": name, "kind": "webhook", "networks": [NETWORK], "port": PORT, "watchdog": name == "dead-man"}
    for name in NAMES
]
"""A stack's `receivers` setting that sends every alert to the sink."""
SECRETS = {f"receiver-{name}": f"http://{layout.NODE}:{PORT}/{name}" for name in NAMES}
"""Secrets of those receivers."""


@dataclass(frozen=True)
class Notification:
    """A notification of Alertmanager about one alert."""

    alertname: str
    status: str
    """"firing" or "resolved"."""
    labels: dict[str, str]
    annotations: dict[str, str]
    receiver: str
    at: float
    """Time of arrival, by time.monotonic()."""


@dataclass
class Sink:
    """All notifications, in their order."""

    notifications: list[Notification] = field(default_factory=list[Notification])
    refused: set[str] = field(default_factory=set[str])
    """Receivers whose notifications are refused, as if their address no longer existed."""

    def of(self, alertname: str, status: str = "firing", **labels: str) -> list[Notification]:
        """Return the notifications of an alert with these labels."""
        return [
            one
            for one in self.notifications
            if (one.alertname, one.status) == (alertname, status) and labels.items() <= one.labels.items()
        ]

    def firing(self, alertname: str) -> set[str]:
        """Return the services for which an alert fires: reported, and not yet resolved."""
        last = {one.labels["service"]: one.status for one in self.notifications if one.alertname == alertname}
        return {service for service, status in last.items() if status == "firing"}

    def take(self, body: dict[str, Any]) -> None:
        """Store the alerts of a webhook request of Alertmanager."""
        now = time.monotonic()
        for alert in body["alerts"]:
            labels = alert["labels"]
            name = labels["alertname"]
            self.notifications.append(
                Notification(name, alert["status"], labels, alert["annotations"], body["receiver"], now)
            )


@contextmanager
def listening() -> Generator[Sink]:
    """Yield a sink that listens at the address in SECRETS."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            gone = body["receiver"] in sink.refused
            if not gone:
                sink.take(body)
            self.send_response(410 if gone else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
            """Log nothing: tests print failures alone."""

    with ThreadingHTTPServer((str(layout.NODE), PORT), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()
