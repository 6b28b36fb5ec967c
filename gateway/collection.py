"""When this process looks for garbage in cycles.

A batch of samples makes tens of thousands of objects, none of them in a cycle. With Python's usual threshold of
700 the collector would walk the memory of the whole campus several times a batch: measured, that cost more than
judging and writing the batch (`benchmarks/README.md`). What is in no cycle is freed at once as ever.

What libraries leave behind in cycles (a statement that SQLAlchemy built holds itself) is collected by the
clock: a pass stops everything, and left to the threshold the one that came every few minutes took 230 ms, while
somebody who has just paid waits for the light.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

COLLECT_AFTER_OBJECTS = 200_000
GENERATIONS = (20, 20)
COLLECT_EVERY_S = 5.0
MIDDLE_EVERY = 120  # passes: what lives for minutes is much to walk, and little of it is garbage
ALL_EVERY = 720


def collect_seldom() -> None:
    """Set the collector for a process that makes many short-lived objects; call once the site is loaded."""
    leave_what_is_loaded()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, *GENERATIONS)


def leave_what_is_loaded() -> None:
    """Let no pass walk what there is now: it stays as long as the process."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def collecting_by_the_clock() -> AsyncIterator[None]:
    """Collect young garbage every few seconds, older garbage more seldom, while the body runs."""
    collecting = asyncio.create_task(_collect(), name="collection")
    try:
        yield
    finally:
        collecting.cancel()
        await asyncio.wait([collecting])


async def _collect() -> None:
    passes = 0
    while True:
        await asyncio.sleep(COLLECT_EVERY_S)
        passes += 1
        gc.collect(generation_of(passes))


def generation_of(passes: int) -> int:
    """Return how far a pass goes: 0 for what is young, 2 for everything that is not left alone."""
    if passes % ALL_EVERY == 0:
        return 2
    return 1 if passes % MIDDLE_EVERY == 0 else 0
