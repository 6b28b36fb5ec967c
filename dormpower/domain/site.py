"""The site as frozen objects: campus, building, floor, room, circuit; module, line, feeder."""

from dataclasses import dataclass, field
from enum import StrEnum
from zoneinfo import ZoneInfo


class CircuitKind(StrEnum):
    """A room has one circuit of each kind."""

    LIGHTING = "lighting"
    AC = "ac"


class Transport(StrEnum):
    """How a line is reached."""

    TCP = "tcp"
    SERIAL = "serial"


class Framer(StrEnum):
    """How Modbus frames are delimited on a TCP line."""

    SOCKET = "socket"
    RTU = "rtu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One Modbus bus: a TCP host, an RTU-over-TCP converter or a serial port."""

    line_id: str
    transport: Transport
    host: str | None = None
    port: int | None = None
    framer: Framer = Framer.SOCKET
    device: str | None = None
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    timeout_ms: int = 500
    gap_ms: int = 0

    @property
    def endpoint(self) -> str:
        """What two lines may not share: `host:port` or the serial device."""
        return f"{self.host}:{self.port}" if self.transport is Transport.TCP else str(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A device in the field; sits on a line under a unit number, or speaks MQTT (line_id and unit None)."""

    module_id: str
    profile: str
    line_id: str | None = None
    unit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """One metered and switched circuit of a room, and the channel that serves it now."""

    circuit_id: str
    room_id: str
    kind: CircuitKind
    module_id: str
    channel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A room and its circuits. `rated_current_a` bounds what a circuit can plausibly draw (invariant 31)."""

    room_id: str
    campus: str
    building: str
    floor: str
    name: str
    rated_current_a: int
    feeder: str | None
    circuits: tuple[Circuit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """A supply line with a limit; feeders form a tree."""

    feeder_id: str
    parent: str | None
    limit_w: int
    meter_module_id: str | None = None
    meter_channel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything that is described in the site file, checked."""

    site_id: str
    name: str
    zone: ZoneInfo
    rooms: tuple[Room, ...]
    modules: tuple[Module, ...]
    lines: tuple[Line, ...]
    feeders: tuple[Feeder, ...] = field(default=())

    def circuits(self) -> tuple[Circuit, ...]:
        """Return all circuits, in the order of rooms."""
        return tuple(circuit for room in self.rooms for circuit in room.circuits)
