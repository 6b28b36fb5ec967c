"""Which registers to read for a profile, in as few transactions as the model bears. Pure.

A plan is a value that can be printed: blocks of adjacent registers, each with the one `struct` format that
unpacks all of its quantities at once. Both channels of a module come in one block where the profile's `max_gap`
lets a read run across what lies between.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from config.profile_file import ModbusProfile, Quantities, Quantity
from gateway.ports import Rate

_FAST = frozenset({"voltage_v", "current_a", "power_w", "power_factor"})
_FORMATS = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q", "float32": "f"}


class UnableToPlanError(Exception):
    """The profile's registers can't be read as it says; the message names what stands against it."""


@dataclass(frozen=True, slots=True, order=True)
class Want:
    """One quantity of one channel to be read. `name` is the sample's field; phase 0 is the whole."""

    function: int
    address: int
    registers: int
    channel: int
    name: str
    phase: int = 0
    quantity: Quantity | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Block:
    """One read: `count` registers (bits for functions 1 and 2) from `address`, and what it holds."""

    function: int
    address: int
    count: int
    wants: tuple[Want, ...]

    @property
    def is_bits(self) -> bool:
        """Whether it reads coils or discrete inputs."""
        return self.function in (1, 2)

    def layout(self) -> struct.Struct:
        """Return what unpacks the answer's PDU into one value a want (in the order of `slots`)."""
        if self.is_bits:
            return struct.Struct(">2xB")
        text, position = ">2x", self.address
        for want in self.slots():
            text += f"{2 * (want.address - position)}x"
            text += _format(want)
            position = want.address + want.registers
        return struct.Struct(text + f"{2 * (self.address + self.count - position)}x")

    def slots(self) -> list[Want]:
        """Return the wants that have a value of their own: one for each distinct register span."""
        seen: dict[tuple[int, int], Want] = {}
        for want in self.wants:
            seen.setdefault((want.address, want.registers), want)
        return list(seen.values())

    def __str__(self) -> str:
        """Write it as a person reads it."""
        last = self.address + self.count - 1
        names = ", ".join(f"{want.name}[{want.channel}]" for want in self.wants)
        return f"FC{self.function:02d} 0x{self.address:04X}-0x{last:04X} ({self.count}): {names}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All reads of one poll, in order."""

    blocks: tuple[Block, ...]

    def __str__(self) -> str:
        """Write it as a person reads it, one read a line."""
        return "\n".join(str(block) for block in self.blocks)


def _format(want: Want) -> str:
    quantity = want.quantity
    if quantity is None:
        return "H"
    if quantity.words == "little" and want.registers > 1:
        return f"{2 * want.registers}s"  # put in order by the decoder
    return _FORMATS[quantity.type]


def plan_poll(profile: ModbusProfile, rate: Rate) -> Plan:
    """Return the reads of a poll: everything, or (FAST) volts, amps, power, power factor, flags and relay."""
    return _plan(profile, _wants(profile, rate))


def plan_relay(profile: ModbusProfile, channel: int) -> Plan:
    """Return the read-back of one channel's relay; an empty plan where none is documented."""
    return _plan(profile, [want for want in _relay_wants(profile) if want.channel == channel])


def _wants(profile: ModbusProfile, rate: Rate) -> Iterator[Want]:
    for channel in range(profile.channel_count):
        for name in Quantities.model_fields:
            if rate is Rate.FULL or name in _FAST:
                yield from _want(profile, channel, name, getattr(profile.quantities, name))
        for number, phase in enumerate(profile.phase_quantities, start=1):
            for name in type(phase).model_fields:
                yield from _want(profile, channel, name, getattr(phase, name), phase=number)
        if profile.flags is not None:
            yield Want(
                function=profile.flags.function or profile.read.function,
                address=profile.flags.address + channel * profile.channels.stride,
                registers=1,
                channel=channel,
                name="flags",
            )
    yield from _relay_wants(profile)


def _want(
    profile: ModbusProfile, channel: int, name: str, quantity: Quantity | None, *, phase: int = 0
) -> Iterator[Want]:
    if quantity is not None:
        yield Want(
            function=quantity.function or profile.read.function,
            address=quantity.address + channel * profile.channels.stride,
            registers=quantity.registers,
            channel=channel,
            name=name,
            phase=phase,
            quantity=quantity,
        )


def _relay_wants(profile: ModbusProfile) -> Iterator[Want]:
    if profile.relay is None or profile.relay.state is None:
        return
    state = profile.relay.state
    for channel in range(profile.channel_count):
        yield Want(
            function=state.function or profile.read.function,
            address=state.address + channel * profile.channels.stride,
            registers=1,
            channel=channel,
            name="relay",
        )


def _plan(profile: ModbusProfile, wants: Iterable[Want]) -> Plan:
    blocks: list[Block] = []
    group: list[Want] = []
    end = 0
    for want in sorted(wants):
        if want.registers > profile.read.max_registers:
            raise UnableToPlanError(
                f"{profile.name}: {want.name}: takes {want.registers} registers, "
                f"a read holds {profile.read.max_registers}"
            )
        if group and not _joins(profile, group, end, want):
            blocks.append(_block(group, end))
            group = []
        end = want.address + want.registers if not group else max(end, want.address + want.registers)
        group.append(want)
    if group:
        blocks.append(_block(group, end))
    return Plan(tuple(blocks))


def _joins(profile: ModbusProfile, group: Sequence[Want], end: int, want: Want) -> bool:
    first = group[0]
    if want.function != first.function or want.function in (1, 2):
        return False  # a bit is read alone: the bits between are nobody's business
    same_span = any(want.address == other.address and want.registers == other.registers for other in group)
    if want.address < end and not same_span:
        return False  # overlapping spans (a double word and its low half) are read apart
    total = max(end, want.address + want.registers) - first.address
    return want.address - end <= profile.read.max_gap and total <= profile.read.max_registers


def _block(group: Sequence[Want], end: int) -> Block:
    first = group[0]
    return Block(first.function, first.address, end - first.address, tuple(group))
