"""python -m user_service.migrate: brings the database's schema to what this version wants, once."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from servicekit import logs
from servicekit.settings import SettingsError, load_or_exit, refuse
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from user_service.settings import Database, UserSettings

log = logging.getLogger("migrate")
LOCK = 0x75736572  # "user"
WAIT_S = 120.0
REFUSED = {"InvalidCatalogNameError", "InvalidPasswordError", "InvalidAuthorizationSpecificationError"}
"""Errors of asyncpg that waiting does not cure."""


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
    engine = create_async_engine(url, connect_args={"timeout": 5, "ssl": settings.tls()})
    try:
        await wait_for(engine)
        async with engine.connect() as connection:
            # Held by the session, outside any transaction: one that stayed open would keep CREATE INDEX CONCURRENTLY waiting.
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            # The version that serves goes on serving: a table that is in use is not waited for at the head of its queue for long.
            await connection.execute(text("SET lock_timeout = '5s'"))
            await connection.commit()
            await connection.run_sync(upgrade)
            await connection.commit()
    finally:
        await engine.dispose()


async def wait_for(engine: AsyncEngine) -> None:
    """Return once the database accepts connections.

    Raises:
        DBAPIError, OSError: it did not within WAIT_S seconds, or refused us.
    """
    end, told = time.monotonic() + WAIT_S, ""
    while True:
        try:
            async with engine.connect():
                return
        except (DBAPIError, OSError) as error:
            if time.monotonic() > end or REFUSED & {type(cause).__name__ for cause in causes(error)}:
                raise
            reason = str(error).splitlines()[0]
            if reason != told:
                log.info("The database is not there yet", extra={"reason": reason})
            told = reason
            await asyncio.sleep(1)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest version; one that a newer release has brought further stays as it is."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads())
    connection.commit()  # Alembic wants to begin its transactions itself
    if unknown := found - known:
        # A release that was rolled back: every revision leaves the schema good for the release before it.
        log.warning("The schema is ahead of this release: it stays as it is", extra={"revisions": sorted(unknown)})
        return
    command.upgrade(config, "head")


def main() -> None:
    """Migrate, or end with exit code 1 and the reason."""
    settings = load_or_exit(UserSettings, os.environ, sys.argv[1:])
    logs.configure(f"{settings.service.name}-migration")
    try:
        asyncio.run(migrate(settings.database))
    except SettingsError as error:
        refuse(error)
    except (DBAPIError, OSError) as error:
        reason: Any = getattr(error, "orig", None) or error
        log.error("The migration failed", extra={"reason": str(reason)})  # noqa: TRY400 - the reason says it
        sys.exit(1)
    log.info("The schema is current")


if __name__ == "__main__":
    main()
