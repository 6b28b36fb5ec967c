"""A policy of shedding that is taken over: while a decision is on its way to the writer, and what it ends."""

import asyncio
import threading
from dataclasses import replace

from dormpower.books import feeders
from dormpower.books.database import Books
from dormpower.domain.feeder_facts import ShedAs, ShedPlace
from dormpower.domain.holds import Enforcement
from dormpower.domain.samples import Relay
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


def switch_to(floor: Floor, mode: Enforcement) -> None:
    policy = replace(floor.policy, mode=mode)
    with floor.books.write() as connection:
        floor.feeders.take_over(connection, policy, policy, now=floor.clock.now())
    floor.feeders.adopt(policy, policy)
    floor.decide()


def shown(floor: Floor) -> list[tuple[str, int, tuple[str, ...]]]:
    with floor.books.read() as connection:
        return [(one.mode, one.circuits_off, one.alarms) for one in feeders.feeders_now(connection)]


def test_alarms_of_feeders_end_where_nothing_is_decided_any_more_and_are_raised_anew(
    sqlite_books: Books,
) -> None:
    floor = Floor(sqlite_books, limit_w=8_000)
    floor.cycle(2)
    assert floor.active_alarms() == [("feeder_overloaded", "floor")]
    switch_to(floor, Enforcement.OFF)
    assert floor.active_alarms() == []
    assert shown(floor) == [("off", 0, ())]
    floor.switch.relays = dict.fromkeys(floor.switch.relays, Relay.CLOSED)
    switch_to(floor, Enforcement.SHADOW)
    floor.cycle(1)
    assert floor.active_alarms() == [("feeder_overloaded", "floor")]


def test_alarms_of_a_feeder_end_with_it_and_with_its_rule_at_the_next_start(sqlite_books: Books) -> None:
    floor = Floor(sqlite_books, limit_w=8_000)
    floor.cycle(2)
    floor.policy = replace(floor.policy, mode=Enforcement.OFF)
    floor.start()
    assert floor.active_alarms() == []
    floor.policy = replace(floor.policy, mode=Enforcement.ENFORCE)
    floor.start()
    floor.switch.relays = dict.fromkeys(floor.switch.relays, Relay.CLOSED)
    floor.cycle(1)
    assert floor.active_alarms() == [("feeder_overloaded", "floor")]
    floor.site = replace(floor.site, feeders=())
    floor.start()
    assert floor.active_alarms() == []
