"""What the gateway's tests start from.

`world`, `quick_world`: control with fake relays. `metered`, `uncommissioned`: one circuit behind a real intake,
with the readings and the policies faked. All on real books.
"""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dormpower.books import proof
from dormpower.books.database import Books
from dormpower.books.sites import sync_site
from dormpower.clock import ManualClock
from dormpower.domain.meter_state import ChannelLimits
from dormpower.domain.samples import ChannelSample, ModuleSample
from dormpower.domain.site import Circuit, CircuitKind, Module, Room, Site
from gateway.intake import Intake
from gateway.point_memory import PointConfig
from tests.gateway.control_world import World

ZONE = ZoneInfo("Asia/Shanghai")
START = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)  # 08:00 on campus
CIRCUIT = "r1-ac"


class _NoReadings:
    """A readings store that keeps nothing: these tests are about the books."""

    def append(self, readings: Sequence[object]) -> None:
        pass


class MeteredCircuit:
    """A circuit on module `m1`, channel 1; `restart` gives a new intake on the same books."""

    circuit_id = CIRCUIT
    start = START

    def __init__(self, books: Books, writer: ThreadPoolExecutor) -> None:
        self.books = books
        self.clock = ManualClock(current=START)
        self.limits = ChannelLimits(rated_current_a=32, resolution_wh=10, modulus_wh=1_000_000_000)
        self._writer = writer
        self.restart()

    def restart(self, *, module_id: str = "m1") -> None:
        """Start again, as a gateway does: with the books brought to the site, here on this module."""
        self.sync(module_id=module_id)
        self.intake = Intake(
            books=self.books,
            readings=_NoReadings(),
            clock=self.clock,
            points={(module_id, 1): PointConfig(circuit_id=CIRCUIT, limits=self.limits)},
            poll_cycle_s=30,
            zone=ZONE,
            decide=lambda *_: lambda: None,
            writer=self._writer,
            batch_s=0.001,
        )

    def sync(self, *, module_id: str) -> None:
        """Bring the books to a site where this module serves the circuit."""
        circuit = Circuit(circuit_id=CIRCUIT, room_id="r1", kind=CircuitKind.AC, module_id=module_id, channel=1)
        room = Room(
            room_id="r1",
            campus="south",
            building="01",
            floor="1",
            name="1",
            rated_current_a=32,
            feeder=None,
            circuits=(circuit,),
        )
        site = Site(
            site_id="s",
            name="S",
            zone=ZONE,
            rooms=(room,),
            modules=tuple(Module(module_id=name, profile="dormpower-dual") for name in ("m1", "m2")),
            lines=(),
        )
        now = self.clock.now()
        sync_site(books=self.books, site=site, now=now, today=now.astimezone(ZONE).date())

    def at(self, minute: float) -> datetime:
        """Return the instant so many minutes after the start."""
        return START + timedelta(minutes=minute)

    def take(self, *samples: tuple[float, int], module_id: str = "m1") -> None:
        """Take (minute, register) samples in, one after the other in one batch."""
        for minute, register_wh in samples:
            self.clock.current = max(self.clock.current, self.at(minute))
            channel = ChannelSample(channel=1, register_wh=register_wh)
            self.intake.submit(ModuleSample(module_id=module_id, at=self.at(minute), channels=[channel]))
        asyncio.run(self.intake.flush())

    def all(self, table: sa.Table) -> Sequence[Any]:
        """Return the rows of a table, by their key."""
        with self.books.read() as connection:
            return connection.execute(sa.select(table).order_by(*table.primary_key)).all()

    def only(self, table: sa.Table) -> Any:
        """Return the one row of a table."""
        (row,) = self.all(table)
        return row

    def faults(self) -> list[str]:
        """Return what the proof of the books finds."""
        return [str(one) for one in proof.prove(self.books)]


@pytest.fixture
def metered(books: Books) -> Iterator[MeteredCircuit]:
    """The circuit with 5,000,000 Wh on its register, believed at the start."""
    with ThreadPoolExecutor(1) as writer:
        circuit = MeteredCircuit(books, writer)
        circuit.take((-1.0, 5_000_000), (-0.5, 5_000_000), (0, 5_000_000))
        yield circuit


@pytest.fixture
def uncommissioned(books: Books) -> Iterator[MeteredCircuit]:
    """The circuit before anything was read from it."""
    with ThreadPoolExecutor(1) as writer:
        yield MeteredCircuit(books, writer)


@pytest.fixture
def world(books: Books) -> Iterator[World]:
    """A site with one circuit and control at work on it."""
    world = World(books)
    yield world
    world.close()


@pytest.fixture
def quick_world(sqlite_books: Books) -> Iterator[World]:
    """The same on SQLite alone, for what has nothing to do with the database."""
    world = World(sqlite_books)
    yield world
    world.close()
