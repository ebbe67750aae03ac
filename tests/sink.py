"""A receiver of alerts on this machine, and what it has received."""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from toolchain.cluster import layout

PORT = 19093
NETWORK = f"{layout.NODE}/32"
"""Where pods find the machine."""
NAMES = ("sink", "dead-man")
RECEIVERS: list[dict[str, Any]] = [
    {"name": name, "kind": "webhook", "networks": [NETWORK], "port": PORT, "watchdog": name == "dead-man"}
    for name in NAMES
]
"""What a stack has as `receivers` that tells the sink of everything."""
SECRETS = {f"receiver-{name}": f"http://{layout.NODE}:{PORT}/{name}" for name in NAMES}
"""Of those receivers."""


@dataclass(frozen=True)
class Told:
    """What Alertmanager said of one alert."""

    alertname: str
    status: str
    """firing or resolved."""
    labels: dict[str, str]
    annotations: dict[str, str]
    receiver: str
    at: float
    """When it came, as time.monotonic() has it."""


@dataclass
class Sink:
    """All that was told, in its order."""

    told: list[Told] = field(default_factory=list[Told])
    refused: set[str] = field(default_factory=set[str])
    """Receivers that are answered as if their address were no more."""

    def of(self, alertname: str, status: str = "firing", **labels: str) -> list[Told]:
        """What was told of an alert with these labels."""
        return [
            one
            for one in self.told
            if (one.alertname, one.status) == (alertname, status) and labels.items() <= one.labels.items()
        ]

    def ringing(self, alertname: str) -> set[str]:
        """The services of which an alert was told, and its end was not."""
        last = {one.labels["service"]: one.status for one in self.told if one.alertname == alertname}
        return {service for service, status in last.items() if status == "firing"}

    def take(self, body: dict[str, Any]) -> None:
        """Keep what came, in Alertmanager's form of webhooks."""
        now = time.monotonic()
        for alert in body["alerts"]:
            labels = alert["labels"]
            name = labels["alertname"]
            self.told.append(Told(name, alert["status"], labels, alert["annotations"], body["receiver"], now))


@contextmanager
def listening() -> Generator[Sink]:
    """A sink at the address that SECRETS names."""
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
            """Tests print what fails alone."""

    with ThreadingHTTPServer((str(layout.NODE), PORT), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()
