"""Which faults each sort of subject takes, a converter that hangs up, and the timing of a serial bus."""

import asyncio
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dormpower.clock import ManualClock
from dormpower.domain.site import Line, Transport
from simulators.__main__ import make_parser
from simulators.campus import BROKER, Campus, build_campus, single_module_line
from simulators.faults import FaultKind, UnableToInjectFaultError
from simulators.frames import Request, RtuFraming, with_crc
from simulators.lines import SimulatedLine, Wire

ROOT = Path(__file__).parents[2]
ASK = with_crc(bytes.fromhex("010300000001"))
ANSWER = with_crc(bytes.fromhex("0103024450"))


class IdleBroker:
    """A broker that only counts how often it was stopped."""

    def __init__(self) -> None:
        self.stops = 0

    async def start(self) -> int:
        return 0

    async def stop(self) -> None:
        self.stops += 1


@pytest.fixture
def mixed(tools: Any, manual_clock: ManualClock) -> Campus:
    return build_campus(tools.small_site(mqtt=1), clock=manual_clock)


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("m-north-01-501", "wrong_unit"),
        ("m-north-01-501", "crc_error"),
        ("m-north-01-501", "half_frame"),
        ("m-north-01-501", "hang_up"),
        ("m-south-03-401", "broker_gone"),
        ("m-south-03-401", "clock_unset"),
        ("m-main", "stuck_relay"),  # a meter without a relay
        ("m-main", "switched_locally"),
        ("m-main", "flag"),
        (BROKER, "dead"),
        ("a", "dead"),
    ],
)
async def test_a_fault_that_would_do_nothing_is_refused(mixed: Campus, subject: str, kind: str) -> None:
    broker = mixed.broker = IdleBroker()
    with pytest.raises(UnableToInjectFaultError, match=f"{subject}: .*{kind}"):
        await mixed.fault(subject, kind, relay="open", flag="cover_open")
    assert broker.stops == 0
    assert all(not module.faults for module in mixed.modules.values())


async def test_each_sort_of_subject_takes_its_own_faults(mixed: Campus) -> None:
    broker = mixed.broker = IdleBroker()
    for subject, kind in (
        ("m-north-01-501", "clock_unset"),
        ("m-north-01-501", "stuck_relay"),
        ("m-south-03-401", "hang_up"),
        ("m-main", "crc_error"),
        (BROKER, "broker_gone"),
    ):
        await mixed.fault(subject, kind)
    assert broker.stops == 1
    assert set(mixed.modules["m-north-01-501"].faults) == {FaultKind.CLOCK_UNSET, FaultKind.STUCK_RELAY}


@pytest.mark.parametrize("rtu", [False, True])
async def test_a_converter_that_hangs_up_drops_the_connection_and_takes_the_next(
    connect: Any, rtu: bool
) -> None:
    line, module = single_module_line("dormpower-dual", rtu=rtu)
    port = await line.start()
    client = await connect(port)
    module.fault(FaultKind.HANG_UP, {"count": 1}, now_ms=0)
    request = ASK if rtu else bytes.fromhex("000100000006") + ASK[:-2]
    answer = ANSWER if rtu else bytes.fromhex("000100000005") + ANSWER[:-2]
    await client.send(request)
    assert await asyncio.wait_for(client.reader.read(1), 5) == b""  # closed
    again = await connect(port)
    await again.send(request)
    assert await again.exactly(len(answer)) == answer
    await line.stop()


# --- the timing of a serial bus -------------------------------------------------------------------------------


class Kept:
    """Where a line's answers go, with the time of each."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def write(self, data: bytes) -> None:
        self.at_s.append(asyncio.get_running_loop().time())

    def abort(self) -> None:
        raise AssertionError("hung up")


def read_of(count: int, unit: int = 1) -> Request:
    pdu = struct.pack(">BHH", 3, 0x10, count)
    return next(iter(RtuFraming().feed(with_crc(bytes((unit,)) + pdu))))


async def answers_at_s(line: SimulatedLine, *counts: int) -> list[float]:
    kept, loop = Kept(), asyncio.get_running_loop()
    began_s = loop.time()
    for count in counts:
        line.accept(read_of(count), kept)
    await asyncio.sleep(60)
    return [at_s - began_s for at_s in kept.at_s]


@pytest.mark.looptime
async def test_requests_on_a_wire_take_its_time_one_after_the_other() -> None:
    wire = Wire(baud=9600, answer_time_s=0.02)
    line, _ = single_module_line("dormpower-dual", wire=wire)
    one_s, two_s = wire.transfer_s(8, 5 + 2 * 12), wire.transfer_s(8, 5 + 2 * 1)
    assert await answers_at_s(line, 12, 1) == pytest.approx([one_s, one_s + two_s], abs=1e-3)
    assert one_s > 0.06


@pytest.mark.looptime
async def test_without_a_wire_the_answer_goes_out_at_once() -> None:
    line, _ = single_module_line("dormpower-dual")
    assert await answers_at_s(line, 12, 1) == [0, 0]


@pytest.mark.parametrize(("parity", "stop_bits", "bits"), [("N", 1, 10), ("E", 1, 11), ("N", 2, 11)])
def test_a_lines_characters_have_the_bits_that_its_site_says(
    tools: Any, manual_clock: ManualClock, parity: str, stop_bits: int, bits: int
) -> None:
    described = Line(
        line_id="s", transport=Transport.SERIAL, device="/dev/null", parity=parity, stop_bits=stop_bits
    )
    site = replace(tools.small_site(), rooms=(), modules=(), feeders=(), lines=(described,))
    campus = build_campus(site, clock=manual_clock, wire=Wire(baud=19200))
    assert campus.lines["s"].wire == Wire(baud=19200, bits_per_byte=bits)


def test_every_option_of_the_simulators_is_documented() -> None:
    documented = (ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")
    (row,) = [line for line in documented.splitlines() if line.startswith("| `dormpower simulate ")]
    options = {name for action in make_parser()._actions for name in action.option_strings}
    assert [name for name in sorted(options - {"-h", "--help", "--config"}) if f"[{name}" not in row] == []
