"""Each service's own migration history, in the one shared database, on a real Postgres."""

import re
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from estate.core.paths import PROJECT
from tests.support.backends import OWNER, Postgres, Server, Service, until

OTHER = "orders"
DEADLINE_S = 200
NEWEST = "0004"
"""Newest revision of user-service."""
REVISION = """
from alembic import op

revision = "{revision}"
down_revision = {before!r}

def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("{statement}")
"""
SHARED = """
    DROP TABLE IF EXISTS alembic_applied_user_service;
    ALTER TABLE alembic_version_user_service RENAME TO alembic_version;
    ALTER INDEX alembic_version_user_service_pkc RENAME TO alembic_version_pkc;
"""
"""Script that restores the history of earlier releases, which all services shared."""


HOLDS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
COME = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'psql' AND query ~ 'advisory|CONCURRENTLY|COMMIT'"
"""Query for the number of runs that hold the lock, wait for it, or have asked for it once."""


class Database:
    """A separate database, and the migrations of services on it."""

    def __init__(self, postgres: Postgres, service: Service, orders: Path) -> None:
        self.name = service.settings["APP_DATABASE_NAME"]
        self.service = service
        self.orders = orders
        self._postgres = postgres

    def ask(self, statements: str) -> str:
        return self._postgres.ask(statements, database=self.name)

    def start(self, package: str = "user_service") -> subprocess.Popen[str]:
        environment = self.service.environment | {"PYTHONPATH": str(self.orders.parent)}
        del environment["APP_CACHE_HOST"], environment["APP_CACHE_PORT"]
        command = [sys.executable, "-m", f"{package}.migrate"]
        return subprocess.Popen(command, env=environment, cwd=self.service.folder, stdout=-1, stderr=-2, text=True)

    def migrate(self, package: str = "user_service") -> tuple[int, str]:
        """Migrate a service's tables, and return the exit code and the log."""
        process = self.start(package)
        log, _ = process.communicate(timeout=DEADLINE_S)
        return process.returncode, log

    def version(self, package: str = "user_service") -> str:
        return self.ask(f"SELECT string_agg(version_num, ' ') FROM alembic_version_{package}")

    def applied(self, package: str = "user_service") -> list[str]:
        return self.ask(f"SELECT revision FROM alembic_applied_{package} ORDER BY 1").split()

    @contextmanager
    def read(self, table: str) -> Generator[None]:
        """Read a table in a transaction that stays open for the time of the context."""
        with self._postgres.session(self.name) as session:
            assert session.stdin is not None
            session.stdin.write(f"BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE;\n")
            session.stdin.flush()
            held = f"SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND granted"
            until(lambda: self.ask(held) != "0", f"{table} is read")
            yield

    def dump(self, name: str) -> None:
        self._postgres.dump(name, self.name)

    def restore(self, name: str) -> None:
        self._postgres.restore(name, self.name)

    def revise(self, *statements: str, first: int = 1) -> None:
        """Write a release of orders with one revision per statement, numbered like those of user-service."""
        for old in (versions := self.orders / "migrations" / "versions").glob("*.py"):
            old.unlink()
        for number, statement in enumerate(statements, first):
            before = f"{number - 1:04d}" if number > first else None
            text = REVISION.format(revision=f"{number:04d}", before=before, statement=statement)
            (versions / f"r{number:04d}.py").write_text(text)


def documented() -> list[str]:
    """Return the files that docs/new-service.md shows."""
    _, _, section = (PROJECT / "docs" / "new-service.md").read_text().partition("## Tables of its own")
    return [
        textwrap.dedent(text) for text in re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    ]


