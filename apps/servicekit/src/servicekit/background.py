"""Tasks that run beside the requests."""

import asyncio


async def end(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks, those of them that were started, and return when they have ended, however they did."""
    running = [task for task in tasks if task]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
