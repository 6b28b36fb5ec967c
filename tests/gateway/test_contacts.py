"""Modules and lines that answer or don't, on record: without a circuit too, and while the books are away."""

import asyncio
from collections.abc import Awaitable, Callable

import sqlalchemy as sa

from dormpower.books.database import Books
from dormpower.books.tables import modules, silences
from gateway.contacts import NOTES_AT_ONCE, Contacts
from tests.gateway.control_world import ZONE, World

METER = "m-main"
OTHERS = [f"m-other-{number:02d}" for number in range(2 * NOTES_AT_ONCE + 5)]


class Site:
    """A floor's modules and its feeder's meter on one line."""

    def __init__(self, books: Books) -> None:
        self.world = World(books)
        self.books_away = False
        self.transactions = 0
        with books.write() as connection:
            connection.execute(
                sa.insert(modules), [{"module_id": one, "profile": "x"} for one in (METER, *OTHERS)]
            )
        self.contacts = Contacts(
            books=books,
            clock=self.world.clock,
            circuits=self.world.circuits,
            run=self.run,
            kick=lambda _: None,
            zone=ZONE,
            line_of={METER: "line-a", "m-0": "line-a"} | dict.fromkeys(OTHERS, "line-b"),
        )

    def run(self, function: Callable[[], None]) -> Awaitable[None]:
        async def go() -> None:
            if self.books_away:
                raise ConnectionError("the books are away")
            self.transactions += 1
            function()

        return go()

    def note(self, module_id: str, *, online: bool) -> None:
        async def go() -> None:
            self.contacts.note_module(module_id, online=online, detail="no answer")
            await self.contacts.settle()

        asyncio.run(go())

    def note_line(self, *, online: bool) -> None:
        async def go() -> None:
            self.contacts.note_line("line-a", online=online, detail="refused")
            await self.contacts.settle()

        asyncio.run(go())

    def sweep(self) -> None:
        asyncio.run(self.contacts.sweep())

    def is_online(self, module_id: str) -> bool:
        with self.world.books.read() as connection:
            return bool(connection.scalar(sa.select(modules.c.online).where(modules.c.module_id == module_id)))


def test_a_feeder_s_meter_that_falls_silent_is_told_of_though_it_serves_no_circuit(sqlite_books: Books) -> None:
    site = Site(sqlite_books)
    site.note(METER, online=True)
    assert site.is_online(METER)
    site.note(METER, online=False)
    assert not site.is_online(METER)
    assert site.world.active_alarms() == ["module_offline"]
    site.note(METER, online=True)
    assert site.world.active_alarms() == []
    site.world.close()


def test_with_its_line_a_feeder_s_meter_is_no_alarm_of_its_own(sqlite_books: Books) -> None:
    site = Site(sqlite_books)
    site.note_line(online=False)
    site.note(METER, online=False)
    assert site.world.active_alarms() == ["line_offline"]
    site.world.close()


def test_what_the_books_did_not_take_is_written_by_the_sweep(sqlite_books: Books) -> None:
    site = Site(sqlite_books)
    site.note("m-0", online=False)
    site.note_line(online=False)
    assert site.world.active_alarms() == ["line_offline"]
    site.books_away = True
    site.note_line(online=True)
    site.note("m-0", online=True)
    site.books_away = False
    assert site.world.active_alarms() == ["line_offline"]
    site.sweep()
    assert site.world.active_alarms() == []
    assert site.is_online("m-0")
    site.books_away = True
    site.note_line(online=False)
    site.sweep()
    site.books_away = False
    site.sweep()
    assert site.world.active_alarms() == ["line_offline"]
    site.world.close()


def test_what_is_noted_together_is_written_together_and_as_it_is_by_then(sqlite_books: Books) -> None:
    site = Site(sqlite_books)

    async def come_up() -> None:
        for module_id in OTHERS:
            site.contacts.note_module(module_id, online=False, detail="no answer")
            site.contacts.note_module(module_id, online=True, detail="")
        await site.contacts.settle()

    asyncio.run(come_up())
    assert all(site.is_online(module_id) for module_id in OTHERS)
    assert site.transactions == 1
    assert site.world.active_alarms() == []
    site.world.close()


def test_who_falls_silent_is_told_of_a_few_at_a_time_and_who_answers_goes_ahead(sqlite_books: Books) -> None:
    site = Site(sqlite_books)
    alarms_seen: list[int] = []
    written = site.contacts._run

    async def watched(function: Callable[[], None]) -> None:
        await written(function)
        alarms_seen.append(len(site.world.active_alarms()))

    site.contacts._run = watched

    async def fall_silent() -> None:
        for module_id in OTHERS:
            site.contacts.note_module(module_id, online=False, detail="no answer")
        site.contacts.note_module(METER, online=True, detail="")
        await site.contacts.settle()

    async def answer() -> None:
        for module_id in OTHERS:
            site.contacts.note_module(module_id, online=True, detail="")
        await site.contacts.settle()

    asyncio.run(fall_silent())
    assert alarms_seen == [0, NOTES_AT_ONCE, 2 * NOTES_AT_ONCE, len(OTHERS)]
    assert not any(site.is_online(module_id) for module_id in OTHERS)
    assert site.is_online(METER)
    asyncio.run(answer())
    assert alarms_seen[4:] == [0]
    assert all(site.is_online(module_id) for module_id in OTHERS)
    with site.world.books.read() as connection:
        open_ones = sa.select(sa.func.count()).select_from(silences).where(silences.c.to_at.is_(None))
        assert connection.scalar(open_ones) == 0
    site.world.close()


def test_a_whole_batch_that_the_books_did_not_take_is_written_by_the_sweep(sqlite_books: Books) -> None:
    site = Site(sqlite_books)
    site.books_away = True

    async def come_up() -> None:
        for module_id in OTHERS:
            site.contacts.note_module(module_id, online=True, detail="")
        await site.contacts.settle()

    asyncio.run(come_up())
    assert not any(site.is_online(module_id) for module_id in OTHERS)
    site.books_away = False
    site.sweep()
    assert all(site.is_online(module_id) for module_id in OTHERS)
    site.world.close()


def test_a_line_that_comes_up_while_its_fall_is_written_holds_up_no_other_note(sqlite_books: Books) -> None:
    site = Site(sqlite_books)
    came_up = False

    def come_up(_connection, _cursor, statement: str, *_: object) -> None:
        nonlocal came_up
        if "INTO silences" in statement and not came_up:
            came_up = True
            site.contacts.note_line("line-a", online=True, detail="")

    async def fall() -> None:
        site.contacts.note_line("line-a", online=False, detail="refused")
        site.contacts.note_module(OTHERS[0], online=True, detail="")
        await site.contacts.settle()

    sa.event.listen(sqlite_books.engine, "before_cursor_execute", come_up)
    asyncio.run(fall())
    assert came_up
    assert site.is_online(OTHERS[0])
    assert site.world.active_alarms() == []
    site.world.close()
