"""Traces, logs, and receivers of alerts."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infra.addresses import Host, Network, Url
from infra.mail_addresses import MailAddress, MailAddresses
from infra.mistakes import Contradiction, ContradictionError
from infra.services import RECEIVER
from infra.settings.base import Settings, port_of
from infra.values import Folder, Label, Text


def base_of_signals(value: str) -> str:
    """Return the URL of a receiver of OTLP, to which senders append the path of a signal.

    Raises:
        ValueError: it has the path of a signal already, or a query, after which none can follow.
    """
    if re.search(r"/v1/(?:traces|logs|metrics)/?$", value) or "?" in value:
        raise ValueError(
            "wants the URL of the receiver without /v1/traces and the like, which senders append, and without ?"
        )
    return value


class OtlpSettings(Settings):
    """A receiver of OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/)."""

    endpoint: Annotated[
        Url,
        AfterValidator(base_of_signals),
        Field(
            examples=["https://collector.example.com:4318"],
            json_schema_extra={"pattern": "^https?://(?!.*/v1/(?:traces|logs|metrics)/?$)[^@?]+$"},
        ),
    ]
    """Its URL, without /v1/traces and the like."""
    networks: list[Network] = Field(default=[])
    """CIDRs of a receiver outside the cluster; senders may connect there, on the URL's port."""
    namespace: Label | None = Field(default=None, examples=["observability"])
    """Namespace of a receiver in the cluster, whose pods listen on the URL's port, too."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if bool(self.networks) == bool(self.namespace):
            why = "wants either namespace, where it is in the cluster, or networks, where it is not"
            key, right = ("networks", "namespace alone") if self.networks else ("namespace", None)
            raise ContradictionError(Contradiction((key,), why, right))
        return self

    @property
    def port(self) -> int:
        """Return the port of the URL."""
        return port_of(self.endpoint)


class TracingSettings(OtlpSettings):
    """The receiver of the spans of requests: a collector, or a store of traces."""

    ratio: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the traces that begin here that is recorded; for a trace that a caller began, the caller decides."""


class LogSettings(OtlpSettings):
    """The receiver of the logs of the stack's pods: a collector, or a store of logs such as Loki."""

    folder: Folder = "/var/log/pods"
    """Folder in which the kubelets keep them on the nodes."""


class Email(Settings):
    """Server and addresses for mail."""

    host: Host
    """Host of the SMTP server, which has to support TLS."""
    sender: MailAddress
    """Address that mail is from."""
    to: MailAddresses
    """Addresses that mail goes to."""
    username: Text | None = Field(default=None, examples=["us"])
    """Name of the login at the server; absent: the server needs no password."""


NOBODY = "nobody"
"""Name of the receiver that every stack has, which gets the alerts that no other one takes."""
Severity = Literal["critical", "warning"]


def each_once(values: list[Severity]) -> list[Severity]:
    """Return a list of severities without duplicates, which would have alerts sent twice.

    Raises:
        ValueError: there is a duplicate.
    """
    if len({*values}) < len(values):
        raise ValueError("wants each once, for alerts are sent as often as it is there")
    return values


def without_template(value: str) -> str:
    """Return a text that Alertmanager sends unchanged: {{ would begin a template.

    Raises:
        ValueError: the text contains a template.
    """
    if "{{" in value:
        raise ValueError("wants no {{, with which a template of Alertmanager's begins")
    return value


class Receiver(Settings):
    """A receiver of alerts. Its address, key or password is a secret: `estate secret set receiver-<name>`."""

    name: Label = Field(examples=["pager"])
    """Name of the receiver, and of its secret, receiver-<name>."""
    kind: Literal["webhook", "email", "slack", "pagerduty"]
    """Kind of service that takes the alerts."""
    severities: Annotated[list[Severity], AfterValidator(each_once)] = Field(
        default=["critical", "warning"], min_length=1
    )
    """Severities of the alerts that it gets."""
    watchdog: bool = False
    """Use as dead man's switch instead: it gets the Watchdog alert every five minutes, and raises an alarm when that stops."""
    networks: list[Network] = Field(default=["0.0.0.0/0"], min_length=1)
    """CIDRs of the receiver; Alertmanager may connect there."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Port that Alertmanager connects to; absent: 443, or 587 for mail."""
    channel: Annotated[Text, AfterValidator(without_template)] | None = Field(default=None, examples=["#estate"])
    """Channel of Slack."""
    email: Email | None = None
    """Server and addresses, only with kind email."""

    @property
    def to_port(self) -> int:
        """Return the port that Alertmanager connects to."""
        return self.port or (587 if self.kind == "email" else 443)

    @property
    def secret(self) -> str | None:
        """Return the name of the secret that it needs, if any: a URL, a routing key or a password."""
        return None if self.email and not self.email.username else f"{RECEIVER}{self.name}"

    @model_validator(mode="after")
    def _whole(self) -> "Receiver":
        if (self.kind == "email") != bool(self.email):
            why = "goes with kind: email, as {host, sender, to}, and with no other"
            raise ContradictionError(Contradiction(("email",), why, "kind: email" if self.email else None))
        if (self.kind == "slack") != bool(self.channel):
            why = "goes with kind: slack, and with no other"
            raise ContradictionError(Contradiction(("channel",), why, "kind: slack" if self.channel else None))
        return self


def without_end(value: str) -> str:
    """Return a URL to which /page.md can be added.

    Raises:
        ValueError: it ends in a slash, or has a query.
    """
    if value.endswith("/") or "?" in value:
        raise ValueError("wants no / at the end and no ?, since /<page>.md is put behind it")
    return value


class AlertSettings(Settings):
    """Contents of alerts."""

    runbooks: Annotated[Url, AfterValidator(without_end)] | None = Field(
        default=None, examples=["https://github.com/acme/estate/blob/main/docs/runbooks"]
    )
    """URL of the folder docs/runbooks where the repository is.

    Absent: Prometheus shows the pages where the stack publishes its consoles, and alerts name the files where it does not.
    """
