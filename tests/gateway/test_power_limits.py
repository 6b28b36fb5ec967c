"""The module's own power limit, kept in step with the policy: a register that is a fake, on real books."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, policies
from dormpower.books.database import Books
from dormpower.books.tables import audit_log, circuits, rooms
from dormpower.clock import ManualClock
from dormpower.domain.calendars import Hours
from dormpower.domain.curfew import CurfewPolicy, NightLimit
from dormpower.domain.holds import Enforcement
from dormpower.domain.protection import OverloadPolicy
from dormpower.domain.scopes import Where
from gateway.control_memory import ControlledCircuit
from gateway.night_limits import NightLimits
from gateway.ports import NoAnswerError, RefusedError
from gateway.power_limits import PowerLimits

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
CIRCUIT = ControlledCircuit(
    circuit_id="r-0-ac", room_id="r-0", building="01", module_id="m-0", channel=1, kind="ac"
)
POLICY = OverloadPolicy(
    zone=ZONE, limit_w=2000, night_limit_w=300, night=("23:00-06:00",), mode=Enforcement.ENFORCE
)


class Register:
    """A limit register that follows, refuses, or says nothing."""

    has_power_limit = True

    def __init__(self) -> None:
        self.limit_w = 0
        self.writes: list[int] = []
        self.fault: Exception | None = None
        self.deaf = False

    def limit_for(self, limit_w: int) -> int:
        return min(limit_w, 65_535)

    async def read_power_limit(self, channel: int) -> int:
        assert channel == 1
        if isinstance(self.fault, NoAnswerError):
            raise self.fault
        return self.limit_w

    async def write_power_limit(self, channel: int, limit_w: int) -> int:
        self.writes.append(limit_w)
        if self.fault is not None:
            raise self.fault
        if not self.deaf:
            self.limit_w = limit_w
        return self.limit_w


class Site:
    def __init__(self, books: Books) -> None:
        self.books = books
        self.clock = ManualClock(NOON)
        self.register = Register()
        with books.write() as connection:
            place = {"campus": "south", "building": "01", "floor": "1", "name": "x", "rated_current_a": 40}
            connection.execute(sa.insert(rooms).values(room_id="r-0", **place))
            connection.execute(sa.insert(circuits).values(circuit_id="r-0-ac", room_id="r-0", kind="ac"))
        self.limits = self.start(POLICY)

    def start(self, policy: OverloadPolicy, night: NightLimits | None = None) -> PowerLimits:
        def run_now(function: Callable[[], Any]) -> Awaitable[Any]:
            return self.run(function)

        self.limits = PowerLimits(
            books=self.books,
            clock=self.clock,
            run=run_now,
            modules={"m-0": self.register},
            circuits={"r-0-ac": CIRCUIT},
            overload={"r-0-ac": policy},
            night=night,
        )
        asyncio.run(self.limits.load())
        return self.limits

    async def run(self, function: Callable[[], Any]) -> Any:
        return function()

    def look(self) -> bool:
        return asyncio.run(self.limits.look(CIRCUIT))

    def audited(self) -> list[dict[str, Any]]:
        with self.books.read() as connection:
            return list(
                connection.scalars(
                    sa.select(audit_log.c.detail).where(audit_log.c.action == "power_limit.written")
                )
            )

    def active(self) -> list[str]:
        with self.books.read() as connection:
            return [alarm.kind for alarm in alarms.active(connection)]


@pytest.fixture
def site(sqlite_books: Books) -> Site:
    return Site(sqlite_books)


def test_a_limit_is_written_once_when_it_is_another_and_again_at_the_nights_boundary(site: Site) -> None:
    assert site.look()
    assert not site.look()  # nothing goes over the line
    assert site.register.writes == [2000]
    assert site.audited() == [{"before_w": 0, "wanted_w": 2000, "read_back_w": 2000}]
    site.clock.advance(11 * 3600)
    site.look()
    assert site.register.writes == [2000, 300]
    site.register.limit_w = 900  # somebody else wrote; found when it is read again
    site.clock.advance(3600)
    site.look()
    assert site.register.writes == [2000, 300, 300]


@pytest.mark.parametrize(
    ("overload", "night", "by_day_and_night"),
    [
        (Enforcement.ENFORCE, Enforcement.ENFORCE, [2000, 600]),
        (Enforcement.ENFORCE, Enforcement.SHADOW, [2000]),
        (Enforcement.SHADOW, Enforcement.ENFORCE, [600]),
    ],
)
def test_the_sites_night_limit_is_written_by_its_own_mode_and_taken_back_in_the_morning(
    site: Site, overload: Enforcement, night: Enforcement, by_day_and_night: list[int]
) -> None:
    limit = NightLimit(
        name="night_mode[0]", hours=Hours(from_minute=1380, to_minute=360), limit_w=600, mode=night
    )
    where = Where(campus="south", building="01", floor="1", room_id="r-0", kind="ac")
    limits = NightLimits(CurfewPolicy(zone=ZONE, night_limits=(limit,)), {"r-0-ac": where})
    site.start(OverloadPolicy(zone=ZONE, limit_w=2000, mode=overload), limits)
    site.look()
    site.clock.advance(12 * 3600)  # midnight on the campus
    site.look()
    assert site.register.writes == by_day_and_night
    site.clock.advance(12 * 3600)
    site.look()
    assert site.register.limit_w == (2000 if overload is Enforcement.ENFORCE else 0)


def test_a_limit_that_is_right_already_is_only_read(site: Site) -> None:
    site.register.limit_w = 2000
    site.look()
    assert site.register.writes == []
    assert site.audited() == []


def test_in_shadow_nothing_is_written_and_a_limit_of_ours_is_taken_back(site: Site) -> None:
    site.start(OverloadPolicy(zone=ZONE, limit_w=2000))
    assert not site.look()
    site.start(POLICY)
    site.look()
    site.start(OverloadPolicy(zone=ZONE, limit_w=2000))
    site.look()
    assert site.register.limit_w == 0
    assert not site.look()
    with site.books.read() as connection:
        assert policies.memories(connection) == {}


@pytest.mark.parametrize("how", ["deaf", "refuses"])
def test_a_module_that_does_not_keep_it_is_an_alarm_after_three_tries(site: Site, how: str) -> None:
    site.register.deaf = how == "deaf"
    site.register.fault = RefusedError("no", code=2) if how == "refuses" else None
    for _ in range(6):
        site.look()
    assert site.register.writes == [2000] * 3
    assert site.active() == ["limit_not_kept"]
    site.register.limit_w = 2000
    site.look()
    assert site.active() == []


def test_a_silent_module_is_tried_again_later(site: Site) -> None:
    site.register.fault = NoAnswerError("nothing")
    assert site.look()
    assert site.register.writes == []
    site.register.fault = None
    site.look()
    assert site.register.limit_w == 2000


class AwaitedRegister(Register):
    """A register whose writes can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.written: asyncio.Queue[int] = asyncio.Queue()

    async def write_power_limit(self, channel: int, limit_w: int) -> int:
        self.written.put_nowait(limit_w)
        return await super().write_power_limit(channel, limit_w)


