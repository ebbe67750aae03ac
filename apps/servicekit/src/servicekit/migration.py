"""Migrations of a service's tables: Alembic revisions, with a history of the service's own in the database that services share."""

import asyncio
import importlib.resources
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from servicekit import logs
from servicekit.settings import Database, DatabaseSettings, SettingsError, load_or_exit, refuse

log = logging.getLogger("migrate")
LOCK = 0x75736572
"""One for all services of a database: indexes that two of them build at once, CONCURRENTLY, would wait for each other."""
LOOK_EVERY_S = 0.5
WAIT_S = 120.0
REFUSED = {"InvalidCatalogNameError", "InvalidPasswordError", "InvalidAuthorizationSpecificationError"}
"""Errors of asyncpg that waiting does not cure."""


class MigrationError(Exception):
    """The database is not one that this release can migrate: what is in the way, and what to do."""


@dataclass(frozen=True)
class History:
    """Revisions of a service, and the tables in which its database says which of them it has.

    Args:
        package: of the service; its revisions are in <package>/migrations/versions.
    """

    package: str

    @property
    def version(self) -> str:
        """Alembic's table: the newest revision."""
        return f"alembic_version_{self.package}"

    @property
    def applied(self) -> str:
        """Table of every revision that was applied, by which an earlier release knows that a later one follows from it."""
        return f"alembic_applied_{self.package}"

    def config(self) -> Config:
        """Return how Alembic finds the revisions."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "newline")
        versions = importlib.resources.files(self.package) / "migrations" / "versions"
        config.set_main_option("version_locations", str(versions))
        return config


def run(model: type[DatabaseSettings], package: str, takes_over: str | None = None) -> None:
    """Migrate a service's tables, or end with exit code 1 and the reason.

    Args:
        model: settings of the service.
        package: of the service.
        takes_over: table with the history from before each service had its own.
    """
    settings = load_or_exit(model, os.environ, sys.argv[1:])
    logs.configure(f"{settings.service.name}-migration")
    try:
        asyncio.run(migrate(settings.database, History(package), takes_over))
    except SettingsError as error:
        refuse(error)
    except (MigrationError, DBAPIError, OSError) as error:
        reason: Any = getattr(error, "orig", None) or error
        log.error("The migration failed", extra={"reason": str(reason)})  # noqa: TRY400 - the reason says it
        sys.exit(1)


async def migrate(settings: Database, history: History, takes_over: str | None) -> None:
    """Run what is missing, under a lock that a second run waits for.

    Raises:
        DBAPIError, OSError: the database was away for WAIT_S seconds, or refused a statement.
        MigrationError: its schema is not one that this release knows.
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
            await take_lock(connection)
            # The version that serves goes on serving: a table that is in use is not waited for at the head of its queue for long.
            await connection.execute(text("SET lock_timeout = '5s'"))
            await connection.commit()
            await connection.run_sync(upgrade, history, takes_over)
    finally:
        await engine.dispose()


async def wait_for(engine: AsyncEngine) -> None:
    """Return once the database accepts connections.

    Raises:
        DBAPIError, OSError: it did not within WAIT_S seconds, or refused us.
    """
    end, said = time.monotonic() + WAIT_S, ""
    while True:
        try:
            async with engine.connect():
                return
        except (DBAPIError, OSError) as error:
            if time.monotonic() > end or REFUSED & {type(cause).__name__ for cause in causes(error)}:
                raise
            reason = str(error).splitlines()[0]
            if reason != said:
                log.info("The database is not there yet", extra={"reason": reason})
            said = reason
            await asyncio.sleep(1)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__


async def take_lock(connection: AsyncConnection) -> None:
    """Return once no other run holds the lock, which the session then holds, outside any transaction.

    A statement that waits for it, or a transaction that stays open, would be waited for by CREATE INDEX CONCURRENTLY of the run that holds it.
    """
    said = False
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
        await connection.commit()
        if not said:
            log.info("Another migration of this database runs; this one waits for its end")
        said = True
        await asyncio.sleep(LOOK_EVERY_S)
    await connection.commit()


