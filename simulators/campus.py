"""The whole simulated campus: rooms, their modules, the lines that modules sit on, and what goes wrong.

`build_campus` makes it from a site; `Campus.start` puts its lines on real sockets. The campus has no clock of
its own: everything is brought up to the campus clock's present when somebody looks.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from dormpower.clock import Clock
from dormpower.domain.site import CircuitKind, Framer, Line, Room, Site, Transport
from simulators.faults import BROKER_FAULTS, LINE_FAULTS, FaultKind, UnableToInjectFaultError
from simulators.lines import SerialServer, SimulatedLine, Wire
from simulators.models import SHIPPED, Model, model_of
from simulators.modules import make_module
from simulators.modules.base import SimulatedModule
from simulators.modules.messages import DormpowerMqtt
from simulators.rooms import SimulatedRoom
from simulators.supply import UJ_PER_WH, Circuit, Electric, Feeder, FixedLoad
from simulators.weather import Weather

_SPARE_CHANNEL_MW = 0
_OF_TWO_CHANNELS = frozenset({"dormpower-dual", "dormpower-mqtt"})
BROKER = "broker"
"""The subject of faults of the embedded broker."""


class StoppableBroker(Protocol):
    """The embedded broker as faults see it."""

    async def start(self) -> int:
        """Listen, on the same port as before."""

    async def stop(self) -> None:
        """Be gone."""


def to_ms(at: datetime) -> int:
    """Return an instant as whole milliseconds since 1970."""
    return round(at.timestamp() * 1000)


class UnableToFindError(Exception):
    """Nothing of that name is simulated."""


class Campus:
    """Everything that is simulated, by name."""

    def __init__(self, *, clock: Clock, seed: int) -> None:
        self.clock = clock
        self.seed = seed
        self.rooms: dict[str, SimulatedRoom] = {}
        self.circuits: dict[str, Circuit] = {}
        self.modules: dict[str, SimulatedModule] = {}
        self.lines: dict[str, SimulatedLine] = {}
        self.endpoints: dict[str, tuple[str, int]] = {}
        self.devices: dict[str, str] = {}
        self.served_by: dict[str, tuple[str, int]] = {}
        self.spare_loads: list[FixedLoad] = []
        self.on_change: Callable[[], None] | None = None
        self.before_answer: Callable[[], None] | None = None
        self.broker: StoppableBroker | None = None
        self._serials: list[SerialServer] = []

    def now_ms(self) -> int:
        """Return the campus present in ms."""
        return to_ms(self.clock.now())

    # --- sockets -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Put all lines on their sockets and serial devices. Raises OSError where one can't."""
        for line_id, line in self.lines.items():
            if line_id in self.endpoints:
                host, port = self.endpoints[line_id]
                await line.start(host=host, port=port)
            else:
                serial = SerialServer(line)
                self.devices[line_id] = serial.start(self.devices.get(line_id))
                self._serials.append(serial)

    async def stop(self) -> None:
        """Close all lines."""
        for line in self.lines.values():
            await line.stop()
        for serial in self._serials:
            serial.stop()
        self._serials.clear()

    def changed(self) -> None:
        """Note that something was switched: what is kept on disk is out of date."""
        if self.on_change is not None:
            self.on_change()

    def about_to_answer(self) -> None:
        """Note that a register is about to be told."""
        if self.before_answer is not None:
            self.before_answer()

    # --- faults --------------------------------------------------------------------------------------------

    async def fault(self, subject: str, kind: str | FaultKind, **params: Any) -> None:
        """Let a fault of a module or line begin (`simulators.faults` has their names and parameters).

        Raises UnableToInjectFaultError or UnableToFindError.
        """
        try:
            known = FaultKind(kind)
        except ValueError:
            raise UnableToInjectFaultError(f"{kind}: expected one of {', '.join(sorted(FaultKind))}") from None
        if subject == BROKER and self.broker is not None:
            if known not in BROKER_FAULTS:
                raise UnableToInjectFaultError(f"{BROKER}: {known} is not a fault of a broker")
            await self.broker.stop()
        elif subject in self.lines:
            await self.lines[subject].fault(known, params)
        else:
            if known in LINE_FAULTS:
                raise UnableToInjectFaultError(f"{subject}: {known} is a fault of a line")
            self.module(subject).fault(known, params, now_ms=self.now_ms())
            self.changed()

    async def clear(self, subject: str | None = None, kind: str | FaultKind | None = None) -> None:
        """End one fault, or all of a subject, or all there are."""
        known = FaultKind(kind) if kind is not None else None
        if subject in {None, BROKER} and self.broker is not None:
            await self.broker.start()
            if subject == BROKER:
                return
        if subject is None or subject in self.lines:
            for line in self.lines.values() if subject is None else [self.lines[subject]]:
                await line.clear()
        if subject is None or subject not in self.lines:
            for module in self.modules.values() if subject is None else [self.module(subject)]:
                module.clear(known, now_ms=self.now_ms())
        self.changed()

    # --- ground truth --------------------------------------------------------------------------------------

    def module(self, module_id: str) -> SimulatedModule:
        """Return a module. Raises UnableToFindError."""
        if module_id not in self.modules:
            raise UnableToFindError(f"{module_id}: no such module or line is simulated")
        return self.modules[module_id]

    def room(self, room_id: str) -> SimulatedRoom:
        """Return a room. Raises UnableToFindError."""
        if room_id not in self.rooms:
            raise UnableToFindError(f"{room_id}: no such room is simulated")
        return self.rooms[room_id]

    def truth(self, circuit_id: str) -> dict[str, Any]:
        """Return what really is: energy that flowed, register, contacts, power. Raises UnableToFindError."""
        if circuit_id not in self.circuits:
            raise UnableToFindError(f"{circuit_id}: no such circuit is simulated")
        circuit = self.circuits[circuit_id]
        module_id, number = self.served_by[circuit_id]
        module = self.modules[module_id]
        module.advance(self.now_ms())
        channel = module.channels[number]
        return {
            "circuit_id": circuit_id,
            "module_id": module_id,
            "channel": number,
            "energy_uj": circuit.energy_uj,
            "energy_wh": circuit.energy_uj // UJ_PER_WH,
            "register_wh": module.register_wh(number),
            "power_w": circuit.power_mw() / 1000,
            "demand_w": circuit.demand_mw / 1000,
            "contacts": "closed" if circuit.contacts_closed else "open",
            "conducts": circuit.conducts(),
            "reports": "closed" if channel.reported_closed() else "open",
            "trips": circuit.trips,
            "limit_w": circuit.limit_w,
            "flags": sorted(circuit.flags),
            "closes_in_ms": circuit.closes_in_ms,
            "boot_id": module.boot_id,
            "at_ms": module.now_ms,
        }

    def set_power(self, circuit_id: str, power_w: float | None) -> None:
        """Let a circuit draw exactly so much, or (None) what its residents do. Raises UnableToFindError."""
        room, kind = self._room_of(circuit_id)
        room.set_power(kind, power_w, now_ms=self.now_ms())
        self.changed()

    def add_power(self, circuit_id: str, power_w: float) -> None:
        """Plug something in on top of what the residents do. Raises UnableToFindError."""
        room, kind = self._room_of(circuit_id)
        room.add_power(kind, power_w, now_ms=self.now_ms())
        self.changed()

    def set_load_factor(self, room_id: str, factor: float) -> None:
        """Let a room use so many times what it would, so that it runs out. Raises UnableToFindError."""
        room = self.room(room_id)
        room.advance(self.now_ms())
        room.load_factor = factor
        self.changed()

    def set_register(self, circuit_id: str, register_wh: int) -> None:
        """Put a circuit's register to a value. Raises UnableToFindError."""
        self.truth(circuit_id)
        module_id, number = self.served_by[circuit_id]
        self.modules[module_id].channels[number].set_register_wh(register_wh)
        self.changed()

    def _room_of(self, circuit_id: str) -> tuple[SimulatedRoom, str]:
        room_id, _, kind = circuit_id.rpartition("-")
        if circuit_id not in self.circuits:
            raise UnableToFindError(f"{circuit_id}: no such circuit is simulated")
        return self.room(room_id), kind

    def mqtt_modules(self) -> dict[str, DormpowerMqtt]:
        """Return the modules that speak MQTT."""
        return {
            module_id: module for module_id, module in self.modules.items() if isinstance(module, DormpowerMqtt)
        }


