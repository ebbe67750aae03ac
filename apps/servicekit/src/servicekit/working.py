"""Start of processes without HTTP: workers, which run until they are stopped, and jobs, which run once."""

import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from servicekit import background, logs
from servicekit.settings import Cache, Called, Database, ServiceSettings

log = logging.getLogger(__name__)
HEARTBEAT = Path(tempfile.gettempdir()) / "heartbeat"
"""File that a worker writes while its event loop runs; the pod's probes check its age."""
BEAT_EVERY_S = 5.0
DRAIN_S = 25.0
"""Seconds for a worker's work to end; less than the pod's grace period."""
REACH_S, CONNECT_S, AGAIN_S = 60.0, 2.0, 0.5
"""Seconds for a job's peers to accept a connection, for one attempt, and between two: network policies let a new pod connect only after a few
seconds."""
Work = Callable[[], Coroutine[Any, Any, None]]


def run_worker(settings: ServiceSettings, work: Work, heartbeat: Path = HEARTBEAT) -> None:
    """Run a worker until SIGTERM or SIGINT, which cancel it; exit with code 1 if it ends by itself or fails.

    Args:
        settings: settings of the service.
        work: function that returns a coroutine, which runs until it is cancelled.
        heartbeat: file that shows the pod's probes that the worker is alive.
    """
    logs.configure(settings.service.name)
    sys.exit(asyncio.run(_worker(work, heartbeat)))


async def _worker(work: Work, heartbeat: Path) -> int:
    """Return the exit code of a worker."""
    working = background.once("work", work())
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    ending = background.once("end", asked.wait())
    beating = background.start("heartbeat", lambda: beat(heartbeat))
    await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
    await background.end(beating)
    if working.done():
        ending.cancel()
        said = "The worker failed" if working.exception() else "The worker has ended by itself"
        log.error(said, exc_info=working.exception())
        return 1
    working.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.wait((working,), timeout=DRAIN_S)
    return 0


async def beat(file: Path) -> None:
    """Write a heartbeat file periodically."""
    while True:
        write(file)
        await asyncio.sleep(BEAT_EVERY_S)


def write(file: Path) -> None:
    """Write the time into a file."""
    file.write_text(f"{time.time():.0f}")


def run_job(settings: ServiceSettings, work: Work) -> None:
    """Run a job once its peers can be reached; if it fails, log that, and exit with code 1.

    Args:
        settings: settings of the service; its peers are the database, the cache and the called services that they name.
        work: function that returns the coroutine to run once.
    """
    logs.configure(settings.service.name)
    try:
        asyncio.run(_job(settings, work))
    except Exception:
        log.exception("The job failed")
        sys.exit(1)
    log.info("The job is done")


async def _job(settings: ServiceSettings, work: Work) -> None:
    """Do a job's work once its peers accept connections, or after REACH_S: the work itself then says what is wrong."""
    with suppress(TimeoutError):
        async with asyncio.timeout(REACH_S):
            await asyncio.gather(*(reached(*peer) for peer in peers_in(settings)))
    await work()


def peers_in(settings: BaseModel) -> set[tuple[str, int]]:
    """Return the host and port of each server that a service's settings name."""
    found: set[tuple[str, int]] = set()
    for name in type(settings).model_fields:
        value: object = getattr(settings, name)
        if isinstance(value, (Database, Cache)):
            found |= {(value.host, value.port)} if value.host else set()
        elif isinstance(value, Called):
            url = urlsplit(value.url)
            found.add((str(url.hostname), url.port or (443 if url.scheme == "https" else 80)))
        elif isinstance(value, BaseModel):
            found |= peers_in(value)
    return found


async def reached(host: str, port: int) -> None:
    """Return once a server accepts a connection."""
    while True:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return
        await asyncio.sleep(AGAIN_S)
