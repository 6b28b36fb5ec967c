"""An RTU answer that comes when nobody expects it any more, on lines in virtual time."""

import asyncio
import struct
from collections.abc import Callable

import pytest

from dormpower.domain.site import Framer, Line, Transport
from gateway.drivers.modbus.frames import Request, RtuCutter, read_request
from gateway.drivers.modbus.line import ModbusLine
from gateway.ports import NoAnswerError

TIMEOUT_S = 0.5
pytestmark = pytest.mark.looptime

SERIAL = Line(line_id="s", transport=Transport.SERIAL, device="/dev/null", baud=115_200, timeout_ms=500)
CONVERTER = Line(
    line_id="c", transport=Transport.TCP, host="127.0.0.1", port=1, framer=Framer.RTU, timeout_ms=500
)
both_lines = pytest.mark.parametrize("described", [SERIAL, CONVERTER], ids=["serial", "converter"])


class Bus:
    """Modules that answer each read of one register with its address, late where a test says so.

    It is also the line's connection; like some converters it passes late bytes on to whoever is connected then.
    """

    def __init__(self) -> None:
        self.delays_s: dict[tuple[int, int], float] = {}
        self.asked: list[tuple[float, int, int]] = []
        self._receive: Callable[[bytes], None] = lambda data: None

    async def connect(self, _line: Line, *, receive: Callable[[bytes], None], **_: object) -> "Bus":
        self._receive = receive
        return self

    def write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        unit, function, address = struct.unpack_from(">BBH", data)
        self.asked.append((loop.time(), unit, address))
        delay_s = self.delays_s.pop((unit, address), 0.01)
        answer = Request(unit, struct.pack(">BBH", function, 2, address), 0)
        loop.call_later(delay_s, lambda: self._receive(RtuCutter().frame(answer, 0)))

    def close(self) -> None:
        """Keep the bus as it is: what is late is still on its way."""


def on(bus: Bus, described: Line) -> ModbusLine:
    return ModbusLine(described, connector=bus.connect, jitter=lambda: 0.0)


async def value_of(line: ModbusLine, address: int, *, unit: int = 1, function: int = 3) -> int:
    answer = await line.execute(read_request(unit=unit, function=function, address=address, count=1))
    return int.from_bytes(answer[2:4], "big")


@both_lines
@pytest.mark.parametrize("late_s", [0.6, 0.9, 1.4])
async def test_a_very_late_answer_is_not_taken_for_the_units_next_one(described: Line, late_s: float) -> None:
    bus = Bus()
    line = on(bus, described)
    bus.delays_s[1, 0x18] = late_s
    with pytest.raises(NoAnswerError):
        await value_of(line, 0x18)
    assert await value_of(line, 0x38) == 0x38
    assert line.counters.strays == 1
    line.close()


@both_lines
async def test_other_units_and_functions_do_not_wait_for_an_answer_that_is_owed(described: Line) -> None:
    bus = Bus()
    line = on(bus, described)
    bus.delays_s[1, 0x18] = 3600
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(NoAnswerError):
        await value_of(line, 0x18)
    assert await value_of(line, 0x19, unit=2) == 0x19
    assert await value_of(line, 0x1A, function=4) == 0x1A
    assert asyncio.get_running_loop().time() - began_s < 2 * TIMEOUT_S
    line.close()


@both_lines
async def test_an_answer_that_never_comes_delays_its_unit_once_and_no_good_answer_is_dropped(
    described: Line,
) -> None:
    bus = Bus()
    line = on(bus, described)
    bus.delays_s[1, 0x18] = 3600
    with pytest.raises(NoAnswerError):
        await value_of(line, 0x18)
    assert [await value_of(line, address) for address in (0x18, 0x38, 0x18)] == [0x18, 0x38, 0x18]
    first_s, *others_s = [at_s for at_s, _, _ in bus.asked]
    assert others_s[0] - first_s == pytest.approx(3 * TIMEOUT_S, abs=0.05)
    assert others_s[2] - others_s[0] < 0.1
    assert line.counters.strays == 0
    line.close()


@both_lines
async def test_a_late_answer_that_came_is_not_waited_for_any_more(described: Line) -> None:
    bus = Bus()
    line = on(bus, described)
    bus.delays_s[1, 0x18] = 0.6
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(NoAnswerError):
        await value_of(line, 0x18)
    assert await value_of(line, 0x38) == 0x38
    assert asyncio.get_running_loop().time() - began_s < 2 * TIMEOUT_S
    line.close()
