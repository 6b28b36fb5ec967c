"""What the simulators' tests share: a small site, a campus in virtual time, a bare Modbus client."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from dormpower.clock import ManualClock
from dormpower.domain.site import Circuit, CircuitKind, Feeder, Framer, Line, Module, Room, Site, Transport
from simulators.campus import Campus, build_campus

START = datetime(2026, 7, 20, 0, 0, tzinfo=UTC)


def room(room_id: str, module_id: str, feeder: str | None = None) -> Room:
    return Room(
        room_id=room_id,
        campus="south",
        building="south-03",
        floor="4",
        name=room_id[-3:],
        rated_current_a=32,
        feeder=feeder,
        circuits=(
            Circuit(
                circuit_id=f"{room_id}-lighting",
                room_id=room_id,
                kind=CircuitKind.LIGHTING,
                module_id=module_id,
                channel=0,
            ),
            Circuit(
                circuit_id=f"{room_id}-ac",
                room_id=room_id,
                kind=CircuitKind.AC,
                module_id=module_id,
                channel=1,
            ),
        ),
    )


def small_site(*, rooms: int = 3, framer: Framer = Framer.SOCKET, mqtt: int = 0) -> Site:
    """Rooms 401… on one line, a feeder meter as unit 100, and rooms 501… on MQTT modules."""
    wired = [f"south-03-{401 + number}" for number in range(rooms)]
    radio = [f"north-01-{501 + number}" for number in range(mqtt)]
    return Site(
        site_id="test",
        name="Test",
        zone=ZoneInfo("Asia/Shanghai"),
        rooms=(
            *(room(room_id, f"m-{room_id}", "south-03") for room_id in wired),
            *(room(room_id, f"m-{room_id}") for room_id in radio),
        ),
        modules=(
            *(
                Module(module_id=f"m-{room_id}", profile="dormpower-dual", line_id="a", unit=number + 1)
                for number, room_id in enumerate(wired)
            ),
            Module(module_id="m-main", profile="eastron-sdm630", line_id="a", unit=100),
            *(Module(module_id=f"m-{room_id}", profile="dormpower-mqtt") for room_id in radio),
        ),
        lines=(Line(line_id="a", transport=Transport.TCP, host="127.0.0.1", port=0, framer=framer),),
        feeders=(
            Feeder(
                feeder_id="south-03", parent=None, limit_w=180_000, meter_module_id="m-main", meter_channel=0
            ),
        ),
    )


class BareClient:
    """Sends and reads bytes; nothing of Modbus is hidden."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), 5)

    async def silent_for(self, seconds: float) -> bool:
        try:
            data = await asyncio.wait_for(self.reader.read(1), seconds)
        except TimeoutError:
            return True
        return data == b""


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[int], Awaitable[BareClient]]]:
    """Opens bare connections to ports of the loopback, closed after the test."""
    opened: list[BareClient] = []

    async def open_one(port: int) -> BareClient:
        opened.append(BareClient(*await asyncio.open_connection("127.0.0.1", port)))
        return opened[-1]

    yield open_one
    for client in opened:
        client.writer.close()


@pytest.fixture
def manual_clock() -> ManualClock:
    return ManualClock(current=START)


@pytest.fixture
def campus(manual_clock: ManualClock) -> Campus:
    return build_campus(small_site(), seed=7, clock=manual_clock)


def read_tcp(unit: int, address: int, count: int, *, transaction: int = 1, function: int = 3) -> bytes:
    return struct.pack(">HHHBBHH", transaction, 0, 6, unit, function, address, count)


async def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait for a condition; the deadline is generous because machines are shared."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.01)


@pytest.fixture
def tools() -> type:
    """The helpers above, for tests (conftest modules can't be imported by name)."""

    class Tools:
        START = START
        small_site = staticmethod(small_site)
        read_tcp = staticmethod(read_tcp)
        until = staticmethod(until)

    return Tools
