import ast
import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from api_gateway.directory import Directory
from api_gateway.discovery import Discovery
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.proxy import Proxy
from redis.exceptions import ConnectionError as RedisConnectionError
from servicekit import background, shared
from servicekit.jwks import RemoteKeys
from servicekit.postgres import Postgres
from servicekit.problems import unavailable
from servicekit.registration import Registration
from servicekit.settings import Auth, Cache, Database, Registry
from servicekit.tokens import Verifier
from user_service import main as users
from user_service.cache import Cache as UsersCache
from user_service.settings import Cache as CacheSettings

from estate.core.paths import PROJECT
from tests.process.gateway.conftest import own

AGENT = Registry(address="127.0.0.1:1")


async def cancelled() -> None:
    """Await a future that is cancelled."""
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    await waiting


async def failed() -> None:
    raise RuntimeError("this task failed")


async def ended() -> None:
    """Return at once, as a task does that ends too early."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RESTART_S", 0.0)


@pytest.mark.parametrize("end", [failed, ended, cancelled])
async def test_a_task_that_ends_is_logged_and_started_again(
    end: Callable[[], asyncio.Future[None]], caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0
    again = asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            await end()
            return
        again.set()
        await asyncio.Event().wait()

    task = background.start("a task", run)
    async with asyncio.timeout(10):
        await again.wait()
    lines = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [vars(line)["task"] for line in lines] == ["a task"] * 2
    await background.end(task)
    assert task.cancelled()
    assert runs == 3


def routes(folder: Path) -> Path:
    file = folder / "routes.json"
    file.write_text('{"routes": [{"prefix": "/s", "service": "s"}]}')
    return file


def proxy(folder: Path) -> Proxy:
    directory = Directory(routes(folder), AGENT)
    return Proxy(own, directory, Verifier(Auth(required=False)), Peers(()), RateLimits(Cache()))


LOOPS: dict[str, Callable[[Path], tuple[object, str, str, str]]] = {
    "directory": lambda folder: (Directory(routes(folder), AGENT), "_follow", "start", "stop"),
    "discovery": lambda _: (Discovery(AGENT, "s"), "_follow", "start", "stop"),
    "limits": lambda _: (RateLimits(Cache()), "_follow", "start", "stop"),
    "deadlines": lambda folder: (proxy(folder), "_tick", "open", "close"),
    "keys": lambda _: (RemoteKeys("http://127.0.0.1:1"), "_follow", "start", "stop"),
    "cache": lambda _: (
        UsersCache(CacheSettings(host="127.0.0.1"), Postgres("user-service", Database())),
        "_learn",
        "open",
        "close",
    ),
    "registration": lambda _: (Registration(AGENT, "s", "1", "127.0.0.1", 1), "_keep", "start", "stop"),
}


@pytest.mark.parametrize("name", LOOPS)
async def test_no_task_of_the_gateway_dies_in_silence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner, loop, start, stop = LOOPS[name](tmp_path)
    runs = 0
    again = asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("nobody expected this")
        again.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(owner, loop, run)
    if (started := getattr(owner, start)()) is not None:
        await started
    async with asyncio.timeout(10):
        await again.wait()
    assert any(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)
    await getattr(owner, stop)()


async def test_what_is_done_once_has_a_name_and_its_outcome_is_who_awaits_its() -> None:
    async def one() -> int:
        return 1

    task = background.once("one", one())
    assert task.get_name() == "one"
    assert await task == 1
    with pytest.raises(RuntimeError, match="this task failed"):
        await background.once("two", failed())


class Forgetful:
    """A store of users in which the deletion of keys fails at first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.forgotten = asyncio.Event()

    async def forget_keys(self) -> None:
        if self.failures:
            raise self.failures.pop()
        self.forgotten.set()


@pytest.mark.parametrize(
    ("failure", "level", "traceback"),
    [(unavailable("the database is away"), logging.WARNING, False), (RuntimeError("unexpected"), logging.ERROR, True)],
)
async def test_tidying_goes_on_after_a_failure(
    failure: Exception,
    level: int,
    traceback: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(users, "TIDY_EVERY_S", 0.0)
    forgetful: Any = Forgetful(failure)
    task = background.start("tidying", partial(users.tidy, forgetful))
    async with asyncio.timeout(10):
        await forgetful.forgotten.wait()
    await background.end(task)
    (line,) = caplog.records
    assert (line.levelno, line.exc_info is not None) == (level, traceback)


@pytest.mark.filterwarnings("ignore:verify_ssl is deprecated")  # used by Consul's client
async def test_an_instance_leaves_a_consul_that_is_away_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    registration = Registration(AGENT, "s", "one", "127.0.0.1", 1)
    with caplog.at_level(logging.WARNING):
        await registration.stop()
    (line,) = caplog.records
    said = vars(line)
    assert (line.levelno, line.exc_info) == (logging.WARNING, None)
    assert (said["instance"], said["url"]) == ("one", AGENT.address)
    assert said["reason"]


@pytest.mark.parametrize("failure", [RedisConnectionError("gone"), ConnectionResetError("gone"), TimeoutError("gone")])
async def test_a_client_of_a_redis_that_is_away_is_closed_with_one_line(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone:
        """A client whose Redis is gone."""

        async def aclose(self) -> None:
            raise failure

    await shared.close(Gone(), Cache(host="redis"))
    (line,) = caplog.records
    said = vars(line)
    assert (line.levelno, line.exc_info, said["address"], said["port"]) == (logging.WARNING, None, "redis", 6379)
    assert said["reason"] == f"{type(failure).__name__}: gone"


CODE = {"/".join(file.parts[-2:]): ast.parse(file.read_text()) for file in PROJECT.glob("apps/*/src/*/*.py")}


def modules(found: Callable[[ast.AST], bool]) -> Iterator[str]:
    """Return the modules of the apps that contain such code."""
    return (name for name, module in CODE.items() if any(map(found, ast.walk(module))))


def test_tasks_are_started_in_one_place() -> None:
    """Refuse bare tasks, which the event loop forgets and which end unnoticed: `background` starts those that go on, and those that end."""

    def bare(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute | ast.alias) and (
            node.attr if isinstance(node, ast.Attribute) else node.name
        ) in ("create_task", "ensure_future")

    assert set(modules(bare)) == {"servicekit/background.py"}


def test_tracebacks_are_logged_where_nothing_of_it_was_expected() -> None:
    """Refuse tracebacks except for errors of ours: the failure of a peer or a dependency is one line."""

    def logged(node: ast.AST) -> bool:
        return (isinstance(node, ast.Attribute) and ast.unparse(node) == "log.exception") or (
            isinstance(node, ast.keyword) and node.arg == "exc_info"
        )

    assert set(modules(logged)) == {
        f"servicekit/{name}.py" for name in ("background", "http1", "observation", "working")
    }


async def test_what_is_given_up_and_fails_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    background.on_lost(
        loop, {"message": "Future exception was never retrieved", "exception": socket.gaierror(-2, "no name")}
    )
    (line,) = caplog.records
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    background.on_lost(loop, {"message": "Task exception was never retrieved", "exception": KeyError("ours")})
    assert caplog.records[-1].levelname == "ERROR"
