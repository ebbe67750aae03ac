"""python -m user_service.migrate: brings the database's schema to what this version wants, once."""

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from servicekit import logs
from servicekit.settings import load_or_exit
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from user_service.settings import Database, UserSettings

log = logging.getLogger("migrate")
LOCK = 0x75736572  # "user"
WAIT_S = 120.0


async def migrate(settings: Database) -> None:
    """Run what is missing, under a lock that a second run waits for.

    Raises:
        DBAPIError, OSError: the database was away for WAIT_S seconds, or refused a statement.
    """
    url = URL.create(
        "postgresql+asyncpg",
        settings.username,
        settings.password.get_secret_value(),
        settings.host,
        settings.port,
        settings.name,
    )
    engine = create_async_engine(url, connect_args={"timeout": 5})
    try:
        await wait_for(engine)
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            await connection.run_sync(upgrade)
    finally:
        await engine.dispose()


async def wait_for(engine: AsyncEngine) -> None:
    """Return once the database accepts connections."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            async with engine.connect():
                return
        except (DBAPIError, OSError) as error:
            if time.monotonic() > end:
                raise
            log.info("The database is not there yet", extra={"reason": str(error).splitlines()[0]})
            await asyncio.sleep(1)


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest version."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def main() -> None:
    """Migrate, or end with exit code 1 and the reason."""
    settings = load_or_exit(UserSettings, os.environ)
    logs.configure(f"{settings.service.name}-migration")
    try:
        asyncio.run(migrate(settings.database))
    except (DBAPIError, OSError) as error:
        reason: Any = getattr(error, "orig", None) or error
        log.error("The migration failed", extra={"reason": str(reason)})  # noqa: TRY400 - the reason says it
        sys.exit(1)
    log.info("The schema is current")


if __name__ == "__main__":
    main()
