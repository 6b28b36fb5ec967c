"""From the answers of a plan's reads to channel samples. Pure; prepared once a profile, called for every poll.

Energy is decoded exactly: integers by their rational scale, float32 as the fraction that it is, then rounded
half-even to the Wh once. Volts, amps and watts are scaled by an exact ratio and end as floats.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from operator import mul, truediv
from typing import Any

from config.profile_file import ModbusProfile, Quantity
from dormpower.domain.samples import ChannelSample, Relay
from dormpower.domain.units import MAX_ENERGY_WH, round_half_even
from gateway.drivers.modbus.planning import Block, Plan, Want
from gateway.ports import UnusableReplyError

_LITTLE_FORMATS = {"u32": ">I", "i32": ">i", "float32": ">f", "u64": ">Q", "i64": ">q"}
_Convert = Callable[[Any], Any]
_SAMPLE_FIELDS = fields(ChannelSample)[1:]  # after the channel's number


@dataclass(frozen=True, slots=True)
class PhaseSample:
    """One phase of a multi-phase meter."""

    voltage_v: float | None = None
    current_a: float | None = None
    power_w: float | None = None
    power_factor: float | None = None


@dataclass(frozen=True, slots=True)
class _Inline:
    """A conversion so simple that it can be written out: `template` is `apply` as Python."""

    template: str
    apply: Callable[[Any, Any], Any]
    operand: Any

    def __call__(self, value: Any) -> Any:
        return self.apply(value, self.operand)


class Decoder:
    """Turns the answers of one plan, in order of its blocks, into channel samples."""

    def __init__(self, profile: ModbusProfile, plan: Plan) -> None:
        self._layouts = [block.layout() for block in plan.blocks]
        self._channels: list[int] = []
        self._phases: list[list[tuple[int, str, int, _Convert]]] = []
        places = _places(plan)
        of_channels: list[list[tuple[int, _Convert]]] = []
        for channel in sorted({want.channel for block in plan.blocks for want in block.wants}):
            found = {one.name: (0, _always(one.default)) for one in _SAMPLE_FIELDS}
            phases: list[tuple[int, str, int, _Convert]] = []
            for block in plan.blocks:
                for want in block.wants:
                    if want.channel != channel:
                        continue
                    convert = _converter(profile, block, want)
                    place = places[block, want]
                    if want.phase:
                        phases.append((want.phase, want.name, place, convert))
                    else:
                        found[want.name] = (place, convert)
            self._channels.append(channel)
            of_channels.append(list(found.values()))
            self._phases.append(phases)
        self._has_phases = any(self._phases)
        self._samples = _written_out(self._channels, of_channels)

    def decode(self, answers: Sequence[bytes]) -> list[ChannelSample]:
        """Return the samples, one a channel. Raises UnusableReplyError for an energy that is no number."""
        if len(answers) == 1:
            values: tuple[Any, ...] = self._layouts[0].unpack(answers[0])
        else:
            values = sum(
                (layout.unpack(answer) for layout, answer in zip(self._layouts, answers, strict=True)), ()
            )
        samples = self._samples(values)
        if self._has_phases:
            return [
                _with_totals(sample, _phase_values(values, phases)) if phases else sample
                for sample, phases in zip(samples, self._phases, strict=True)
            ]
        return samples

    def phases(self, answers: Sequence[bytes], channel: int) -> list[PhaseSample]:
        """Return the phases of a channel, none for a single-phase meter."""
        values = sum((layout.unpack(answer) for layout, answer in zip(self._layouts, answers, strict=True)), ())
        for number, phases in zip(self._channels, self._phases, strict=True):
            if number == channel and phases:
                found = _phase_values(values, phases)
                return [PhaseSample(**found[phase]) for phase in sorted(found)]
        return []


def _written_out(
    channels: Sequence[int], conversions: Sequence[Sequence[tuple[int, _Convert]]]
) -> Callable[[tuple[Any, ...]], list[ChannelSample]]:
    """Return one function that makes all channels' samples, its conversions written out.

    `conversions` are, of each channel and each field after its number, which value it is made of and how. As
    with the methods of a dataclass this saves a call for each value, fourteen of them in each poll of a dual
    module.
    """
    names: dict[str, Any] = {"ChannelSample": ChannelSample}
    samples = []
    for channel, of_channel in zip(channels, conversions, strict=True):
        fields = [str(channel)]
        for place, convert in of_channel:
            value, name = f"values[{place}]", f"with_{len(names)}"
            if isinstance(convert, _Inline):
                names[name] = convert.operand
                fields.append(convert.template.format(value=value, operand=name))
            else:
                names[name] = convert
                fields.append(f"{name}({value})")
        samples.append(f"ChannelSample({', '.join(fields)})")
    # Made of our own templates and of numbers alone: nothing of a profile's text is in it.
    written: Callable[[tuple[Any, ...]], list[ChannelSample]] = eval(  # noqa: S307
        f"lambda values: [{', '.join(samples)}]", names
    )
    return written


def _places(plan: Plan) -> Mapping[tuple[Block, Want], int]:
    """Return where each want's value stands among the values of all blocks."""
    places: dict[tuple[Block, Want], int] = {}
    first = 0
    for block in plan.blocks:
        slots = {(want.address, want.registers): index for index, want in enumerate(block.slots())}
        for want in block.wants:
            places[block, want] = first + slots[want.address, want.registers]
        first += len(slots)
    return places


