"""Decoding many polls of one model together: each quantity of all of them is one array.

That takes a model whose poll is one answer of 16 and 32 bit integers, each with a simple scale (`Inline`), and
the sums come out to the last bit as they do one by one: integers of that size are exact as floats, and both
ways round one division. Energies of such a model are whole Wh and within their bounds whatever the answer says.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gateway.columns import RELAY_CODES, ChannelColumns
from gateway.drivers.modbus.conversions import Convert, Inline, Remembered
from gateway.drivers.modbus.planning import Block, Plan

FieldPlace = tuple[int, Convert]
"""Which of the answer's values a field is made of, and how."""

_TYPES = {"u16": ">u2", "i16": ">i2", "u32": ">u4", "i32": ">i4"}
_FLOATS = ("voltage_v", "current_a", "power_w", "power_factor", "frequency_hz")


class Columns:
    """Decodes answers of one block in columns; `of` says for which plans."""

    def __init__(self, record: np.dtype[Any], channels: Mapping[int, Mapping[str, FieldPlace]]) -> None:
        self._record = record
        self._channels = channels

    @classmethod
    def of(cls, plan: Plan, channels: Mapping[int, Mapping[str, FieldPlace]]) -> Self | None:
        """Return what decodes a plan's answers in columns; None where they have to be decoded one by one."""
        if len(plan.blocks) != 1 or any(want.phase for want in plan.blocks[0].wants):
            return None
        record = _record(plan.blocks[0])
        converters = [convert for fields in channels.values() for _, convert in fields.values()]
        if record is None or not all(isinstance(convert, Inline) for convert in converters):
            return None
        return cls(record, channels)

    def decode(self, answers: Sequence[bytes]) -> list[ChannelColumns]:
        """Return each channel of the answers, all of them as long as the plan's block says."""
        records = np.frombuffer(b"".join(answers), self._record)
        return [_channel(number, fields, records) for number, fields in self._channels.items()]


def _record(block: Block) -> np.dtype[Any] | None:
    """Return the layout of an answer's PDU, its values named by their places."""
    if block.is_bits:
        return None
    types, offsets = [], []
    for want in block.slots():
        quantity = want.quantity
        if quantity is not None and quantity.words == "little" and want.registers > 1:
            return None
        kind = "u16" if quantity is None else quantity.type
        if kind not in _TYPES:
            return None
        types.append(_TYPES[kind])
        offsets.append(2 + 2 * (want.address - block.address))
    return np.dtype(
        {
            "names": [str(place) for place in range(len(types))],
            "formats": types,
            "offsets": offsets,
            "itemsize": 2 + 2 * block.count,
        }
    )


def _channel(number: int, fields: Mapping[str, FieldPlace], records: npt.NDArray[Any]) -> ChannelColumns:
    floats = {name: _floats(fields[name], records) for name in _FLOATS}
    return ChannelColumns(
        channel=number,
        register_wh=_integers(fields["register_wh"], records),
        relay=_codes(fields["relay"], records, RELAY_CODES.__getitem__),
        flagged=_codes(fields["flags"], records, bool).astype(np.bool_),
        **floats,
    )


def _integers(field: FieldPlace, records: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    converted = _converted(field, records)
    return None if converted is None else np.asarray(converted, np.int64)


def _floats(field: FieldPlace, records: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    converted = _converted(field, records)
    return np.full(len(records), np.nan) if converted is None else np.asarray(converted, np.float64)


def _converted(field: FieldPlace, records: npt.NDArray[Any]) -> Any:
    place, convert = field
    if isinstance(convert, Inline) and convert.is_constant:
        return convert.operand
    return convert(records[str(place)].astype(np.int64))


def _codes(field: FieldPlace, records: npt.NDArray[Any], code_of: Any) -> npt.NDArray[np.int8]:
    place, convert = field
    if not isinstance(convert, Inline):
        raise TypeError(f"{convert}: a meaning that can't be looked up")
    if convert.is_constant:
        return np.full(len(records), code_of(convert.operand), np.int8)
    meanings: Remembered = convert.operand
    return meanings.codes(records[str(place)], code_of)
