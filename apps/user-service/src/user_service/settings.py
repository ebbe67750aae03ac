"""Settings of user-service."""

from pydantic import Field, SecretStr
from servicekit.settings import ServiceSettings, Settings


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
    pool: Pool = Pool()


class UserSettings(ServiceSettings):
    """All of them."""

    database: Database = Database()
