"""From the answers of a plan's reads to channel samples. Pure; prepared once a profile, called for every poll.

A model that is read in one answer of plain integers can be decoded in columns too, many polls at a time
(`column_decoding.py`); its answers are handed on as they came.

Energy is decoded exactly: integers by their rational scale, float32 as the fraction that it is, then rounded
half-even to the Wh once. Volts, amps and watts are scaled by an exact ratio and end as floats.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from config.profile_file import ModbusProfile
from dormpower.domain.samples import ChannelSample
from gateway.columns import ChannelColumns, PackedChannels
from gateway.drivers.modbus.column_decoding import Columns, FieldPlace
from gateway.drivers.modbus.conversions import Convert, Inline, always, converter_of
from gateway.drivers.modbus.planning import Block, Plan, Want

_SAMPLE_FIELDS = fields(ChannelSample)[1:]  # after the channel's number


@dataclass(frozen=True, slots=True)
class PhaseSample:
    """One phase of a multi-phase meter."""

    voltage_v: float | None = None
    current_a: float | None = None
    power_w: float | None = None
    power_factor: float | None = None


class Decoder:
    """Turns the answers of one plan, in order of its blocks, into channel samples."""

    def __init__(self, profile: ModbusProfile, plan: Plan) -> None:
        self._layouts = [block.layout() for block in plan.blocks]
        self._channels: list[int] = []
        self._phases: list[list[tuple[int, str, int, Convert]]] = []
        places = _places(plan)
        of_channels: dict[int, dict[str, FieldPlace]] = {}
        for channel in sorted({want.channel for block in plan.blocks for want in block.wants}):
            found = {one.name: (0, always(one.default)) for one in _SAMPLE_FIELDS}
            phases: list[tuple[int, str, int, Convert]] = []
            for block in plan.blocks:
                for want in block.wants:
                    if want.channel != channel:
                        continue
                    convert = converter_of(profile, block, want)
                    place = places[block, want]
                    if want.phase:
                        phases.append((want.phase, want.name, place, convert))
                    else:
                        found[want.name] = (place, convert)
            self._channels.append(channel)
            of_channels[channel] = found
            self._phases.append(phases)
        self._has_phases = any(self._phases)
        self._samples = _written_out(self._channels, [list(found.values()) for found in of_channels.values()])
        self._columns = Columns.of(plan, of_channels)

    def channels(self, answers: Sequence[bytes]) -> Sequence[ChannelSample]:
        """Return the samples as `decode` does, or as they came where many can be decoded together later."""
        return self.decode(answers) if self._columns is None else PackedChannels(self, answers[0])

    def columns(self, answers: Sequence[bytes]) -> Sequence[ChannelColumns]:
        """Return the channels of many polls, of those of which `channels` gave the answers as they came."""
        if self._columns is None:
            raise TypeError("answers of a model that are decoded one by one")
        return self._columns.decode(answers)

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
    channels: Sequence[int], conversions: Sequence[Sequence[FieldPlace]]
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
            if isinstance(convert, Inline):
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
    values: Sequence[Any], phases: Sequence[tuple[int, str, int, Convert]]
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
