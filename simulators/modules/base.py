"""What all simulated modules have in common: channels with registers and relays, and Modbus requests.

A *channel* here is the module's view of a circuit: its own register (which faults can reset or move), what it
says of its relay, and what it does with a command. The circuit keeps the truth.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from simulators.faults import EVENTS, MODBUS_FAULTS, FaultKind, UnableToInjectFaultError
from simulators.frames import (
    READ_HOLDING,
    READ_INPUT,
    WRITE_COIL,
    WRITE_REGISTER,
)
from simulators.supply import FREQUENCY_HZ, UJ_PER_WH, Circuit, Electric, voltage_v

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3


class RefusedRequestError(Exception):
    """The module answers with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Measured:
    """What a channel shows at one instant; `counts` are in the module's own resolution."""

    counts: int
    voltage_v: float
    current_a: float
    power_w: float
    power_factor: float
    frequency_hz: float
    relay_closed: bool
    flags: frozenset[str]


@dataclass(slots=True)
class Channel:
    """A module's view of one circuit."""

    circuit: Electric
    key: int
    offset_uj: int = 0
    stuck: bool = False
    welded_reports: str | None = None

    @property
    def contacts(self) -> Circuit | None:
        """The circuit where it has a relay; None behind a meter without one."""
        return self.circuit if isinstance(self.circuit, Circuit) else None

    def register_uj(self) -> int:
        """Return what the register has counted since it was last at zero."""
        return self.circuit.energy_uj + self.offset_uj

    def set_register_wh(self, register_wh: int) -> None:
        """Put the register to a value, as a reset or a spare part does."""
        self.offset_uj = register_wh * UJ_PER_WH - self.circuit.energy_uj

    def reported_closed(self) -> bool:
        """Return what the module says of its relay."""
        if self.contacts is None:
            return True
        if self.contacts.welded and self.welded_reports is not None:
            return self.welded_reports == "closed"
        return self.contacts.contacts_closed

    def command(self, *, closed: bool) -> None:
        """Move the relay; a stuck one accepts the command and stays as it is."""
        if self.contacts is not None and not self.stuck:
            self.contacts.switch(closed=closed)


@dataclass(slots=True)
class ActiveFault:
    """A lasting fault and its parameters; `count` limits it to so many answers."""

    kind: FaultKind
    params: Mapping[str, Any]
    left: int | None = None


