"""Settings of user-service."""

from pydantic import Field
from servicekit.settings import Cache as SharedCache
from servicekit.settings import DatabaseSettings, Service, ServiceName


class Cache(SharedCache):
    """The Redis that caches users; without a host nothing is cached."""

    ttl_s: int = Field(default=60, ge=1, le=86400)
    """Seconds of an entry's lifetime, which limit how long it outlives a process that was killed between its commit and its response."""


class UserService(Service):
    """The name of the service."""

    name: ServiceName = "user-service"


class UserSettings(DatabaseSettings):
    """All settings of user-service."""

    service: UserService = UserService()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
    cache: Cache = Cache()
