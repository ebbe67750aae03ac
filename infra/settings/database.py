"""The database server and its backups."""

import math
import ssl
from typing import Annotated, Literal

from cryptography import x509
from pydantic import AfterValidator, Field, model_validator

from infra.addresses import Host, Network
from infra.database_names import OWN_ROLES, ROLES
from infra.mistakes import Contradiction, ContradictionError
from infra.settings.base import Settings
from infra.values import INT32, Role, Schedule, longest_gap_h


class BackupSettings(Settings):
    """Dumps of the database."""

    schedule: Schedule = "17 2 * * *"
    """Schedule in cron's syntax, in UTC."""
    keep: int = Field(default=7, ge=1, le=INT32)
    """Maximum number of dumps that are kept."""
    too_old_h: int = Field(default=26, ge=1, le=INT32)
    """Age of the newest dump, in hours, past which an alert fires."""

    @model_validator(mode="after")
    def _alert_waits_for_the_next_dump(self) -> "BackupSettings":
        if (gap_h := longest_gap_h(self.schedule)) >= self.too_old_h:
            right = f"too_old_h: {math.ceil(gap_h) + 2}"
            schedule = Contradiction(
                ("schedule",),
                f"leaves up to {gap_h:g} hours between two dumps, and too_old_h is {self.too_old_h}, at which an alert fires",
                'schedule: "17 2 * * *"',
            )
            why = f"is {self.too_old_h}, and the schedule leaves up to {gap_h:g} hours between two dumps"
            raise ContradictionError(Contradiction(("too_old_h",), why, right, schedule))
        return self


def certificates(given: str) -> str:
    """Return certificates as PEM.

    Raises:
        ValueError: the value is invalid.
    """
    if "PRIVATE KEY" in given:
        raise ValueError("wants certificates alone: this has a private key, which everyone who reads the file has now")
    try:
        x509.load_pem_x509_certificates(given.encode())
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=given)  # OpenSSL takes no indented lines
    except (ValueError, ssl.SSLError) as error:
        raise ValueError(
            "wants certificates: the text of the provider's PEM file, without spaces before its lines"
        ) from error
    return given


def role_of_the_server(value: str) -> str:
    """Return the name of a role that the estate does not create; one that it creates would lose its privileges.

    Raises:
        ValueError: the estate creates that role.
    """
    if value in ROLES or value.startswith(OWN_ROLES):
        raise ValueError(
            "is a role that the estate makes: wants the server's own admin, or another that whoever runs it makes"
        )
    return value


class ManagedPostgresSettings(Settings):
    """An externally managed Postgres; its admin's password is the secret `postgresPassword`."""

    host: Host
    """Name of its host, which its certificate has too."""
    port: int = Field(default=5432, ge=1, le=65535)
    """Port on which it listens."""
    networks: list[Network] = Field(min_length=1)
    """CIDRs of the server; clients of the database may connect there."""
    ca: Annotated[str, AfterValidator(certificates)] = Field(examples=["-----BEGIN CERTIFICATE-----"])
    """Certificate authority of its certificate, as PEM."""
    admin: Annotated[Role, AfterValidator(role_of_the_server)] = "postgres"
    """Login that creates the roles; it may create roles and databases, and owns the database or its owner's role."""


class PostgresSettings(Settings):
    """The database server."""

    kind: Literal["instance", "cluster", "managed"] = "instance"
    """Kind of server: one instance; three run by the operator CloudNativePG, of which one may fail; or an externally managed one."""
    managed: ManagedPostgresSettings | None = None
    """Description of the managed server."""
    backup: BackupSettings = BackupSettings()
    """Schedule and retention of its dumps."""

    @model_validator(mode="after")
    def _whole(self) -> "PostgresSettings":
        if self.kind == "managed" and self.managed is None:
            why = "is missing, for kind: managed needs to know where: {host, networks, ca}"
            raise ContradictionError(Contradiction(("managed",), why))
        if self.kind != "managed" and self.managed:
            why = f"is {self.kind}, and managed is given: set kind: managed, or take managed out"
            where = Contradiction(("managed",), f"is given, and kind is {self.kind}", "kind: managed")
            raise ContradictionError(Contradiction(("kind",), why, "kind: managed", where))
        return self
