"""Simulated modules and lines, byte by byte, over real sockets."""

import asyncio
import shutil
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from simulators.campus import single_module_line
from simulators.faults import FaultKind
from simulators.frames import READ_HOLDING, READ_INPUT, RtuFraming, with_crc
from simulators.lines import SerialServer, SimulatedLine, Wire
from simulators.modules import make_module
from simulators.supply import UJ_PER_WH, Circuit, FixedLoad

NOW_MS = 1_800_000_000_000
Connect = Callable[[int], Awaitable[Any]]


def module_drawing(profile: str, *powers_w: float, energy_wh: int = 0) -> Any:
    circuits = tuple(
        Circuit(f"c{number}", demand_mw=round(power_w * 1000), energy_uj=energy_wh * UJ_PER_WH)
        for number, power_w in enumerate(powers_w)
    )
    FixedLoad(circuits, NOW_MS)
    return make_module(profile, module_id="m", circuits=circuits)


def registers(module: Any, function: int, address: int, count: int) -> bytes:
    answer = module.answer(struct.pack(">BHH", function, address, count), now_ms=NOW_MS)
    assert answer[:2] == bytes((function, 2 * count)), answer.hex()
    return bytes(answer[2:])


def write(module: Any, address: int, *words: int) -> bytes:
    head = struct.pack(">BHHB", 16, address, len(words), 2 * len(words))
    return bytes(module.answer(head + struct.pack(f">{len(words)}H", *words), now_ms=NOW_MS))


def test_the_check_sum_is_that_of_the_specifications_example() -> None:
    # 01 03 00 00 00 0A C5 CD: the textbook request.
    assert with_crc(bytes.fromhex("01030000000a")).hex() == "01030000000ac5cd"


def test_the_dual_module_shows_its_registers_as_written_down() -> None:
    module = module_drawing("dormpower-dual", 123.4, 0, energy_wh=1_234_567)
    block = registers(module, READ_HOLDING, 0x10, 12)
    assert block[:4].hex() == "0001e240"  # 123 456 counts of 10 Wh
    assert block[8:12].hex() == "000004d2"  # 1234 × 0.1 W
    assert block[12:18].hex() == "03e813880001"  # PF 1.000, 50.00 Hz, relay closed
    assert registers(module, READ_HOLDING, 0x0000, 1).hex() == "4450"
    assert 2100 < int.from_bytes(block[4:6], "big") < 2300


@pytest.mark.parametrize("address", [0x1B, 0x3B])
def test_the_dual_module_switches_by_its_two_words_alone(address: int) -> None:
    module = module_drawing("dormpower-dual", 100, 100)
    assert module.answer(struct.pack(">BHH", 6, address, 0x55AA), now_ms=NOW_MS)[0] == 6
    channel = (address - 0x10) // 0x20
    assert [part.reported_closed() for part in module.channels] == [channel == 1, channel == 0]
    for wrong in (0, 1, 0xFF00, 0xAA54):
        assert module.answer(struct.pack(">BHH", 6, address, wrong), now_ms=NOW_MS) == b"\x86\x03"
    assert write(module, address, 0xAA55)[0] == 16
    assert module.channels[channel].reported_closed()


def test_the_dual_module_opens_after_five_seconds_over_its_own_limit() -> None:
    module = module_drawing("dormpower-dual", 900, 900)
    write(module, 0x1A, 800)
    module.advance(NOW_MS + 4_999)
    assert module.channels[0].reported_closed()
    module.advance(NOW_MS + 60_000)
    block = module.answer(struct.pack(">BHH", 3, 0x18, 3), now_ms=NOW_MS + 60_000)[2:]
    assert block.hex() == "000200010320"  # open with an overload trip, one trip, limit 800
    assert module.channels[0].register_uj() == 900_000 * 5_000
    module.advance(NOW_MS + 3_600_000)
    assert not module.channels[0].reported_closed()  # it never closes by itself


def test_eastron_meters_show_floats_by_function_4_alone() -> None:
    module = module_drawing("eastron-sdm230", 1500, energy_wh=12_345_500)
    assert registers(module, READ_INPUT, 0x000C, 2).hex() == "44bb8000"  # 1500.0
    assert registers(module, READ_INPUT, 0x0046, 2).hex() == "42480000"  # 50.0
    assert registers(module, READ_INPUT, 0x0048, 2).hex() == "4640e600"  # 12345.5 kWh
    assert registers(module, READ_INPUT, 0x0156, 2).hex() == "4640e600"
    assert module.answer(b"\x03\x00\x00\x00\x02", now_ms=NOW_MS) == b"\x83\x01"


def test_the_three_phases_of_an_sdm630_add_up_to_its_totals() -> None:
    module = module_drawing("eastron-sdm630", 4000)
    phases = struct.unpack(">fff", registers(module, READ_INPUT, 0x000C, 6))
    assert sum(phases) == struct.unpack(">f", registers(module, READ_INPUT, 0x0034, 2))[0] == 4000


