"""scripts/roles.sql run by a superuser, and by a login that may only create roles and databases: on a second Postgres in the database's pod."""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from estate.stack.model import Stack
from infra.database import SCRIPTS
from infra.database_names import BACKUP, METRICS, OWNER, PUBLIC, ServiceRoles, roles_of
from infra.database_roles import made_by, verifiers
from infra.services import Service

CONNECTED = """set -euo pipefail
export PGUSER=myuser_owner PGDATABASE=myapp
ask() { psql --no-psqlrc --quiet --no-password --set=ON_ERROR_STOP=1 "$@"; }"""
"""Replacement of scripts/connect.sh, which requires a password."""
SUPERUSER, PROVIDERS = "SUPERUSER", "CREATEROLE CREATEDB"


@dataclass(frozen=True)
class Server:
    """A Postgres on a socket in its folder that trusts every connection; `admin` owns its database myapp."""

    stack: Stack
    folder: str

    def run(self, *words: str, stdin: str = "") -> str:
        """Return the output of a command in the pod, or its error."""
        command = self.stack.kubectl("exec", "--stdin", "statefulset/postgres", "--", *words)
        done = subprocess.run(
            command, input=stdin, env=self.stack.target.environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr.replace("command terminated with exit code", "exit code")

    def write(self, name: str, content: str) -> None:
        self.run("sh", "-c", f"cat >{self.folder}/{name}", stdin=content)

    def ask(self, user: str, *words: str, database: str = "myapp") -> str:
        where = [f"--host={self.folder}", f"--username={user}", f"--dbname={database}"]
        return self.run("psql", "-qXAt", "--set=ON_ERROR_STOP=1", *where, *words)

    def declare(self, *services: ServiceRoles) -> None:
        """Declare services, each with a schema of its own."""
        logins = [login for roles in (PUBLIC, *services) for login in (roles.owner, *roles.logins.values())]
        self.write("verifiers.sql", verifiers(dict.fromkeys((OWNER, BACKUP, METRICS, *logins), "x")))
        self.write("services.sql", "".join(map(made_by, services)))

    def make_roles(self) -> str:
        return self.ask("admin", f"--file={self.folder}/roles.sql")


@pytest.fixture(params=[SUPERUSER, PROVIDERS])
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Server]:
    server = Server(stack, f"/tmp/roles-{uuid.uuid4().hex[:8]}")  # noqa: S108 - the pod's own
    data = f"--pgdata={server.folder}/data"
    server.run("mkdir", server.folder)
    for script in ("roles.sql", "service.sql", "schema.sql"):
        server.write(script, (SCRIPTS / script).read_text())
    server.declare()
    server.run("initdb", data, "--username=postgres", "--auth=trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={server.folder} -c fsync=off -c shared_buffers=16MB"
    server.run("pg_ctl", data, "--wait", f"--log={server.folder}/log", "-o", options, "start")
    try:
        server.ask("postgres", f"--command=CREATE ROLE admin LOGIN {request.param}", database="postgres")
        server.ask("postgres", "--command=CREATE DATABASE myapp OWNER admin", database="postgres")
        assert server.ask("admin", "--command=CREATE TABLE before (id int)") == ""
        yield server
    finally:
        server.run("pg_ctl", data, "--mode=immediate", "stop")
        server.run("rm", "-r", server.folder)


def test_the_admin_makes_the_roles_any_number_of_times(server: Server) -> None:
    assert server.make_roles() == ""
    assert server.ask("myuser_owner", "--command=CREATE TABLE after (id int)") == ""
    for _ in range(2):
        assert server.make_roles() == ""
        for table in ("before", "after"):
            assert server.ask("myuser_a", f"--command=INSERT INTO {table} VALUES (1)") == ""
            assert server.ask("backup", f"--command=SELECT min(id) FROM {table}") == "1\n"
    assert "permission denied" in server.ask("myuser_b", "--command=CREATE TABLE mine ()")
    assert "permission denied" in server.ask("backup", "--command=DELETE FROM after")


def test_who_watches_reads_what_the_server_counts_and_no_row(server: Server) -> None:
    server.make_roles()
    assert server.ask("myuser_owner", "--command=CREATE TABLE after (id int)") == ""
    for table in ("before", "after"):
        assert "permission denied" in server.ask("metrics", f"--command=SELECT FROM {table}")
    others = "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'"
    assert server.ask("metrics", f"--command={others}") == "0\n"
    assert server.ask("myuser_a", f"--command={others}") != "0\n"
    assert server.ask("metrics", "--command=SELECT pg_database_size('postgres') > 0") == "t\n"
    mine = "SELECT string_agg(of.rolname, ' ') FROM pg_auth_members JOIN pg_roles of ON of.oid = roleid WHERE member = 'metrics'::regrole"
    assert server.ask("postgres", f"--command={mine}") == "pg_monitor\n"


def test_what_makes_a_role_mighty_is_taken_away(server: Server) -> None:
    server.make_roles()
    server.ask("postgres", "--command=ALTER ROLE myuser_a CREATEDB CREATEROLE")
    assert server.make_roles() == ""
    mighty = "SELECT rolname FROM pg_roles WHERE rolname <> 'admin' AND rolcanlogin AND (rolcreatedb OR rolcreaterole OR rolsuper)"
    assert server.ask("postgres", f"--command={mighty}") == "postgres\n"


ORDERS, ORDER = (
    roles_of(Service(name, needs=("postgres",), prefixes=(f"/api/v1/{name}",))) for name in ("orders", "order")
)
"""Roles of two services; the name of one begins with the other's, which is a word of SQL."""


def test_a_service_reads_and_writes_its_own_tables_and_no_others(server: Server) -> None:
    server.declare(ORDERS, ORDER)
    for _ in range(2):
        assert server.make_roles() == ""
    tables = {PUBLIC: "people", ORDERS: "orders_items", ORDER: "order_items"}
    for roles, table in tables.items():
        statement = f"CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY, at bigserial)"
        assert server.ask(roles.owner, f"--command={statement}") == ""
    places = "SELECT string_agg(relnamespace::regnamespace || '.' || relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r'"
    found = server.ask("postgres", f"--command={places} AND relowner = 'myuser_owner'::regrole")
    assert found.split() == ["public.before", "svc_order.order_items", "svc_orders.orders_items", "public.people"]
    for roles in tables:
        for other, table in tables.items():
            schema = "public" if other is PUBLIC else other.role
            for login in roles.logins.values():
                said = server.ask(login, f"--command=INSERT INTO {schema}.{table} DEFAULT VALUES")
                assert (said == "") == (roles is other), (login, table, said)
                assert said == "" or "permission denied" in said
        assert "permission denied" in server.ask(roles.logins["a"], "--command=CREATE TABLE mine ()")
        assert "permission denied" in server.ask(roles.logins["a"], f"--command=SET ROLE {OWNER}")
    assert server.ask(ORDERS.logins["b"], "--command=SELECT count(*) FROM orders_items") == "2\n"
    assert server.ask(BACKUP, "--command=SELECT count(*) FROM svc_orders.orders_items") == "2\n"


def test_what_a_service_had_before_it_had_a_schema_of_its_own_is_still_its(server: Server) -> None:
    assert server.make_roles() == ""
    for made in ("orders_items (id bigint GENERATED ALWAYS AS IDENTITY)", "alembic_version_orders ()", "order_keys ()"):
        server.ask(OWNER, f"--command=CREATE TABLE {made}")
    assert server.ask(PUBLIC.logins["a"], "--command=INSERT INTO orders_items DEFAULT VALUES") == ""
    server.declare(ORDERS, ORDER)
    assert server.make_roles() == ""
    assert server.ask(ORDERS.logins["a"], "--command=INSERT INTO orders_items DEFAULT VALUES") == ""
    assert server.ask(PUBLIC.logins["a"], "--command=SELECT count(*) FROM orders_items") == "2\n"
    for other in ("orders_items", "order_keys"):  # one of user-service's may begin with a new service's name
        assert "permission denied" in server.ask(ORDER.logins["a"], f"--command=SELECT FROM public.{other}")
    assert server.ask(ORDERS.owner, "--command=ALTER TABLE orders_items ADD more text") == ""


def dump(server: Server) -> None:
    """Dump the database into the server's folder, as the backup does."""
    file = f"{server.folder}/now.dump"
    said = server.run(
        "sh", "-c", f"pg_dump --host={server.folder} --username=backup --format=custom --file={file} myapp"
    )
    assert said == ""


def restore(server: Server) -> str:
    """Restore the dump with the script of the restore, and return its output."""
    script = (SCRIPTS / "postgres-restore.sh").read_text().replace("/backups", server.folder)
    server.write("restore.sh", script.replace(". ./connect.sh", CONNECTED))
    inside = f"cd {server.folder} && sha256sum now.dump >now.dump.sha256 && PGHOST={server.folder} bash restore.sh"
    return server.run("sh", "-c", inside)


@pytest.mark.parametrize("declared", [True, False])
def test_a_dump_with_a_service_comes_back_whether_or_not_there_is_the_service(
    server: Server, *, declared: bool
) -> None:
    server.declare(ORDERS)
    assert server.make_roles() == ""
    server.ask(ORDERS.owner, "--command=CREATE TABLE orders_items (id int)")
    server.ask(ORDERS.logins["a"], "--command=INSERT INTO orders_items VALUES (7)")
    dump(server)
    if not declared:
        server.ask("postgres", "--command=DROP OWNED BY svc_orders, svc_orders__a, svc_orders__b, svc_orders__owner")
        server.ask("postgres", "--command=DROP ROLE svc_orders, svc_orders__a, svc_orders__b, svc_orders__owner")
    said = restore(server)
    assert "  orders_items: 1 rows" in said, said
    owned = server.ask(BACKUP, "--command=SELECT id FROM svc_orders.orders_items")
    assert owned == "7\n", owned
    if declared:
        assert server.ask(ORDERS.logins["b"], "--command=UPDATE orders_items SET id = 8") == ""


def test_a_dump_from_before_a_service_had_a_schema_leaves_its_rows_to_it(server: Server) -> None:
    assert server.make_roles() == ""
    for made in ("orders_items (id int)", "alembic_version_orders ()"):
        server.ask(OWNER, f"--command=CREATE TABLE {made}")
    dump(server)
    server.declare(ORDERS)
    assert server.make_roles() == ""
    assert "  orders_items: 0 rows" in restore(server)
    assert server.ask(ORDERS.logins["a"], "--command=INSERT INTO orders_items VALUES (7)") == ""
    assert server.ask(ORDERS.owner, "--command=CREATE TABLE orders_more (id int)") == ""
    assert server.ask(ORDERS.logins["b"], "--command=SELECT FROM svc_orders.orders_more") == ""