def test_a_changed_policy_is_followed_at_once(site: Site) -> None:
    site.register = register = AwaitedRegister()
    limits, night = site.start(POLICY), NightLimits(CurfewPolicy(zone=ZONE), {})

    async def go() -> list[int]:
        running = asyncio.create_task(limits.run(pace_s=0))
        async with asyncio.timeout(10):  # far less than a round
            found = [await register.written.get()]
            for policy in (replace(POLICY, limit_w=1500), replace(POLICY, mode=Enforcement.OFF)):
                limits.adopt({"r-0-ac": policy}, night)
                found.append(await register.written.get())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return found

    assert asyncio.run(go()) == [2000, 1500, 0]


class LostAnswer(Register):
    """A register that follows, though the answer to the first write is lost."""

    async def write_power_limit(self, channel: int, limit_w: int) -> int:
        await super().write_power_limit(channel, limit_w)
        if len(self.writes) == 1:
            raise NoAnswerError("nothing")
        return limit_w


def test_a_write_whose_answer_was_lost_is_on_record_once_it_is_read(site: Site) -> None:
    site.register = LostAnswer()
    site.start(POLICY)
    site.look()
    site.look()
    assert site.register.writes == [2000]
    assert site.audited() == [{"before_w": 0, "wanted_w": 2000, "read_back_w": 2000}]


def test_a_limit_that_a_crash_left_unrecorded_is_taken_back_all_the_same(site: Site) -> None:
    site.register = LostAnswer()
    site.start(POLICY)
    site.look()
    site.start(POLICY)  # the end came between the write and its record
    site.look()
    site.start(replace(POLICY, mode=Enforcement.OFF))
    site.look()
    assert site.register.limit_w == 0
    with site.books.read() as connection:
        assert policies.memories(connection) == {}


def test_a_limit_that_was_never_taken_is_forgotten_when_none_is_wanted(site: Site) -> None:
    site.register.deaf = True
    site.look()
    site.start(replace(POLICY, mode=Enforcement.OFF))
    site.look()
    assert not site.look()
    assert len(site.audited()) == 1
    with site.books.read() as connection:
        assert policies.memories(connection) == {}


class Flaky(Site):
    """A site whose books are away when a write is to be recorded first."""

    def __init__(self, books: Books) -> None:
        self.away = True
        self.recorded = asyncio.Event()
        super().__init__(books)

    async def run(self, function: Callable[[], Any]) -> Any:
        if self.away and self.register.writes:
            self.away = False
            self.limits.adopt({"r-0-ac": POLICY}, NightLimits(CurfewPolicy(zone=ZONE), {}))  # a round at once
            raise ConnectionError("the books are away")
        found = function()
        if self.audited():
            self.recorded.set()
        return found


def test_books_that_are_away_for_a_moment_end_neither_the_task_nor_a_limit_s_record(
    sqlite_books: Books,
) -> None:
    site = Flaky(sqlite_books)

    async def go() -> None:
        running = asyncio.create_task(site.limits.run(pace_s=0))
        async with asyncio.timeout(10):
            await site.recorded.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(go())
    assert site.audited() == [{"before_w": 0, "wanted_w": 2000, "read_back_w": 2000}]
