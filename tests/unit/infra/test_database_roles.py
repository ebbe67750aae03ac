"""scripts/roles.sql on a Postgres of this machine's, by a superuser and by one who may only create roles and databases."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.database import BACKUP, LOGINS, OWNER, SCRIPTS
from infra.database_roles import verifiers

BINARIES = Path("/usr/lib/postgresql/15/bin")
pytestmark = pytest.mark.skipif(not BINARIES.exists(), reason="needs Debian's postgresql-15")
SUPERUSER, PROVIDERS = "SUPERUSER", "CREATEROLE CREATEDB"


@dataclass(frozen=True)
class Server:
    """A Postgres on a socket in its folder, where everybody is believed; `admin` owns its database myapp."""

    folder: Path

    def run(self, program: str, *words: str) -> None:
        """Run one of its programs, which refuse to be root's."""
        nobody = {"user": "nobody", "group": "nogroup", "extra_groups": list[str]()} if os.geteuid() == 0 else {}
        command = [str(BINARIES / program), f"--pgdata={self.folder}/data", *words]
        subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, check=True, **nobody)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def ask(self, user: str, *words: str, database: str = "myapp") -> str:
        """What psql says, or why it refuses."""
        where = [f"--host={self.folder}", f"--username={user}", f"--dbname={database}"]
        command = [str(BINARIES / "psql"), "-qXAt", "--set=ON_ERROR_STOP=1", *where, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def make_roles(self) -> str:
        return self.ask("admin", f"--file={self.folder / 'roles.sql'}")


@pytest.fixture(params=[SUPERUSER, PROVIDERS])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        folder = Path(temporary)
        shutil.copy(SCRIPTS / "roles.sql", folder)
        (folder / "verifiers.sql").write_text(verifiers(dict.fromkeys((OWNER, BACKUP, *LOGINS.values()), "x")))
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        server = Server(folder)
        server.run("initdb", "--username=postgres", "--auth=trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        server.run("pg_ctl", "--wait", f"--log={folder}/log", "-o", options, "start")
        try:
            server.ask("postgres", f"--command=CREATE ROLE admin LOGIN {request.param}", database="postgres")
            server.ask("postgres", "--command=CREATE DATABASE myapp OWNER admin", database="postgres")
            server.ask("admin", "--command=CREATE TABLE before (id int)")
            yield server
        finally:
            server.run("pg_ctl", "--mode=immediate", "stop")


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


def test_what_makes_a_role_mighty_is_taken_away(server: Server) -> None:
    server.make_roles()
    server.ask("postgres", "--command=ALTER ROLE myuser_a CREATEDB CREATEROLE")
    assert server.make_roles() == ""
    mighty = "SELECT rolname FROM pg_roles WHERE rolname <> 'admin' AND rolcanlogin AND (rolcreatedb OR rolcreaterole OR rolsuper)"
    assert server.ask("postgres", f"--command={mighty}") == "postgres\n"
