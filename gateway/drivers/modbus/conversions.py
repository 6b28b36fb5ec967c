"""From a register's value to a quantity: how one want of a profile is converted. Pure."""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from operator import mul, truediv
from typing import Any

import numpy as np
import numpy.typing as npt

from config.profile_file import ModbusProfile, Quantity
from dormpower.domain.samples import Relay
from dormpower.domain.units import MAX_ENERGY_WH, round_half_even
from gateway.columns import Codes
from gateway.drivers.modbus.planning import Block, Want
from gateway.ports import UnusableReplyError

Convert = Callable[[Any], Any]

_LITTLE_FORMATS = {"u32": ">I", "i32": ">i", "float32": ">f", "u64": ">Q", "i64": ">q"}
_VALUES = 0x10000
_UNSEEN = np.iinfo(np.int8).min


@dataclass(frozen=True, slots=True)
class Inline:
    """A conversion so simple that it can be written out: `template` is `apply` as Python."""

    template: str
    apply: Callable[[Any, Any], Any]
    operand: Any

    @property
    def is_constant(self) -> bool:
        """Whether it is the operand whatever the value: a quantity that the profile lacks."""
        return self.apply is _second

    def __call__(self, value: Any) -> Any:
        """Convert a value, or an array of them where it is not looked up."""
        return self.apply(value, self.operand)


def always(value: Any) -> Convert:
    """Return what makes the same of every value."""
    return Inline("{operand}", _second, value)


def _second(_: Any, second: Any) -> Any:
    return second


def converter_of(profile: ModbusProfile, block: Block, want: Want) -> Convert:
    """Return how a value of a want becomes the field that it is for; raises UnusableReplyError at work."""
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


def _in_order(quantity: Quantity, convert: Convert) -> Convert:
    layout = struct.Struct(_LITTLE_FORMATS[quantity.type])

    def swap(raw: bytes) -> Any:
        words = [raw[index : index + 2] for index in range(0, len(raw), 2)]
        return convert(layout.unpack(b"".join(reversed(words)))[0])

    return swap


def _energy_converter(quantity: Quantity) -> Convert:
    scale = quantity.scale

    def exact(value: float) -> int:
        if not math.isfinite(value):
            raise UnusableReplyError(f"register_wh: expected a number, got {value}")
        energy_wh = round_half_even(Fraction(value) * scale)
        if abs(energy_wh) > MAX_ENERGY_WH:
            raise UnusableReplyError(f"register_wh: expected at most {MAX_ENERGY_WH} Wh, got {energy_wh}")
        return energy_wh

    if quantity.type in ("u16", "u32") and scale.denominator == 1 and scale.numerator <= 1000:
        return Inline("{value} * {operand}", mul, scale.numerator)
    return exact


def _float_converter(quantity: Quantity) -> Convert:
    numerator, denominator = quantity.scale.numerator, quantity.scale.denominator
    if quantity.type == "float32":

        def scaled(value: float) -> float | None:
            return value * numerator / denominator if math.isfinite(value) else None

        return scaled

    if numerator == 1:
        return Inline("{value} / {operand}", truediv, denominator)

    def ratio(value: int) -> float:
        return value * numerator / denominator  # true division of integers rounds correctly

    return ratio


def _relay_converter(profile: ModbusProfile, block: Block) -> Convert:
    state = profile.relay.state if profile.relay is not None else None
    if state is None:
        raise TypeError(f"{profile.name}: a relay without a state")
    if block.is_bits or state.bit is not None:
        mask = 1 if block.is_bits or state.bit is None else 1 << state.bit
        return _looked_up(lambda value: Relay.CLOSED if value & mask else Relay.OPEN)

    known = {state.open: Relay.OPEN, state.closed: Relay.CLOSED}
    return _looked_up(known.get)  # a value that is neither is unknown


def _flags_converter(profile: ModbusProfile) -> Convert:
    said = profile.flags.bits if profile.flags is not None else {}
    bits = {flag: bit for flag, bit in said.items() if flag not in profile.meanings.ignored}
    return _looked_up(lambda value: frozenset(flag for flag, bit in bits.items() if value >> bit & 1))


def _looked_up(meaning: Callable[[int], Any]) -> Convert:
    return Inline("{operand}[{value}]", _item_of, Remembered(meaning))


def _item_of(key: Any, table: Mapping[Any, Any]) -> Any:
    return table[key]


class Remembered(dict[int, Any]):
    """What a register's value means, worked out once; a register has at most 65,536 of them."""

    def __init__(self, meaning: Convert) -> None:
        super().__init__()
        self._meaning = meaning
        self._codes: Codes | None = None

    def __missing__(self, value: int) -> Any:
        meaning = self[value] = self._meaning(value)
        return meaning

    def codes(self, values: npt.NDArray[Any], code_of: Callable[[Any], int]) -> Codes:
        """Return the meanings of 16 bit values as small codes; `code_of` is the same at each call."""
        if self._codes is None:
            self._codes = np.full(_VALUES, _UNSEEN, np.int8)
        found: Codes = self._codes[values]
        unseen = found == _UNSEEN
        if unseen.any():
            for value in np.unique(values[unseen]).tolist():
                self._codes[value] = code_of(self[value])
            found = self._codes[values]
        return found
