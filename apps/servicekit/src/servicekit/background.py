"""Background tasks, which run in addition to the requests."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from prometheus_client import Counter

log = logging.getLogger(__name__)
RESTART_S = 1.0
"""Seconds before a failed task is started again."""
RESTARTS = Counter("background_restarts", "Tasks next to the requests that ended and were started again", ["task"])
T = TypeVar("T")
_once: set[asyncio.Task[Any]] = set()


def start(name: str, run: Callable[[], Coroutine[None, None, None]]) -> asyncio.Task[None]:
    """Run a task until it is cancelled: if it ends earlier, that is logged, and it is started again.

    Args:
        name: name of the task, for the log and the metrics.
        run: function that returns the coroutine to run.
    """
    return asyncio.create_task(_keep(name, run), name=name)


def once(name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run a task that ends by itself, for its awaiters.

    A reference is kept until then, since the event loop keeps none
    (https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task).

    Args:
        name: name of the task.
        work: coroutine to run.
    """
    task = asyncio.create_task(work, name=name)
    _once.add(task)
    task.add_done_callback(_once.discard)
    return task


def on_lost(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that no task waits for: in one line if a peer could not be reached, otherwise as asyncio does.

    Args:
        loop: event loop of the failed task.
        context: context as in `asyncio.AbstractEventLoop.call_exception_handler`.
    """
    error = context.get("exception")
    if isinstance(error, OSError | TimeoutError):
        log.warning("A peer was given up before it failed", extra={"reason": f"{type(error).__name__}: {error}"})
    else:
        loop.default_exception_handler(context)


async def _keep(name: str, run: Callable[[], Coroutine[None, None, None]]) -> None:
    task = asyncio.current_task()
    while True:
        try:
            await run()
            log.error("A task has ended; it is started again", extra={"task": name})
        except asyncio.CancelledError:
            if task and task.cancelling():
                raise
            log.exception("What a task waited for was cancelled; it is started again", extra={"task": name})
        except Exception:
            log.exception("A task has failed; it is started again", extra={"task": name})
        RESTARTS.labels(name).inc()
        await asyncio.sleep(RESTART_S)


async def end(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel those of the tasks that were started, and return when they have ended, with any outcome."""
    running = [task for task in tasks if task]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