def build_campus(
    site: Site,
    *,
    seed: int = 1,
    clock: Clock,
    wire: Wire | None = None,
    unknown_unit_code: int | None = None,
    load_factors: Mapping[str, float] | None = None,
    models: Mapping[str, Model] = SHIPPED,
) -> Campus:
    """Make a simulated campus of a site; opens no socket.

    `wire` gives all lines the timing of a serial bus; `unknown_unit_code` is what Modbus TCP lines answer for
    units that aren't there (usually 0Bh; silence by default). `load_factors` says by room how much more than
    usual is used, `models` by profile what the modules are. Raises UnableToSimulateModuleError.
    """
    campus = Campus(clock=clock, seed=seed)
    weather = Weather(seed)
    channels: dict[str, dict[int, Electric]] = defaultdict(dict)
    for room in site.rooms:
        _add_room(campus, room, weather, channels, (load_factors or {}).get(room.room_id, 1.0))
    _add_feeders(campus, site, channels)
    for described in site.modules:
        model = model_of(models, described.profile, module_id=described.module_id)
        campus.modules[described.module_id] = make_module(
            model.make,
            module_id=described.module_id,
            circuits=_all_channels(campus, model, described.module_id, channels),
        )
    _add_lines(campus, site, wire, unknown_unit_code)
    return campus


