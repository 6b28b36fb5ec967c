"""A policy of shedding that is taken over while a decision is on its way to the writer."""

import asyncio
import threading
from dataclasses import replace

from dormpower.books.database import Books
from dormpower.domain.feeder_facts import ShedAs, ShedPlace
from dormpower.domain.scopes import Scope
from tests.gateway.feeder_floor import Floor


def test_nobody_is_shed_whom_the_new_policy_exempts(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=8_000)
    exempting = replace(floor.policy, places=(ShedPlace(scope=Scope(), shed=ShedAs.NEVER),))
    begun = threading.Event()

    def take_over() -> None:
        begun.wait(10)
        floor.feeders.adopt(exempting, exempting)

    async def decide_meanwhile() -> None:
        for _ in range(3):
            floor.clock.advance(floor.policy.cycle_s)
            floor.hear()
        floor.executor.submit(take_over)
        deciding = asyncio.create_task(floor.feeders.cycle())
        await asyncio.sleep(0)  # it has looked at the loads and waits for the writer
        begun.set()
        await deciding

    asyncio.run(decide_meanwhile())
    assert floor.shed() == set()
    floor.feeders.adopt(floor.policy, floor.policy)
    floor.cycle(2)
    assert floor.shed(), "the feeder is over its limit: but for the new policy somebody had been shed"
