"""A real Postgres, a real Redis and processes of user-service on loopback, for tests that no double can stand in for.

The programs are Debian's, unpacked and not installed: each test run has servers of its own, in a folder of its own.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import pytest

from estate.tools.debian_programs import DebianPrograms, debian_programs

DATABASE, OWNER = "myapp", "owner"
DEADLINE_S = 60.0


@cache
def programs() -> DebianPrograms:
    """Return Debian's programs, which are unpacked on first use."""
    return debian_programs()


def program(name: str) -> list[str]:
    """Return the command of a program of Postgres, which refuses to run as root."""
    return programs().unprivileged_command(name)


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return once a condition holds; fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s:g} s"
        time.sleep(0.02)


def accepts(port: int) -> bool:
    """Return whether something listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A process that listens on a port of its own, and can be stopped and started again.

    Args:
        command: the command line; `{port}` in a word is replaced with its port.
        environment: the whole environment of the process.
        folder: the working directory.
        log: the file that receives its output.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self.port = free_port()
        self.command = [word.replace("{port}", str(self.port)) for word in command]
        self.environment = {name: value.replace("{port}", str(self.port)) for name, value in environment.items()}
        self.folder = folder
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; it may not listen yet."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def ready(self) -> bool:
        """Return whether the server accepts connections; fail when the process has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-4000:]
        return accepts(self.port)

    def await_ready(self) -> None:
        """Return once the server is ready."""
        until(self.ready, f"{self.command[0]} serves")

    def stop(self, how: int = signal.SIGKILL) -> None:
        """End the process with a signal."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE_S)
            self._process = None

    def restart(self, how: int = signal.SIGKILL) -> None:
        """End the process with a signal, start it, and return once it is ready."""
        self.stop(how)
        self.start()
        self.await_ready()


def run(command: Sequence[str], folder: Path, given: str | None = None) -> str:
    """Return the output of a program that succeeds; fail with its error otherwise."""
    done = subprocess.run(
        command,
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=programs().environment,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Postgres(Server):
    """A server with one empty database, and a role that owns it.

    Args:
        folder: the folder of this server alone.
        parameters: the configuration parameters.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, str] | None = None) -> None:
        data = folder / "postgres"
        text = ["-E", "UTF8", "--locale=C.UTF-8"]  # knows lower case of all letters, as the estate's
        run([*program("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", *text, "--no-sync"], folder)
        given = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"} | dict(
            parameters or {}
        )
        words = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        command = [*program("postgres"), "-D", str(data), "-p", "{port}", *words]
        super().__init__(command, programs().environment | {"LC_ALL": "C.UTF-8"}, folder, folder / "postgres.log")
        self.start()
        self.await_ready()
        self.ask(f"CREATE ROLE {OWNER} LOGIN", "postgres", "postgres")
        self.ask(f"CREATE DATABASE {DATABASE} OWNER {OWNER}", "postgres", "postgres")

    def ready(self) -> bool:
        """Return whether the server answers queries: during recovery it listens before it does."""
        if not super().ready():
            return False
        asking = [*self._psql("postgres", "postgres"), "--command=SELECT 1"]
        return subprocess.run(asking, env=programs().environment, capture_output=True, check=False).returncode == 0

    def _psql(self, user: str, database: str) -> list[str]:
        return [*program("psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", user, database]  # fmt: skip

    def ask(self, statements: str, user: str = OWNER, database: str = DATABASE) -> str:
        """Return the output of SQL statements."""
        return run(self._psql(user, database), self.folder, statements).strip()

    @contextmanager
    def session(self, database: str = DATABASE) -> Generator["subprocess.Popen[str]"]:
        """Yield a session that reads statements from its standard input, and end it afterwards."""
        command = self._psql(OWNER, database)
        with subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.PIPE, text=True, env=programs().environment
        ) as session:
            yield session

    def dump(self, name: str, database: str = DATABASE) -> None:
        """Write a dump, as `estate backup create` does."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", OWNER]
        run([*program("pg_dump"), *where, "--format=custom", f"--file={name}", database], self.folder)

    def restore(self, name: str, database: str = DATABASE) -> None:
        """Replace the content of the database with a dump, in one transaction, as `estate restore` does."""
        restored = run([*program("pg_restore"), "--no-owner", "--exit-on-error", "--file=-", name], self.folder)
        self.ask(f"BEGIN;\nDROP OWNED BY CURRENT_USER CASCADE;\n{restored}\nCOMMIT;", database=database)


def redis(folder: Path) -> Server:
    """Return a Redis without persistence, as the estate's."""
    words = ["--bind", "127.0.0.1", "--port", "{port}", "--save", "", "--appendonly", "no"]
    return Server(programs().command("redis-server", *words), programs().environment, folder, folder / "redis.log")


class Service(Server):
    """A process of user-service.

    Args:
        name: the name of the process in its folder.
        folder: the folder for its log.
        database: the port of Postgres.
        cache: the port of Redis; None for no Redis.
        environment: further settings.
    """

    def __init__(
        self, name: str, folder: Path, database: int, cache: int | None, environment: Mapping[str, str] | None = None
    ) -> None:
        settings = {
            "PATH": os.environ["PATH"],
            "APP_SERVER_HOST": "127.0.0.1",
            "APP_SERVER_PORT": "{port}",
            "APP_AUTH_REQUIRED": "false",
            "APP_SERVICE_REGISTRY_ADDRESS": "127.0.0.1:1",
            "APP_DATABASE_HOST": "127.0.0.1",
            "APP_DATABASE_PORT": str(database),
            "APP_DATABASE_USERNAME": OWNER,
            "APP_DATABASE_NAME": DATABASE,
        }
        if cache is not None:
            settings |= {"APP_CACHE_HOST": "127.0.0.1", "APP_CACHE_PORT": str(cache)}
        self.settings = settings | dict(environment or {})
        super().__init__([sys.executable, "-m", "user_service"], self.settings, folder, folder / f"{name}.log")
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def close(self) -> None:
        """Stop the process and close its client."""
        self.stop()
        self.client.close()

    def migrate(self) -> None:
        """Migrate the schema to the revision that the code requires."""
        command = [sys.executable, "-m", "user_service.migrate"]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Yield a folder for the test run."""
    with tempfile.TemporaryDirectory(prefix="backends-") as name:
        yield Path(name)
