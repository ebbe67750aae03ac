"""Settings of user-service."""

from pydantic import Field
from servicekit.settings import Cache as SharedCache
from servicekit.settings import Database as SharedDatabase
from servicekit.settings import DatabaseSettings, Service, ServiceName, Settings


class Pool(Settings):
    """Connections that one process holds."""

    size: int = Field(default=5, ge=1, le=100)


class Database(SharedDatabase):
    """The Postgres that holds the users."""

    pool: Pool = Pool()
    connect_timeout_s: float = Field(default=2.0, gt=0, le=3600)
    statement_timeout_s: float = Field(default=5.0, gt=0, le=3600)


class Cache(SharedCache):
    """The Redis that remembers users; without a host nothing is remembered."""

    ttl_s: int = Field(default=60, ge=1, le=86400)
    """Bounds how long an entry outlives a process that was killed between its commit and its answer."""


class UserService(Service):
    """What the service is called."""

    name: ServiceName = "user-service"


class UserSettings(DatabaseSettings):
    """All of them."""

    service: UserService = UserService()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
    database: Database = Database()  # pyright: ignore[reportIncompatibleVariableOverride]
    cache: Cache = Cache()
