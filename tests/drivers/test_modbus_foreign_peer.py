"""Our driver against a Modbus server that is not ours: pyModbusTCP, holding the maps of two vendors' meters."""

import struct
from collections.abc import Iterator

import pytest
from pyModbusTCP.server import DataBank, ModbusServer

from config.profiles import ModbusProfile, load_profiles
from dormpower.clock import real_clock
from dormpower.domain.samples import Relay
from dormpower.domain.site import Line, Transport
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule, PreparedPlans
from gateway.ports import Rate, RefusedError


def float_words(value: float) -> list[int]:
    return list(struct.unpack(">HH", struct.pack(">f", value)))


@pytest.fixture
def peer() -> Iterator[tuple[DataBank, int]]:
    bank = DataBank(h_regs_size=0x100, i_regs_size=0x200)
    server = ModbusServer(host="127.0.0.1", port=0, no_block=True, data_bank=bank)
    server.start()
    yield bank, server._service.socket.getsockname()[1]
    server.stop()


def module_on(line: ModbusLine, name: str) -> ModbusModule:
    profile = load_profiles()[name]
    assert isinstance(profile, ModbusProfile)
    return ModbusModule(module_id="m1", unit=3, plans=PreparedPlans(profile), line=line, clock=real_clock())


async def test_an_sdm230_and_a_dds238_of_another_maker_are_read(peer: tuple[DataBank, int]) -> None:
    bank, port = peer
    for address, value in (
        (0x0000, 229.5),
        (0x0006, 4.25),
        (0x000C, -512.0),
        (0x001E, 0.5),
        (0x0046, 50.0),
        (0x0048, 20480.0625),
    ):
        bank.set_input_registers(address, float_words(value))
    bank.set_holding_registers(0x000A, [0x0001, 0x86A0, 2301, 512, 0xFC18, 0, 987, 4998])
    bank.set_holding_registers(0x001A, [1])
    line = ModbusLine(Line(line_id="l1", transport=Transport.TCP, host="127.0.0.1", port=port, timeout_ms=5000))
    try:
        (eastron,) = await module_on(line, "eastron-sdm230").read(Rate.FULL)
        assert (eastron.register_wh, eastron.voltage_v, eastron.power_w) == (20_480_062, 229.5, -512.0)
        assert (eastron.current_a, eastron.power_factor, eastron.frequency_hz) == (4.25, 0.5, 50.0)
        (hiking,) = await module_on(line, "hiking-dds238-zn-sr").read(Rate.FULL)
        assert (hiking.register_wh, hiking.voltage_v, hiking.power_w) == (1_000_000, 230.1, -1000.0)
        assert (hiking.current_a, hiking.power_factor, hiking.relay) == (5.12, 0.987, Relay.CLOSED)
        with pytest.raises(RefusedError) as refusal:  # its registers end before the Chint's begin
            await module_on(line, "chint-ddsu666").read(Rate.FULL)
        assert refusal.value.code == 2
        assert line.counters.connections == 1
    finally:
        line.close()