def upgrade(connection: Connection, history: History, takes_over: str | None = None) -> None:
    """Bring the schema to the newest revision; one that a later release has brought further stays as it is.

    Raises:
        MigrationError: it is at a revision that does not follow from ours.
    """
    config = history.config()
    scripts = ScriptDirectory.from_config(config)
    with connection.begin():
        connection.execute(text(f"CREATE TABLE IF NOT EXISTS {history.applied} (revision text PRIMARY KEY)"))
        if takes_over and kind_of(connection, takes_over) == "r" and not kind_of(connection, history.version):
            take_over(connection, history, scripts, takes_over)
        unknown = found(connection, history.version) - known(scripts)
        applied = {row.revision for row in connection.execute(text(f"SELECT revision FROM {history.applied}"))}
    if unknown and set(scripts.get_heads()) <= applied:
        # A release that was rolled back: every revision leaves the schema good for the release before it.
        log.warning("The schema is ahead of this release: it stays as it is", extra={"revisions": sorted(unknown)})
        return
    if unknown:
        raise MigrationError(
            f"{history.version} holds {', '.join(sorted(unknown))}, which this release of {history.package} does not know, and which does not"
            f" follow from its {', '.join(scripts.get_heads())}: deploy the release that made it, or restore a dump of this one"
        )

    def applying(ctx: MigrationContext, step: Any, **_: Any) -> None:
        assert ctx.connection is not None  # noqa: S101 - narrows for the type checker
        record(ctx.connection, history, step.up_revision_ids)

    config.attributes["configure"] = {
        "connection": connection,
        "version_table": history.version,
        "on_version_apply": applying,
    }
    command.upgrade(config, "head")
    log.info("The schema is current", extra={"history": history.version, "revisions": scripts.get_heads()})


def take_over(connection: Connection, history: History, scripts: ScriptDirectory, shared: str) -> None:
    """Make the table of all services' history this service's own.

    A view stays in its place: a release from before, when it is rolled back to, finds its revision there and has nothing to do.

    Raises:
        MigrationError: what the table holds is not this service's.
    """
    versions = found(connection, shared)
    if unknown := versions - known(scripts):
        raise MigrationError(
            f"{shared} holds {', '.join(sorted(unknown))}, which is no revision of {history.package}: if the table is another service's, rename it"
            f" to what that service has as version_table, and run this again"
        )
    connection.execute(text(f"ALTER TABLE {shared} RENAME TO {history.version}"))
    connection.execute(text(f"ALTER INDEX IF EXISTS {shared}_pkc RENAME TO {history.version}_pkc"))
    connection.execute(text(f"CREATE VIEW {shared} AS SELECT version_num FROM {history.version}"))
    if versions:
        record(connection, history, (each.revision for each in scripts.iterate_revisions(tuple(versions), "base")))
    log.info("The history of before was taken over", extra={"from": shared, "history": history.version})


def kind_of(connection: Connection, name: str) -> str | None:
    """Return of which kind a relation is, as pg_class has it; None where there is none of that name."""
    kind = connection.scalar(text("SELECT relkind::text FROM pg_class WHERE oid = to_regclass(:name)"), {"name": name})
    return str(kind) if kind else None


def found(connection: Connection, table: str) -> set[str]:
    """Return the newest revisions that a table of Alembic's holds; none where it is not there."""
    return set(MigrationContext.configure(connection, opts={"version_table": table}).get_current_heads())


def known(scripts: ScriptDirectory) -> set[str]:
    """Return every revision of this release."""
    return {script.revision for script in scripts.walk_revisions()}


def record(connection: Connection, history: History, revisions: Iterable[str]) -> None:
    """Record revisions as applied, in the transaction that applies them."""
    statement = text(f"INSERT INTO {history.applied} VALUES (:revision) ON CONFLICT DO NOTHING")
    connection.execute(statement, [{"revision": revision} for revision in revisions])