def _add_room(
    campus: Campus,
    room: Room,
    weather: Weather,
    channels: dict[str, dict[int, Electric]],
    load_factor: float,
) -> None:
    by_kind: dict[CircuitKind, Circuit] = {}
    for described in room.circuits:
        circuit = Circuit(described.circuit_id)
        by_kind[described.kind] = circuit
        campus.circuits[described.circuit_id] = circuit
        campus.served_by[described.circuit_id] = (described.module_id, described.channel)
        channels[described.module_id][described.channel] = circuit
    campus.rooms[room.room_id] = SimulatedRoom(
        seed=campus.seed,
        room_id=room.room_id,
        weather=weather,
        lighting=by_kind.get(CircuitKind.LIGHTING),
        ac=by_kind.get(CircuitKind.AC),
        now_ms=campus.now_ms(),
        load_factor=load_factor,
    )


def _add_feeders(campus: Campus, site: Site, channels: dict[str, dict[int, Electric]]) -> None:
    parents = {feeder.feeder_id: feeder.parent for feeder in site.feeders}
    below: dict[str, list[Circuit]] = defaultdict(list)
    for room in site.rooms:
        feeder_id, seen = room.feeder, set[str]()
        while feeder_id is not None and feeder_id not in seen:
            seen.add(feeder_id)
            below[feeder_id].extend(campus.circuits[circuit.circuit_id] for circuit in room.circuits)
            feeder_id = parents.get(feeder_id)
    for feeder in site.feeders:
        if feeder.meter_module_id is not None:
            meter = Feeder(tuple(below[feeder.feeder_id]))
            channels[feeder.meter_module_id][feeder.meter_channel or 0] = meter


def _all_channels(
    campus: Campus, model: Model, module_id: str, channels: dict[str, dict[int, Electric]]
) -> list[Electric]:
    """Return a module's channels in order; those that feed no circuit of the site stand idle."""
    used = channels[module_id]
    count = max([2 if model.make in _OF_TWO_CHANNELS else 1, *(number + 1 for number in used)])
    result: list[Electric] = []
    for number in range(count):
        if number not in used:
            spare = Circuit(f"{module_id}/{number}", demand_mw=_SPARE_CHANNEL_MW)
            campus.spare_loads.append(FixedLoad((spare,), campus.now_ms()))
            used[number] = spare
        circuit = used[number]
        if isinstance(circuit, Circuit):
            circuit.trip_flags, circuit.closes_after_ms = model.trip_flags, model.closes_after_ms
        result.append(circuit)
    return result


def _add_lines(campus: Campus, site: Site, wire: Wire | None, unknown_unit_code: int | None) -> None:
    for described in site.lines:
        serial = described.transport is Transport.SERIAL
        line = SimulatedLine(
            line_id=described.line_id,
            rtu=serial or described.framer is Framer.RTU,
            now_ms=campus.now_ms,
            wire=wire and replace(wire, bits_per_byte=_bits_per_byte(described)),
            unknown_unit_code=unknown_unit_code,
            after_write=campus.changed,
            before_answer=campus.about_to_answer,
        )
        campus.lines[described.line_id] = line
        if serial:
            campus.devices[described.line_id] = str(described.device)
        else:
            campus.endpoints[described.line_id] = (described.host or "127.0.0.1", described.port or 0)
    for module in site.modules:
        if module.line_id is not None and module.unit is not None:
            campus.lines[module.line_id].units[module.unit] = campus.modules[module.module_id]


def _bits_per_byte(line: Line) -> int:
    """Return start bit, eight data bits, parity and stop bits."""
    return 1 + 8 + (line.parity != "N") + line.stop_bits


def single_module_line(
    profile: str,
    *,
    rtu: bool = False,
    unit: int = 1,
    powers_w: tuple[float, ...] = (100.0, 200.0),
    wire: Wire | None = None,
    now_ms: Callable[[], int] | None = None,
    module_id: str = "module",
) -> tuple[SimulatedLine, SimulatedModule]:
    """Make a line with one module that draws fixed powers: the smallest thing that a driver can be tried on.

    `now_ms` is campus time, by default the machine's. The line is started with `await line.start()`.
    """
    present = now_ms or (lambda: time.time_ns() // 1_000_000)
    count = 2 if profile in _OF_TWO_CHANNELS else 1
    circuits = tuple(
        Circuit(f"{module_id}/{number}", demand_mw=round(power_w * 1000))
        for number, power_w in enumerate(powers_w[:count])
    )
    FixedLoad(circuits, present())
    module = make_module(profile, module_id=module_id, circuits=circuits)
    line = SimulatedLine(line_id="line", rtu=rtu, now_ms=present, wire=wire)
    line.units[unit] = module
    return line, module
