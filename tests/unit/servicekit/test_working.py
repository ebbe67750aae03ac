"""Workers and jobs, as processes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servicekit import working
from servicekit.settings import Cache, Called, Database, DatabaseSettings, Service, ServiceSettings, Settings

from infra.work import ALIVE, HEARTBEAT

WORK = """
import asyncio
from servicekit import working
from servicekit.settings import Service, ServiceSettings

async def forever():
    try:
        await asyncio.Event().wait()
    finally:
        print("put away", flush=True)

async def failing():
    raise ValueError("no mail today")

async def ending():
    pass

working.{run}(ServiceSettings(service=Service(name="orders-mailer")), {work})
"""


def start(run: str, work: str, folder: Path) -> subprocess.Popen[str]:
    """Start a worker or job with its heartbeat in a folder."""
    command = [sys.executable, "-c", WORK.format(run=run, work=work)]
    return subprocess.Popen(command, env=os.environ | {"TMPDIR": str(folder)}, stdout=-1, stderr=-2, text=True)


def alive(folder: Path) -> bool:
    """Return whether the pod's probes would pass."""
    command = [word.replace(HEARTBEAT, str(folder / "heartbeat")) for word in ALIVE["exec"]["command"]]
    return subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("ended", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_lives_until_it_is_ended_and_puts_away_what_it_has(tmp_path: Path, ended: signal.Signals) -> None:
    assert not alive(tmp_path)
    process = start("run_worker", "forever", tmp_path)
    end = time.monotonic() + 60
    while not alive(tmp_path):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(ended)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "put away\n")
    before = time.time() - 31
    os.utime(tmp_path / "heartbeat", (before, before))
    assert not alive(tmp_path)


@pytest.mark.parametrize(
    ("run", "work", "code", "said"),
    [
        ("run_worker", "failing", 1, "The worker failed"),
        ("run_worker", "ending", 1, "The worker has ended by itself"),
        ("run_job", "failing", 1, "The job failed"),
        ("run_job", "ending", 0, "The job is done"),
    ],
)
def test_how_it_ended_is_in_its_exit_code_and_in_one_line(
    tmp_path: Path, run: str, work: str, code: int, said: str
) -> None:
    process = start(run, work, tmp_path)
    written, _ = process.communicate(timeout=60)
    assert process.returncode == code
    line = json.loads(written)
    assert (line["message"], line["service"]) == (said, "orders-mailer")
    assert ("no mail today" in line.get("exception", "")) == (work == "failing")


class Calls(Settings):
    """Called services."""

    users: Called = Called(url="http://user-service:8080")
    mail: Called = Called(url="https://mail.example.com")


class Everything(DatabaseSettings):
    """Settings of a service that needs everything."""

    database: Database = Database(host="postgres", port=5433)
    cache: Cache = Cache(host="redis")
    calls: Calls = Calls()


def test_the_peers_of_a_job_are_all_that_its_settings_name() -> None:
    wanted = {("postgres", 5433), ("redis", 6379), ("user-service", 8080), ("mail.example.com", 443)}
    assert working.peers_in(Everything(service=Service(name="orders"))) == wanted
    assert working.peers_in(ServiceSettings(service=Service(name="orders"))) == set()


@pytest.mark.parametrize("comes", [True, False])
def test_a_job_begins_once_its_peers_accept_connections_or_after_a_while(
    monkeypatch: pytest.MonkeyPatch, *, comes: bool
) -> None:
    monkeypatch.setattr(working, "AGAIN_S", 0.02)
    monkeypatch.setattr(working, "REACH_S", 30.0 if comes else 0.3)
    began: list[float] = []

    async def work() -> None:
        began.append(time.monotonic())

    async def run() -> float:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port: int = server.getsockname()[1]
        settings = DatabaseSettings(service=Service(name="orders"), database=Database(host="127.0.0.1", port=port))
        job = asyncio.create_task(working._job(settings, work))  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0.2)
        assert began == []
        opened = time.monotonic()
        if comes:
            async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port):
                await job
        else:
            await job
        return opened

    opened = asyncio.run(run())
    assert began[0] > opened