@pytest.mark.parametrize("function", [READ_HOLDING, READ_INPUT])
def test_a_chint_meter_shows_kilowatts_by_either_function(function: int) -> None:
    module = module_drawing("chint-ddsu666", 500, energy_wh=2_500)
    assert registers(module, function, 0x2004, 2).hex() == "3f000000"  # 0.5 kW
    assert registers(module, function, 0x4000, 2).hex() == "40200000"  # 2.5 kWh


def test_a_hiking_meter_switches_by_function_16_alone() -> None:
    module = module_drawing("hiking-dds238-zn-sr", 500, energy_wh=1_230)
    assert registers(module, READ_HOLDING, 0x0000, 2).hex() == "0000007b"
    assert registers(module, READ_HOLDING, 0x000A, 2).hex() == "0000007b"
    assert registers(module, READ_HOLDING, 0x000E, 1).hex() == "01f4"
    assert module.answer(b"\x06\x00\x1a\x00\x00", now_ms=NOW_MS) == b"\x86\x01"
    assert write(module, 0x1A, 0).hex() == "10001a0001"
    assert registers(module, READ_HOLDING, 0x001A, 1).hex() == "0000"
    write(module, 0x1A, 1)
    assert registers(module, READ_HOLDING, 0x001A, 1).hex() == "0001"


def test_writing_to_a_hiking_meters_energy_erases_it() -> None:
    module = module_drawing("hiking-dds238-zn-sr", 0, energy_wh=1_230)
    write(module, 0x00, 0, 0)
    assert registers(module, READ_HOLDING, 0x0000, 2).hex() == "00000000"


def test_an_acrel_meter_takes_two_words_and_shows_no_relay() -> None:
    module = module_drawing("acrel-ddsy1352", 500)
    assert registers(module, READ_HOLDING, 0x000D, 1).hex() == "01f4"
    assert write(module, 0x57, 1, 1).hex() == "1000570002"
    assert not module.channels[0].reported_closed()
    assert write(module, 0x57, 1) == b"\x90\x03"
    assert module.answer(b"\x03\x00\x57\x00\x01", now_ms=NOW_MS) == b"\x83\x02"
    write(module, 0x57, 1, 0)
    assert module.channels[0].reported_closed()


def test_requests_are_found_however_a_stream_is_cut() -> None:
    stream = with_crc(bytes.fromhex("010300000002")) + with_crc(bytes.fromhex("0210001a0001020000"))
    whole = list(RtuFraming().feed(stream))
    framing = RtuFraming()
    single = [request for byte in stream for request in framing.feed(bytes((byte,)))]
    assert whole == single
    assert [request.unit for request in whole] == [1, 2]


async def test_several_requests_in_one_segment_are_all_answered(connect: Connect, tools: Any) -> None:
    line, _ = single_module_line("dormpower-dual", now_ms=lambda: NOW_MS)
    client = await connect(await line.start())
    await client.send(tools.read_tcp(1, 0, 1, transaction=7) + tools.read_tcp(1, 0, 1, transaction=8))
    assert (await client.exactly(22)).hex() == "00070000000501030244500008000000050103024450"
    await line.stop()


@pytest.mark.parametrize("rtu", [False, True])
async def test_a_unit_that_is_not_there_is_silent(connect: Connect, tools: Any, rtu: bool) -> None:
    line, _ = single_module_line("dormpower-dual", rtu=rtu)
    client = await connect(await line.start())
    request = with_crc(bytes.fromhex("090300000001")) if rtu else tools.read_tcp(9, 0, 1)
    await client.send(request)
    assert await client.silent_for(0.05)
    line.unknown_unit_code = 0x0B
    await client.send(request)
    assert await client.silent_for(0.05) if rtu else (await client.exactly(9)).endswith(b"\x09\x83\x0b")
    await line.stop()


ASK = with_crc(bytes.fromhex("010300000001"))
ANSWER = with_crc(bytes.fromhex("0103024450"))


@pytest.mark.parametrize(
    ("kind", "params", "expected"),
    [
        ("wrong_unit", {}, with_crc(bytes.fromhex("0203024450"))),
        ("crc_error", {}, ANSWER[:-1] + bytes((ANSWER[-1] ^ 0xFF,))),
        ("half_frame", {}, ANSWER[:3]),
        ("exception", {"code": 6}, with_crc(bytes.fromhex("018306"))),
        ("slow", {"delay_s": 0.01}, ANSWER),
        ("dead", {}, b""),
    ],
)
async def test_a_fault_spoils_one_answer_and_the_next_is_right(
    connect: Connect, kind: str, params: dict[str, Any], expected: bytes
) -> None:
    line, module = single_module_line("dormpower-dual", rtu=True)
    client = await connect(await line.start())
    module.fault(FaultKind(kind), {**params, "count": 1}, now_ms=0)
    await client.send(ASK)
    if expected:
        assert await client.exactly(len(expected)) == expected
    assert await client.silent_for(0.03)
    await client.send(ASK)
    assert await client.exactly(len(ANSWER)) == ANSWER
    await line.stop()


