"""scripts/roles.sql by a superuser, and by one who may only create roles and databases: on a second Postgres in the database's pod."""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from infra.database import BACKUP, LOGINS, METRICS, OWNER, SCRIPTS
from infra.database_roles import verifiers
from toolchain.stack import Stack

SUPERUSER, PROVIDERS = "SUPERUSER", "CREATEROLE CREATEDB"


@dataclass(frozen=True)
class Server:
    """A Postgres on a socket in its folder, where everybody is believed; `admin` owns its database myapp."""

    stack: Stack
    folder: str

    def run(self, *words: str, stdin: str = "") -> str:
        """What a command in the pod says, or why it refuses."""
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

    def make_roles(self) -> str:
        return self.ask("admin", f"--file={self.folder}/roles.sql")


@pytest.fixture(params=[SUPERUSER, PROVIDERS])
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Server]:
    server = Server(stack, f"/tmp/roles-{uuid.uuid4().hex[:8]}")  # noqa: S108 - the pod's own
    data = f"--pgdata={server.folder}/data"
    server.run("mkdir", server.folder)
    server.write("roles.sql", (SCRIPTS / "roles.sql").read_text())
    server.write("verifiers.sql", verifiers(dict.fromkeys((OWNER, BACKUP, METRICS, *LOGINS.values()), "x")))
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
