"""A model that a site describes itself, with what no shipped profile has: 64 bits, and a coil as its relay."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from config.profiles import ModbusProfile, load_profiles
from dormpower.clock import real_clock
from dormpower.domain.samples import ChannelSample, Relay
from dormpower.domain.site import Line, Transport
from gateway.drivers.modbus.decoding import Decoder
from gateway.drivers.modbus.frames import Request, SocketCutter, read_request
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule, PreparedPlans
from gateway.drivers.modbus.planning import plan_poll
from gateway.ports import Rate, SwitchOutcome, SwitchResult

PROFILE = """
name: acme-wide
kind: modbus
title: Acme Wide
source: Acme manual 2.0
channels: {{count: 2, stride: 8}}
energy: {{resolution_wh: 1}}
read: {{function: 3}}
quantities:
  register_wh: {{address: 0x0000, type: u64, scale: "0.001", words: {words}}}
  power_w: {{address: 0x0004, type: i64, scale: "0.001", words: {words}}}
relay:
  write: {{function: 5, address: 0x0010, open: [0x0000], close: [0xFF00]}}
  state: {{address: 0x0010, function: 1}}
"""


def own_profile(folder: Path, *, words: str = "big") -> ModbusProfile:
    (folder / "acme-wide.yaml").write_text(PROFILE.format(words=words), encoding="utf-8")
    profile = load_profiles(folder)["acme-wide"]
    assert isinstance(profile, ModbusProfile)
    return profile


BIG = (
    "03 20 "
    "00 00 00 01 00 00 00 02 "  # 0000: 4 294 967 298 × 0.001 Wh (the upper half in use)
    "ff ff ff ff ff ff fa 24 "  # 0004: -1500 × 0.001 W
    "00 0b 1a 2b 3c 4d 5e 6f "  # 0008: 3 124 997 741 436 527 × 0.001 Wh
    "00 00 00 00 00 0f 42 40"  # 000C: 1 000 000 × 0.001 W
)
LITTLE = (
    "03 20 "
    "00 02 00 00 00 01 00 00 "  # the same, the lowest word first
    "fa 24 ff ff ff ff ff ff "
    "5e 6f 3c 4d 1a 2b 00 0b "
    "42 40 00 0f 00 00 00 00"
)


@pytest.mark.parametrize(("words", "answer"), [("big", BIG), ("little", LITTLE)])
def test_64_bits_are_read_in_either_order_of_words_and_to_the_wh(
    tmp_path: Path, words: str, answer: str
) -> None:
    profile = own_profile(tmp_path, words=words)
    plan = plan_poll(profile, Rate.FULL)
    asked = [
        read_request(unit=1, function=block.function, address=block.address, count=block.count).pdu.hex(" ")
        for block in plan.blocks
    ]
    assert asked == ["01 00 10 00 01", "01 00 18 00 01", "03 00 00 00 10"]
    coils = [bytes.fromhex("01 01 01"), bytes.fromhex("01 01 00")]
    assert Decoder(profile, plan).decode([*coils, bytes.fromhex(answer)]) == [
        ChannelSample(channel=0, register_wh=4_294_967, power_w=-1.5, relay=Relay.CLOSED),
        ChannelSample(channel=1, register_wh=3_124_997_741_437, power_w=1000.0, relay=Relay.OPEN),
    ]


# --- switching by a coil --------------------------------------------------------------------------------------


class Contactor:
    """Two coils at 0010 and 0018, on a connection of their own; a stuck one repeats the command and stays."""

    def __init__(self, *, stuck: bool = False) -> None:
        self.closed = {0x10: False, 0x18: False}
        self.seen: list[str] = []
        self._stuck = stuck
        self._receive: Callable[[bytes], None] = lambda data: None

    async def connect(self, _line: Line, *, receive: Callable[[bytes], None], **_: object) -> "Contactor":
        self._receive = receive
        return self

    def write(self, data: bytes) -> None:
        pdu = data[7:]
        self.seen.append(pdu.hex(" "))
        address = int.from_bytes(pdu[1:3], "big")
        answer = pdu
        if pdu[0] == 5 and not self._stuck:
            self.closed[address] = pdu[3:] == b"\xff\x00"
        elif pdu[0] == 1:
            answer = bytes((1, 1, self.closed[address]))
        frame = SocketCutter().frame(Request(data[6], answer, 0), int.from_bytes(data[:2], "big"))
        asyncio.get_running_loop().call_soon(self._receive, frame)

    def close(self) -> None:
        """Nothing is open."""


async def switch(contactor: Contactor, profile: ModbusProfile, channel: int, relay: Relay) -> SwitchResult:
    described = Line(line_id="l1", transport=Transport.TCP, host="127.0.0.1", port=1)
    line, clock = ModbusLine(described, connector=contactor.connect), real_clock()
    module = ModbusModule(module_id="m1", unit=1, plans=PreparedPlans(profile), line=line, clock=clock)
    expires_at = clock.real_now() + timedelta(minutes=5)
    try:
        return await module.switch(channel=channel, relay=relay, expires_at=expires_at)
    finally:
        line.close()


@pytest.mark.looptime
async def test_a_coil_is_switched_with_function_5_and_read_back_with_function_1(tmp_path: Path) -> None:
    contactor, profile = Contactor(), own_profile(tmp_path)
    result = await switch(contactor, profile, 1, Relay.CLOSED)
    assert (result.outcome, result.relay) == (SwitchOutcome.CONFIRMED, Relay.CLOSED)
    result = await switch(contactor, profile, 1, Relay.OPEN)
    assert (result.outcome, result.relay) == (SwitchOutcome.CONFIRMED, Relay.OPEN)
    assert contactor.seen == ["05 00 18 ff 00", "01 00 18 00 01", "05 00 18 00 00", "01 00 18 00 01"]
    assert contactor.closed == {0x10: False, 0x18: False}


@pytest.mark.looptime
async def test_a_coil_that_repeats_the_command_and_stays_is_not_confirmed(tmp_path: Path) -> None:
    contactor = Contactor(stuck=True)
    result = await switch(contactor, own_profile(tmp_path), 0, Relay.CLOSED)
    assert (result.outcome, result.relay) == (SwitchOutcome.NOT_FOLLOWED, Relay.OPEN)
