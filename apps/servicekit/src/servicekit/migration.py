"""Migrations of a service's tables: Alembic revisions, with a history per service in the database that the services share."""

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
"""Key of the advisory lock, one for all services of a database: two concurrent CREATE INDEX CONCURRENTLY would wait for each other."""
LOOK_EVERY_S = 0.5
WAIT_S = 120.0
REFUSED = {"InvalidCatalogNameError", "InvalidPasswordError", "InvalidAuthorizationSpecificationError"}
"""Errors of asyncpg for which waiting does not help."""


class MigrationError(Exception):
    """Error for a database that this release cannot migrate: the obstacle, and the remedy."""


@dataclass(frozen=True)
class History:
    """Revisions of a service, and the tables in which its database records them.

    Args:
        package: package of the service; its revisions are in <package>/migrations/versions.
    """

    package: str

    @property
    def version(self) -> str:
        """Return the name of Alembic's table, which holds the newest revision."""
        return f"alembic_version_{self.package}"

    @property
    def applied(self) -> str:
        """Return the name of the table of all applied revisions, from which an earlier release learns that a later revision follows from its own."""
        return f"alembic_applied_{self.package}"

    def config(self) -> Config:
        """Return Alembic's configuration, with the location of the revisions."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "newline")
        versions = importlib.resources.files(self.package) / "migrations" / "versions"
        config.set_main_option("version_locations", str(versions))
        return config


def run(model: type[DatabaseSettings], package: str, takes_over: str | None = None) -> None:
    """Migrate a service's tables, or exit with code 1 and the reason.

    Args:
        model: model of the service's settings.
        package: package of the service.
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
        log.error("The migration failed", extra={"reason": str(reason)})  # noqa: TRY400 - the reason is sufficient
        sys.exit(1)


async def migrate(settings: Database, history: History, takes_over: str | None) -> None:
    """Apply the missing revisions, under a lock that a concurrent run waits for.

    Raises:
        DBAPIError, OSError: the database was unreachable for WAIT_S seconds, or refused a statement.
        MigrationError: this release does not know the state of its schema.
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
            # The running version keeps serving: a migration must not block a table's lock queue for long.
            await connection.execute(text("SET lock_timeout = '5s'"))
            await connection.commit()
            await connection.run_sync(upgrade, history, takes_over)
    finally:
        await engine.dispose()


async def wait_for(engine: AsyncEngine) -> None:
    """Return once the database accepts connections.

    Raises:
        DBAPIError, OSError: it did not within WAIT_S seconds, or refused the login.
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
    """Yield an error and its chain of causes."""
    while error is not None:
        yield error
        error = error.__cause__


async def take_lock(connection: AsyncConnection) -> None:
    """Return once the session holds the lock, outside any transaction.

    A statement that waits for the lock, or an open transaction, would block a CREATE INDEX CONCURRENTLY of the run that holds it.
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
    """Migrate the schema to the newest revision; a schema that a later release has migrated further stays as it is.

    Raises:
        MigrationError: the schema is at a revision that does not follow from this release's.
    """
    config = history.config()
    scripts = ScriptDirectory.from_config(config)
    with connection.begin():
        # Without IF NOT EXISTS, which looks at the first schema of the search_path alone, and would hide a table in another.
        if not kind_of(connection, history.applied):
            connection.execute(text(f"CREATE TABLE {history.applied} (revision text PRIMARY KEY)"))
        if takes_over and kind_of(connection, takes_over) == "r" and not kind_of(connection, history.version):
            take_over(connection, history, scripts, takes_over)
        unknown = found(connection, history.version) - known(scripts)
        applied = {row.revision for row in connection.execute(text(f"SELECT revision FROM {history.applied}"))}
    if unknown and set(scripts.get_heads()) <= applied:
        # This release was rolled back to: every revision leaves the schema compatible with the release before it.
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
    """Rename the history table that all services shared to this service's own.

    A view with the old name replaces it: an earlier release, after a rollback, finds its revision there and has nothing to do.

    Raises:
        MigrationError: the table holds the history of another service.
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
    """Return the kind of a relation, as in pg_class.relkind; None if there is none of that name."""
    kind = connection.scalar(text("SELECT relkind::text FROM pg_class WHERE oid = to_regclass(:name)"), {"name": name})
    return str(kind) if kind else None


def found(connection: Connection, table: str) -> set[str]:
    """Return the newest revisions in a table of Alembic's; none if the table does not exist."""
    return set(MigrationContext.configure(connection, opts={"version_table": table}).get_current_heads())


def known(scripts: ScriptDirectory) -> set[str]:
    """Return every revision of this release."""
    return {script.revision for script in scripts.walk_revisions()}


def record(connection: Connection, history: History, revisions: Iterable[str]) -> None:
    """Record revisions as applied, in the transaction that applies them."""
    statement = text(f"INSERT INTO {history.applied} VALUES (:revision) ON CONFLICT DO NOTHING")
    connection.execute(statement, [{"revision": revision} for revision in revisions])