class SimulatedModule:
    """A module in the field. Subclasses give the register image and take writes."""

    CHANNELS: ClassVar[int] = 1
    RESOLUTION_WH: ClassVar[int] = 1
    MODULUS: ClassVar[int] = 2**32
    """Counts at which the register starts over."""

    FUNCTIONS: ClassVar[frozenset[int]] = frozenset({READ_HOLDING, READ_INPUT})
    FAULTS: ClassVar[frozenset[FaultKind]] = MODBUS_FAULTS
    """What can go wrong with a module of this sort; another fault would do nothing."""

    def __init__(self, *, module_id: str, circuits: Sequence[Electric]) -> None:
        self.module_id = module_id
        self.channels = [
            Channel(circuit, zlib.crc32(f"{module_id}/{number}".encode()))
            for number, circuit in enumerate(circuits)
        ]
        self.faults: dict[FaultKind, ActiveFault] = {}
        self.boots = 1
        self.now_ms = 0

    @property
    def boot_id(self) -> str:
        """What tells this boot from the others."""
        return f"{zlib.crc32(self.module_id.encode()):08x}-{self.boots}"

    # --- measuring -----------------------------------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Bring all channels up to a campus instant."""
        self.now_ms = now_ms
        for channel in self.channels:
            channel.circuit.advance(now_ms)

    def measure(self, number: int) -> Measured:
        """Return what a channel shows now."""
        channel = self.channels[number]
        circuit = channel.circuit
        power_w = circuit.power_mw() / 1000
        power_factor = circuit.power_factor()
        apparent_va = power_w / power_factor
        volts = voltage_v(key=channel.key, now_ms=self.now_ms, current_a=apparent_va / 220)
        counts = channel.register_uj() // (UJ_PER_WH * self.RESOLUTION_WH) % self.MODULUS
        flags = channel.contacts.flags if channel.contacts is not None else set()
        return Measured(
            counts=counts,
            voltage_v=volts,
            current_a=apparent_va / volts,
            power_w=power_w,
            power_factor=power_factor,
            frequency_hz=FREQUENCY_HZ,
            relay_closed=channel.reported_closed(),
            flags=frozenset(flags),
        )

    def register_wh(self, number: int) -> int:
        """Return a channel's register as the module shows it, in Wh (ground truth for tests)."""
        counts = self.channels[number].register_uj() // (UJ_PER_WH * self.RESOLUTION_WH)
        return counts % self.MODULUS * self.RESOLUTION_WH

    def command(self, number: int, *, closed: bool) -> None:
        """Carry out a relay command. Closing ends a trip, because somebody decided that it may."""
        channel = self.channels[number]
        channel.command(closed=closed)
        if closed and channel.contacts is not None and not channel.stuck:
            channel.contacts.flags -= channel.contacts.trip_flags

    # --- Modbus --------------------------------------------------------------------------------------------

    def image(self, function: int) -> Mapping[int, bytes]:
        """Return the readable blocks of a function: first register → bytes."""
        raise NotImplementedError

    def write(self, address: int, words: Sequence[int]) -> None:  # noqa: ARG002 - for subclasses
        """Take a write of registers (FC06, FC16). Raises RefusedRequestError."""
        raise RefusedRequestError(ILLEGAL_ADDRESS)

    def write_coil(self, address: int, *, on: bool) -> None:  # noqa: ARG002 - for subclasses
        """Take a write of a coil (FC05). Raises RefusedRequestError."""
        raise RefusedRequestError(ILLEGAL_ADDRESS)

    def answer(self, pdu: bytes, *, now_ms: int) -> bytes:
        """Answer one request, as PDU bytes; refusals become exception answers."""
        self.advance(now_ms)
        function = pdu[0]
        try:
            if function not in self.FUNCTIONS:
                raise RefusedRequestError(ILLEGAL_FUNCTION)
            return self._answer(function, pdu)
        except RefusedRequestError as refusal:
            return bytes((function | 0x80, refusal.code))

    def _answer(self, function: int, pdu: bytes) -> bytes:
        if len(pdu) < 5:
            raise RefusedRequestError(ILLEGAL_VALUE)
        address, value = struct.unpack_from(">HH", pdu, 1)
        if function in {READ_HOLDING, READ_INPUT}:
            return self._read(function, address, value)
        if function == WRITE_COIL:
            if value not in {0x0000, 0xFF00}:
                raise RefusedRequestError(ILLEGAL_VALUE)
            self.write_coil(address, on=value == 0xFF00)
            return pdu[:5]
        if function == WRITE_REGISTER:
            self.write(address, [value])
            return pdu[:5]
        if not 1 <= value <= 123 or len(pdu) != 6 + 2 * value or pdu[5] != 2 * value:
            raise RefusedRequestError(ILLEGAL_VALUE)
        self.write(address, struct.unpack_from(f">{value}H", pdu, 6))
        return pdu[:5]

    def _read(self, function: int, address: int, count: int) -> bytes:
        if not 1 <= count <= 125:
            raise RefusedRequestError(ILLEGAL_VALUE)
        for first, block in self.image(function).items():
            start = (address - first) * 2
            if start >= 0 and start + 2 * count <= len(block):
                return bytes((function, 2 * count)) + block[start : start + 2 * count]
        raise RefusedRequestError(ILLEGAL_ADDRESS)

    # --- faults --------------------------------------------------------------------------------------------

    def fault(self, kind: FaultKind, params: Mapping[str, Any], *, now_ms: int) -> None:
        """Let a fault begin, or an event happen. Raises UnableToInjectFaultError."""
        if kind not in self.FAULTS:
            possible = ", ".join(sorted(self.FAULTS))
            raise UnableToInjectFaultError(f"{self.module_id}: {kind}: expected one of {possible}")
        self.advance(now_ms)
        if kind in EVENTS:
            self._event(kind, params)
            return
        self.faults[kind] = ActiveFault(kind, dict(params), params.get("count"))
        self._apply_relay_faults()

    def clear(self, kind: FaultKind | None, *, now_ms: int) -> None:
        """End one fault, or all; a trip ends with the closing of its relay alone."""
        self.advance(now_ms)
        for known in [kind] if kind is not None else list(self.faults):
            self.faults.pop(known, None)
        if kind in {None, FaultKind.FLAG}:
            for channel in self.channels:
                if channel.contacts is not None:
                    channel.contacts.flags &= channel.contacts.trip_flags
        self._apply_relay_faults()

    def use(self, kind: FaultKind) -> Mapping[str, Any] | None:
        """Return a lasting fault's parameters if it applies to this answer, and count that it did."""
        active = self.faults.get(kind)
        if active is None:
            return None
        if active.left is not None:
            active.left -= 1
            if active.left <= 0:
                del self.faults[kind]
        return active.params

    def _apply_relay_faults(self) -> None:
        stuck = self.faults.get(FaultKind.STUCK_RELAY)
        welded = self.faults.get(FaultKind.WELDED_RELAY)
        for number, channel in enumerate(self.channels):
            channel.stuck = stuck is not None and stuck.params.get("channel", number) == number
            hit = welded is not None and welded.params.get("channel", number) == number
            if channel.contacts is not None:
                channel.contacts.welded = hit
            channel.welded_reports = welded.params.get("reports") if welded is not None and hit else None

    def _event(self, kind: FaultKind, params: Mapping[str, Any]) -> None:
        if kind in {FaultKind.REBOOT, FaultKind.REBOOT_TO_ZEROS}:
            self.reboot()
        for number, channel in enumerate(self.channels):
            if params.get("channel", number) == number:
                self._channel_event(kind, params, channel)

    def reboot(self) -> None:
        """Start again, under a new boot id."""
        self.boots += 1

    def _channel_event(self, kind: FaultKind, params: Mapping[str, Any], channel: Channel) -> None:
        contacts = channel.contacts
        if kind in {FaultKind.REGISTER_RESET, FaultKind.REBOOT_TO_ZEROS}:
            channel.set_register_wh(0)
        elif kind is FaultKind.ROLLOVER_SOON:
            channel.set_register_wh(self.MODULUS * self.RESOLUTION_WH - int(params.get("in_wh", 100)))
        if contacts is None:
            return
        if kind is FaultKind.REBOOT_TO_ZEROS:
            contacts.trips = 0
            contacts.flags.clear()
            contacts.closes_in_ms = None
        if kind is FaultKind.SWITCHED_LOCALLY and "relay" not in params:
            raise UnableToInjectFaultError(f"{self.module_id}: switched_locally: expected relay open or closed")
        if "relay" in params and kind is not FaultKind.ROLLOVER_SOON:
            contacts.switch(closed=params["relay"] == "closed")
        if kind is FaultKind.FLAG:
            contacts.report(str(params["flag"]))

    # --- state that outlives the program -------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what has to be kept besides the circuits' own state."""
        return {"boots": self.boots, "offsets_uj": [channel.offset_uj for channel in self.channels]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self.boots = int(state["boots"])
        for channel, offset_uj in zip(self.channels, state["offsets_uj"], strict=True):
            channel.offset_uj = int(offset_uj)


def words(*values: int) -> bytes:
    """Return 16-bit values as big-endian bytes."""
    return struct.pack(f">{len(values)}H", *values)
