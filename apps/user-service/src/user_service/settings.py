"""Settings of user-service."""

import ssl
from pathlib import Path

from pydantic import Field, SecretStr
from servicekit.settings import Cache as SharedCache
from servicekit.settings import Service, ServiceSettings, Settings


class Pool(Settings):
    """Connections that one process holds."""

    size: int = Field(default=5, ge=1, le=100)


class Database(Settings):
    """The Postgres that holds the users."""

    host: str = "localhost"
    port: int = Field(default=5432, ge=1, le=65535)
    username: str = "myuser"
    password: SecretStr = SecretStr("")
    name: str = "myapp"
    ca_file: Path | None = None
    """Certificate, as PEM, by which the server has to be the named host; absent: it is believed without TLS, too."""
    pool: Pool = Pool()
    connect_timeout_s: float = Field(default=2.0, gt=0)
    statement_timeout_s: float = Field(default=5.0, gt=0)

    def tls(self) -> ssl.SSLContext | None:
        """How the server is verified; None where it is not."""
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None


class Cache(SharedCache):
    """The Redis that remembers users; without a host nothing is remembered."""

    ttl_s: int = Field(default=60, ge=1)
    """Bounds how long an entry outlives a process that was killed between its commit and its answer."""


class UserService(Service):
    """What the service is called."""

    name: str = "user-service"


class UserSettings(ServiceSettings):
    """All of them."""

    service: UserService = UserService()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
    database: Database = Database()
    cache: Cache = Cache()