def _phase_values(
    values: Sequence[Any], phases: Sequence[tuple[int, str, int, _Convert]]
) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for phase, name, place, convert in phases:
        found.setdefault(phase, {})[name] = convert(values[place])
    return found


def _with_totals(sample: ChannelSample, phases: Mapping[int, Mapping[str, Any]]) -> ChannelSample:
    """Fill in what the meter gives by phase alone: mean volts, summed amps and watts."""
    totals: dict[str, Any] = {}
    for name in ("voltage_v", "current_a", "power_w"):
        parts = [phase.get(name) for phase in phases.values()]
        known = [part for part in parts if part is not None]
        if getattr(sample, name) is None and parts and len(known) == len(parts):
            total = math.fsum(known)
            totals[name] = total / len(parts) if name == "voltage_v" else total
    return replace(sample, **totals)


def _always(value: Any) -> _Convert:
    return _Inline("{operand}", _second, value)


def _second(_: Any, second: Any) -> Any:
    return second


def _converter(profile: ModbusProfile, block: Block, want: Want) -> _Convert:
    if want.name == "relay":
        return _relay_converter(profile, block)
    if want.name == "flags":
        return _flags_converter(profile)
    quantity = want.quantity
    if quantity is None:
        raise TypeError(f"{want.name}: a quantity without a place")
    convert = _energy_converter(quantity) if want.name == "register_wh" else _float_converter(quantity)
    if quantity.words == "little" and quantity.registers > 1:
        return _in_order(quantity, convert)
    return convert


def _in_order(quantity: Quantity, convert: _Convert) -> _Convert:
    layout = struct.Struct(_LITTLE_FORMATS[quantity.type])

    def swap(raw: bytes) -> Any:
        words = [raw[index : index + 2] for index in range(0, len(raw), 2)]
        return convert(layout.unpack(b"".join(reversed(words)))[0])

    return swap


def _energy_converter(quantity: Quantity) -> _Convert:
    scale = quantity.scale

    def exact(value: float) -> int:
        if not math.isfinite(value):
            raise UnusableReplyError(f"register_wh: expected a number, got {value}")
        energy_wh = round_half_even(Fraction(value) * scale)
        if abs(energy_wh) > MAX_ENERGY_WH:
            raise UnusableReplyError(f"register_wh: expected at most {MAX_ENERGY_WH} Wh, got {energy_wh}")
        return energy_wh

    if quantity.type in ("u16", "u32") and scale.denominator == 1 and scale.numerator <= 1000:
        return _Inline("{value} * {operand}", mul, scale.numerator)
    return exact


def _float_converter(quantity: Quantity) -> _Convert:
    numerator, denominator = quantity.scale.numerator, quantity.scale.denominator
    if quantity.type == "float32":

        def scaled(value: float) -> float | None:
            return value * numerator / denominator if math.isfinite(value) else None

        return scaled

    if numerator == 1:
        return _Inline("{value} / {operand}", truediv, denominator)

    def ratio(value: int) -> float:
        return value * numerator / denominator  # true division of integers rounds correctly

    return ratio


def _relay_converter(profile: ModbusProfile, block: Block) -> _Convert:
    state = profile.relay.state if profile.relay is not None else None
    if state is None:
        raise TypeError(f"{profile.name}: a relay without a state")
    if block.is_bits or state.bit is not None:
        mask = 1 if block.is_bits or state.bit is None else 1 << state.bit
        return _looked_up(lambda value: Relay.CLOSED if value & mask else Relay.OPEN)

    known = {state.open: Relay.OPEN, state.closed: Relay.CLOSED}
    return known.get  # a value that is neither is unknown


def _flags_converter(profile: ModbusProfile) -> _Convert:
    said = profile.flags.bits if profile.flags is not None else {}
    bits = {flag: bit for flag, bit in said.items() if flag not in profile.meanings.ignored}
    return _looked_up(lambda value: frozenset(flag for flag, bit in bits.items() if value >> bit & 1))


def _looked_up(meaning: Callable[[int], Any]) -> _Convert:
    return _Inline("{operand}[{value}]", _item_of, _Remembered(meaning))


def _item_of(key: Any, table: Mapping[Any, Any]) -> Any:
    return table[key]


class _Remembered(dict[int, Any]):
    """What a register's value means, worked out once; a register has at most 65,536 of them."""

    def __init__(self, meaning: _Convert) -> None:
        super().__init__()
        self._meaning = meaning

    def __missing__(self, value: int) -> Any:
        meaning = self[value] = self._meaning(value)
        return meaning