async def test_a_late_answer_comes_after_the_next_requests(connect: Connect) -> None:
    line, module = single_module_line("dormpower-dual", rtu=True)
    client = await connect(await line.start())
    module.fault(FaultKind.LATE_ANSWER, {"delay_s": 0.05, "count": 1}, now_ms=0)
    await client.send(ASK)
    await client.send(with_crc(bytes.fromhex("010300010001")))
    assert await client.exactly(7) == with_crc(bytes.fromhex("0103020102"))
    assert await client.exactly(7) == ANSWER
    await line.stop()


async def test_a_stuck_relay_accepts_the_command_and_stays(connect: Connect) -> None:
    _, module = single_module_line("dormpower-dual", now_ms=lambda: NOW_MS)
    module.fault(FaultKind.STUCK_RELAY, {"channel": 0}, now_ms=NOW_MS)
    assert write(module, 0x1B, 0x55AA)[0] == 16
    assert module.channels[0].reported_closed()
    module.clear(None, now_ms=NOW_MS)
    write(module, 0x1B, 0x55AA)
    assert not module.channels[0].reported_closed()


def test_a_welded_relay_reports_open_while_current_flows() -> None:
    module = module_drawing("dormpower-dual", 300, 0)
    module.fault(FaultKind.WELDED_RELAY, {"channel": 0}, now_ms=NOW_MS)
    write(module, 0x1B, 0x55AA)
    shown = module.measure(0)
    assert (shown.relay_closed, shown.power_w) == (False, 300)


def test_registers_roll_over_reset_and_reboot_as_told() -> None:
    module = module_drawing("dormpower-dual", 0, 0)
    module.fault(FaultKind.ROLLOVER_SOON, {"in_wh": 20, "channel": 0}, now_ms=NOW_MS)
    assert module.register_wh(0) == 999_999_980
    module.channels[0].offset_uj += 30 * UJ_PER_WH
    assert module.register_wh(0) == 10
    before = module.boot_id
    module.fault(FaultKind.REBOOT_TO_ZEROS, {"relay": "open"}, now_ms=NOW_MS)
    assert (module.register_wh(0), module.channels[0].reported_closed()) == (0, False)
    assert module.boot_id != before


async def test_a_line_that_is_down_drops_connections_and_listens_again(connect: Connect, tools: Any) -> None:
    line, _ = single_module_line("dormpower-dual")
    port = await line.start()
    client = await connect(port)
    await client.send(tools.read_tcp(1, 0, 1))
    await client.exactly(11)
    await line.fault(FaultKind.LINE_DOWN, {})
    assert await client.silent_for(5)  # closed
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)
    await line.clear()
    again = await connect(port)
    await again.send(tools.read_tcp(1, 0, 1))
    assert await again.exactly(11)
    await line.stop()


def test_a_read_of_44_registers_takes_about_130_ms_at_9600_baud() -> None:
    assert Wire(baud=9600, answer_time_s=0.02).transfer_s(8, 93) == pytest.approx(0.13, abs=0.01)


# --- a foreign master -----------------------------------------------------------------------------------------


async def mbpoll(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(shutil.which("mbpoll")),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    return output.decode()


@pytest.mark.needs("mbpoll")
async def test_mbpoll_reads_and_switches_over_tcp() -> None:
    line, module = single_module_line("dormpower-dual", unit=5)
    port = str(await line.start())
    common = ("-m", "tcp", "-p", port, "-a", "5", "-0", "-1", "-q", "-t", "4:hex")
    read = await mbpoll(*common, "-r", "0", "127.0.0.1")
    assert "0x4450" in read, read
    written = await mbpoll(*common[:-2], "-t", "4", "-r", "27", "127.0.0.1", "21930")
    assert "Written 1 references" in written, written
    assert not module.channels[0].reported_closed()
    await line.stop()


@pytest.mark.needs("mbpoll")
async def test_mbpoll_reads_over_a_serial_port() -> None:
    _, module = single_module_line("dormpower-dual")
    line = SimulatedLine(line_id="s", rtu=True, now_ms=lambda: NOW_MS)
    line.units[3] = module
    serial = SerialServer(line)
    device = serial.start()
    read = await mbpoll(
        "-m", "rtu", "-b", "9600", "-P", "none", "-a", "3", "-0", "-1", "-q", "-t", "4:hex", "-r", "0", device
    )
    assert "0x4450" in read, read
    serial.stop()