@pytest.fixture
def database(folder: Path, postgres: Postgres, redis: Server, tmp_path: Path) -> Database:
    """Return an empty database with a service orders as docs/new-service.md shows it."""
    name = f"migrated_{uuid.uuid4().hex}"
    postgres.ask(f"CREATE DATABASE {name} OWNER {OWNER}", "postgres", "postgres")
    orders = tmp_path / OTHER
    versions = orders / "migrations" / "versions"
    versions.mkdir(parents=True)
    (orders / "__init__.py").touch()
    files = (orders / "settings.py", orders / "migrate.py", versions / "0001_orders.py")
    for file, text in zip(files, documented(), strict=True):
        file.write_text(text)
    service = Service(name, folder, postgres.port, redis.port, {"APP_DATABASE_NAME": name})
    service.client.close()
    return Database(postgres, service, orders)


def ended_well(outcomes: Sequence[tuple[int, str]]) -> None:
    for code, log in outcomes:
        assert code == 0, log
        assert "The schema is current" in log


@pytest.mark.parametrize("order", [("user_service", OTHER), (OTHER, "user_service")], ids=str)
def test_services_whose_revisions_have_the_same_names_are_each_migrated(
    database: Database, order: tuple[str, str]
) -> None:
    ended_well([database.migrate(package) for package in order])
    assert database.version() == NEWEST
    assert database.version(OTHER) == "0001"
    assert database.ask("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM orders)") == "0|0"


def test_a_history_from_before_a_service_had_a_schema_of_its_own_goes_on_where_it_is(database: Database) -> None:
    ended_well([database.migrate(OTHER)])
    path = f'ALTER ROLE {OWNER} IN DATABASE "{database.name}" SET search_path'
    database.ask(f"CREATE SCHEMA svc_orders AUTHORIZATION {OWNER}; {path} = svc_orders, public")
    try:
        ended_well([database.migrate(OTHER)])
        tables = "SELECT string_agg(relnamespace::regnamespace::text, ' ') FROM pg_class WHERE relname ~ '^alembic_.*_orders$'"
        assert database.ask(tables).split() == ["public", "public"]
    finally:
        database.ask(f'ALTER ROLE {OWNER} IN DATABASE "{database.name}" RESET search_path')


def test_the_history_that_services_shared_is_user_services_and_others_begin_theirs(database: Database) -> None:
    ended_well([database.migrate()])
    database.ask(SHARED + "INSERT INTO users (name, email, age) VALUES ('A', 'a@x.org', 1)")
    ended_well([database.migrate(OTHER), database.migrate(), database.migrate(), database.migrate(OTHER)])
    assert (database.version(), database.version(OTHER)) == (NEWEST, "0001")
    assert database.applied() == ["0001", "0002", "0003", NEWEST]
    assert database.ask("SELECT name FROM users") == "A"


@pytest.mark.parametrize(
    "left",
    [None, SHARED, SHARED + "UPDATE alembic_version SET version_num = '0003'"],
    ids=["empty", "newest", "earlier"],
)
def test_many_at_once_end_as_one(database: Database, left: str | None) -> None:
    if left:
        ended_well([database.migrate()])
        database.ask(left)
    running = [database.start(package) for package in ("user_service", OTHER) * 2]
    ended_well([(process.wait(DEADLINE_S), process.communicate()[0]) for process in running])
    assert (database.version(), database.version(OTHER)) == (NEWEST, "0001")
    assert database.applied() == ["0001", "0002", "0003", NEWEST]


def test_a_run_that_waits_for_another_is_not_waited_for_by_it(database: Database) -> None:
    ended_well([database.migrate()])
    database.ask("UPDATE alembic_version_user_service SET version_num = '0002'")
    with database.read("users"):
        first = database.start()
        until(lambda: database.ask(HOLDS) == "1", "the first run holds the lock")
        others = [database.start(package) for package in (OTHER, "user_service")]
        until(lambda: database.ask(COME) == "3", "the others have come for it")
    ended_well([(process.wait(DEADLINE_S), process.communicate()[0]) for process in (first, *others)])
    assert (database.version(), database.version(OTHER)) == (NEWEST, "0001")


