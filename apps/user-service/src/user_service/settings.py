"""Settings of user-service."""

import ssl
from pathlib import Path

from pydantic import Field, SecretStr
from servicekit.addresses import Host
from servicekit.settings import Cache as SharedCache
from servicekit.settings import Service, ServiceName, ServiceSettings, Settings, SettingsError, named


class Pool(Settings):
    """Connections that one process holds."""

    size: int = Field(default=5, ge=1, le=100)


class Database(Settings):
    """The Postgres that holds the users."""

    host: Host = "localhost"
    port: int = Field(default=5432, ge=1, le=65535)
    username: str = "myuser"
    password: SecretStr = SecretStr("")
    name: str = "myapp"
    ca_file: Path | None = None
    """Certificate, as PEM, by which the server has to be the named host; absent: it is believed without TLS, too."""
    pool: Pool = Pool()
    connect_timeout_s: float = Field(default=2.0, gt=0, le=3600)
    statement_timeout_s: float = Field(default=5.0, gt=0, le=3600)

    def tls(self) -> ssl.SSLContext | None:
        """Return how the server is verified; None where it is not.

        Raises:
            SettingsError: the file cannot be read, or holds no certificate.
        """
        if self.ca_file is None:
            return None
        name = named("database.ca_file", self.ca_file)
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError as error:
            raise SettingsError(f"{name} holds no certificate as PEM") from error
        except OSError as error:
            raise SettingsError(f"{name} cannot be read: {error.strerror}") from error
        if not context.get_ca_certs():
            raise SettingsError(f"{name} holds no certificate of an authority")
        return context


class Cache(SharedCache):
    """The Redis that remembers users; without a host nothing is remembered."""

    ttl_s: int = Field(default=60, ge=1, le=86400)
    """Bounds how long an entry outlives a process that was killed between its commit and its answer."""


class UserService(Service):
    """What the service is called."""

    name: ServiceName = "user-service"


class UserSettings(ServiceSettings):
    """All of them."""

    service: UserService = UserService()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
    database: Database = Database()
    cache: Cache = Cache()
