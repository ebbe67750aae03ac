import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from api_gateway.directory import Directory
from api_gateway.discovery import Discovery
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.proxy import Proxy
from servicekit import background
from servicekit.jwks import RemoteKeys
from servicekit.registration import Registration
from servicekit.settings import Auth, Cache, Registry
from servicekit.tokens import Verifier

from tests.proxy.conftest import own

AGENT = Registry(address="127.0.0.1:1")


async def cancelled() -> None:
    """Wait for something that is cancelled."""
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    await waiting


async def failed() -> None:
    raise RuntimeError("this task failed")


async def ended() -> None:
    """End too early."""


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