def test_a_run_that_ended_between_taking_over_and_upgrading_is_finished_by_the_next(database: Database) -> None:
    ended_well([database.migrate()])
    database.ask(SHARED + "UPDATE alembic_version SET version_num = '0002'")
    # Revision 0003 drops an index first, and waits for readers of the table: by then the run has taken over.
    with database.read("users"):
        waiting = database.start()
        taken = "SELECT to_regclass('alembic_version_user_service') IS NOT NULL"
        until(lambda: database.ask(taken) == "t", "the history is taken over")
        waiting.kill()
        waiting.communicate()
    assert database.version() == "0002"
    assert database.applied() == ["0001", "0002"]
    ended_well([database.migrate()])
    assert database.version() == NEWEST


@pytest.mark.parametrize("package", ["user_service", OTHER])
def test_a_version_that_is_none_of_the_services_ends_in_an_error_and_changes_nothing(
    database: Database, package: str
) -> None:
    ended_well([database.migrate(), database.migrate(OTHER)])
    database.ask(f"UPDATE alembic_version_{package} SET version_num = 'abcd'; DELETE FROM alembic_applied_{package}")
    code, log = database.migrate(package)
    assert code == 1
    assert f"alembic_version_{package} holds abcd, which this release of {package} does not know" in log
    assert "current" not in log
    assert database.version(package) == "abcd"


def test_a_shared_history_at_a_version_that_is_none_of_user_services_is_not_taken_over(database: Database) -> None:
    database.ask("CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('abcd')")
    code, log = database.migrate()
    assert code == 1
    assert "alembic_version holds abcd, which is no revision of user_service" in log
    assert database.ask("SELECT version_num FROM alembic_version") == "abcd"
    assert database.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "1"
    ended_well([database.migrate(OTHER)])


def test_a_release_that_is_rolled_back_leaves_the_later_schema_and_says_so(database: Database) -> None:
    statements = ["CREATE TABLE orders (id int)", "ALTER TABLE orders ADD COLUMN note text"]
    database.revise(*statements)
    ended_well([database.migrate(OTHER)])
    database.revise(*statements[:1])
    code, log = database.migrate(OTHER)
    assert code == 0, log
    assert "The schema is ahead of this release" in log
    assert "current" not in log
    assert database.version(OTHER) == "0002"
    database.revise(*statements, "ALTER TABLE orders ADD COLUMN more text")
    ended_well([database.migrate(OTHER)])


def test_a_release_from_before_finds_its_version_when_it_is_rolled_back_to(database: Database) -> None:
    ended_well([database.migrate()])
    database.ask(SHARED)
    ended_well([database.migrate()])
    before = textwrap.dedent("""
        import asyncio, os, servicekit.migration as m
        from alembic import command
        from sqlalchemy.ext.asyncio import create_async_engine

        def upgrade(connection):
            config = m.History("user_service").config()
            config.attributes["configure"] = {"connection": connection}
            assert m.found(connection, "alembic_version") == {"0004"}
            connection.commit()
            command.upgrade(config, "head")

        async def main():
            s = {key: os.environ[f"APP_DATABASE_{key}"] for key in ("USERNAME", "HOST", "PORT", "NAME")}
            engine = create_async_engine("postgresql+asyncpg://{USERNAME}@{HOST}:{PORT}/{NAME}".format(**s))
            async with engine.connect() as connection:
                await connection.run_sync(upgrade)

        asyncio.run(main())
    """)
    subprocess.run([sys.executable, "-c", before], env=database.service.environment, check=True)
    ended_well([database.migrate()])


@pytest.mark.parametrize("shared", [True, False])
def test_a_dump_is_restored_and_migrated_whichever_history_it_has(database: Database, *, shared: bool) -> None:
    ended_well([database.migrate()])
    database.ask("INSERT INTO users (name, email, age) VALUES ('A', 'a@x.org', 1)" + (f"; {SHARED}" if shared else ""))
    database.dump("before.dump")
    ended_well([database.migrate(), database.migrate(OTHER)])
    database.ask("DELETE FROM users")
    database.restore("before.dump")
    ended_well([database.migrate(), database.migrate(OTHER)])
    assert database.ask("SELECT name FROM users") == "A"
    assert (database.version(), database.version(OTHER)) == (NEWEST, "0001")
