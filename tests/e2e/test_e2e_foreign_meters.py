"""The running gateway on a Modbus server that is not ours: two makers' meters, charged, one of them cut.

pyModbusTCP holds the map of an SDM230 (unit 1, input registers, no relay) and of a DDS238 (unit 2, holding
registers); the test is the meters' inside and moves their registers as current flows.
"""

import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pyModbusTCP.server import DataBank, ModbusServer

from dormpower.clock import CampusClock
from proofs.main_job import energy_of
from proofs.running_site import RunningSite, eventually
from proofs.site_folder import HOST, Plan, SiteFolder, describe_room

pytestmark = pytest.mark.timeout(240)

EASTRON, HIKING = "foreign-01-101-lighting", "foreign-01-102-lighting"
EASTRON_UNIT, HIKING_UNIT = 1, 2
FIRST_FEN, SECOND_FEN = 120, 3_000
POWER_W = 6_000.0
EASTRON_FIRST_WH, HIKING_FIRST_WH = 123_450, 67_890
HIKING_RELAY = 0x001A


class Registers(DataBank):
    """The two maps, with every write that came over the wire."""

    def __init__(self) -> None:
        super().__init__(h_regs_size=0x100, i_regs_size=0x200)
        self.writes: list[tuple[int, int, int, list[int]]] = []

    def set_holding_registers(self, address: int, word_list: list[int], srv_info: Any = None) -> Any:
        if srv_info is not None:
            frame = srv_info.recv_frame
            self.writes.append((frame.mbap.unit_id, frame.pdu.func_code, address, list(word_list)))
        return super().set_holding_registers(address, word_list, srv_info)

    @property
    def hiking_closed(self) -> bool:
        return bool(self.get_holding_registers(HIKING_RELAY, 1) == [1])


class Meters:
    """What the meters count: the same load behind each, over campus time; the DDS238's goes by its relay."""

    def __init__(self, registers: Registers, clock: CampusClock) -> None:
        self._power_w = 0.0
        self._eastron_wh, self._hiking_wh = float(EASTRON_FIRST_WH), float(HIKING_FIRST_WH)
        self._registers = registers
        self._clock = clock
        self._at = clock.now()
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        registers.set_holding_registers(HIKING_RELAY, [1])
        self._show()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def shown_wh(self) -> dict[str, int]:
        """What each register says, in Wh; the DDS238 counts 10 Wh."""
        return {EASTRON: round(self._eastron_wh), HIKING: int(self._hiking_wh) // 10 * 10}

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def set_power(self, power_w: float) -> None:
        """Let so much be drawn from now on; what flowed so far is in the registers."""
        with self._changing:
            self._advance()
            self._power_w = power_w
            self._show()

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            with self._changing:
                self._advance()
                self._show()

    def _advance(self) -> None:
        now = self._clock.now()
        flowed_wh = self._power_w * (now - self._at).total_seconds() / 3600
        self._at = now
        self._eastron_wh += flowed_wh
        if self._registers.hiking_closed:
            self._hiking_wh += flowed_wh

    def _show(self) -> None:
        power_w, current_a = self._power_w, self._power_w / 230
        for address, value in (
            (0x0000, 230.0),
            (0x0006, current_a),
            (0x000C, power_w),
            (0x001E, 1.0),
            (0x0046, 50.0),
            (0x0048, round(self._eastron_wh) / 1000),
        ):
            self._registers.set_input_registers(address, list(struct.unpack(">HH", struct.pack(">f", value))))
        if not self._registers.hiking_closed:
            power_w = current_a = 0.0
        counts = divmod(self.shown_wh[HIKING] // 10, 0x10000)
        self._registers.set_holding_registers(
            0x000A, [*counts, 2300, round(current_a * 100), round(power_w), 0, 1000, 5000]
        )


@pytest.fixture
def field() -> Iterator[tuple[RunningSite, Registers, Meters]]:
    with ExitStack() as stack:
        registers = Registers()
        server = ModbusServer(host=HOST, port=0, no_block=True, data_bank=registers)
        server.start()
        stack.callback(server.stop)
        port = server._service.socket.getsockname()[1]
        files = SiteFolder(plan_on(port))
        stack.callback(files.remove)
        files.restart_clock()
        meters = Meters(registers, files.clock)
        stack.callback(meters.close)
        site = RunningSite(files)  # no simulators: the only field is the foreign server
        stack.callback(site.end_all)
        site.start("api")
        site.wait_for_api()
        yield site, registers, meters


def plan_on(port: int) -> Plan:
    line = {"id": "foreign", "transport": "tcp", "host": HOST, "port": port, "framer": "socket"}
    modules = [
        {"id": "m-eastron", "profile": "eastron-sdm230", "line": "foreign", "unit": EASTRON_UNIT},
        {"id": "m-hiking", "profile": "hiking-dds238-zn-sr", "line": "foreign", "unit": HIKING_UNIT},
    ]
    rooms = [
        describe_room(circuit_id.removesuffix("-lighting"), module_id=module["id"], ac=False)
        for circuit_id, module in zip((EASTRON, HIKING), modules, strict=True)
    ]
    return Plan(
        tcp_rooms=0,
        rtu_rooms=0,
        mqtt_rooms=0,
        broker="none",
        more_lines=(line | {"timeout_ms": 2_000},),
        more_modules=tuple(modules),
        more_rooms=tuple(rooms),
    )


def accepted(site: RunningSite, circuit_id: str, register_wh: int) -> None:
    """Wait until a register is taken in and believed."""
    eventually(
        lambda: (point := site.point(circuit_id)).standing == "accepted" and point.register_wh == register_wh,
        what=f"{circuit_id}: {register_wh} Wh is accepted",
    )


def fund(site: RunningSite, circuit_id: str, amount_fen: int) -> None:
    answer = site.recharge(circuit_id, amount_fen, key=f"{circuit_id}-{amount_fen}")
    assert answer.status_code == 201, answer.text


def test_meters_of_other_makers_are_metered_charged_and_cut_where_they_have_a_relay(
    field: tuple[RunningSite, Registers, Meters],
) -> None:
    site, registers, meters = field
    for circuit_id in (EASTRON, HIKING):
        fund(site, circuit_id, FIRST_FEN)
    site.start_gateway()
    accepted(site, EASTRON, EASTRON_FIRST_WH)
    accepted(site, HIKING, HIKING_FIRST_WH)

    meters.set_power(POWER_W)
    eventually(
        lambda: (shown := site.circuit(HIKING))["state"] == "arrears" and shown["relay"] == "open",
        what="the DDS238 is cut for arrears",
    )
    assert not registers.hiking_closed
    assert registers.writes == [(HIKING_UNIT, 16, HIKING_RELAY, [0])]
    eventually(
        lambda: site.circuit(EASTRON)["balance_wh"] < -500, what="the SDM230 goes on far below its balance"
    )
    shown = site.circuit(EASTRON)
    assert (shown["state"], shown["level"], shown["relay"]) == ("normal", "arrears", "unknown")
    assert shown["power_w"] == POWER_W
    assert shown["holds"] == []

    fund(site, HIKING, SECOND_FEN)
    eventually(
        lambda: (shown := site.circuit(HIKING))["state"] == "normal" and shown["relay"] == "closed",
        what="the DDS238 closes after the payment",
    )
    assert registers.writes == [(HIKING_UNIT, 16, HIKING_RELAY, [0]), (HIKING_UNIT, 16, HIKING_RELAY, [1])]
    assert [(one.relay, one.outcome, one.read_back_relay) for one in site.commands(HIKING)] == [
        ("open", "confirmed", "open"),
        ("closed", "confirmed", "closed"),
    ]
    assert not site.commands(EASTRON)

    after_wh = meters.shown_wh[HIKING] + 200
    eventually(lambda: meters.shown_wh[HIKING] > after_wh, what="current flows again")
    meters.set_power(0.0)
    expect_charged_exactly(site, meters)


def expect_charged_exactly(site: RunningSite, meters: Meters) -> None:
    """Prove that both are metered to the count of their registers, and charged so."""
    for circuit_id, first_wh, bought_wh in (
        (EASTRON, EASTRON_FIRST_WH, energy_of(FIRST_FEN)),
        (HIKING, HIKING_FIRST_WH, energy_of(FIRST_FEN) + energy_of(SECOND_FEN)),
    ):
        final_wh = meters.shown_wh[circuit_id]
        accepted(site, circuit_id, final_wh)
        assert site.point(circuit_id).metered_wh == final_wh - first_wh
        assert site.circuit(circuit_id)["balance_wh"] == bought_wh - (final_wh - first_wh)
    audited = site.dormpower("audit")
    assert audited.returncode == 0, audited.stderr
