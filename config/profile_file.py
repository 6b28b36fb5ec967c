"""A profile's shape: how to read and switch one model of module, as data.

The models check one value at a time; what takes several values to see is in `config/profiles.py`. Addresses are
0-based and may be written in hexadecimal (`0x0010`); scales are exact (`10`, `"0.01"`, `"1/3"`), never floats.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
)

from dormpower.domain.flags import FlagMeanings, Meaning, meanings_of
from dormpower.domain.samples import Flag

MAX_CHANNELS = 16
MAX_REGISTERS = 125  # MODBUS Application Protocol 1.1b3, FC03 and FC04
MAX_WRITE_WORDS = 16
_COILS = frozenset({1, 2})

WIDTHS: Mapping[str, int] = {
    "u16": 1,
    "i16": 1,
    "u32": 2,
    "i32": 2,
    "float32": 2,
    "u64": 4,
    "i64": 4,
}
"""Registers that a type takes."""


def _integer(value: Any) -> Any:
    """Take hexadecimal text as the number it is; YAML here knows decimal numbers alone."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"0x[0-9A-Fa-f]{1,8}", value):
        return int(value, 16)
    return value if isinstance(value, int) else None


def _exact(value: Any) -> Any:
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if not re.fullmatch(r"[0-9]+(?:\.[0-9]+|/[0-9]+)?", str(value)):
        return None
    try:
        return Fraction(str(value)) or None
    except ZeroDivisionError:
        return None


Address = Annotated[
    int,
    BeforeValidator(_integer),
    Field(ge=0, le=0xFFFF, description="an address 0–65535 or 0x0000–0xFFFF"),
]
Word = Annotated[
    int, BeforeValidator(_integer), Field(ge=0, le=0xFFFF, description="a word 0–65535 or 0x0000–0xFFFF")
]
Count = Annotated[int, BeforeValidator(_integer)]
Scale = Annotated[
    InstanceOf[Fraction],
    BeforeValidator(_exact),
    Field(description='an exact number above 0 such as 10, "0.01" or "1/3" (quoted: no float)'),
]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Type = Literal["u16", "i16", "u32", "i32", "u64", "i64", "float32"]
ReadFunction = Annotated[
    Literal[1, 2, 3, 4], Field(description="a function that reads: 3 or 4 (1 or 2 for a relay's coil)")
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Quantity(_Part):
    """Where a quantity of channel 0 is, and what one count of it is worth in the quantity's unit."""

    address: Address
    type: Type = Field(default="u16", description="u16, i16, u32, i32, u64, i64 or float32")
    scale: Scale = Fraction(1)
    words: Literal["big", "little"] = Field(default="big", description="big (high word first) or little")
    function: Literal[3, 4] | None = Field(default=None, description="3 or 4")

    @property
    def registers(self) -> int:
        """How many registers it takes."""
        return WIDTHS[self.type]


class Phase(_Part):
    """One phase of a multi-phase meter."""

    voltage_v: Quantity | None = None
    current_a: Quantity | None = None
    power_w: Quantity | None = None
    power_factor: Quantity | None = None


class Quantities(_Part):
    """The quantities of a channel; what the model lacks is left out."""

    register_wh: Quantity | None = None
    voltage_v: Quantity | None = None
    current_a: Quantity | None = None
    power_w: Quantity | None = None
    power_factor: Quantity | None = None
    frequency_hz: Quantity | None = None


class FlagBits(_Part):
    """A register whose bits are the module's flags."""

    address: Address
    function: Literal[3, 4] | None = Field(default=None, description="3 or 4")
    bits: Mapping[Flag, Annotated[int, Field(ge=0, le=15, description="a bit 0–15")]] = Field(
        description=f"a mapping of {', '.join(Flag)} to bits 0–15"
    )


class RelayState(_Part):
    """What to read back: a bit that is 1 when closed, a coil (function 1 or 2), or two values of a register."""

    address: Address
    function: ReadFunction | None = None
    bit: int | None = Field(default=None, ge=0, le=15, description="a bit 0–15")
    open: Word | None = None
    closed: Word | None = None

    @property
    def is_coil(self) -> bool:
        """Whether the state is a coil or a discrete input."""
        return self.function in _COILS


class RelayWrite(_Part):
    """The documented form of a switching command: nothing else is ever written to a module."""

    function: Literal[5, 6, 16] = Field(description="5 (coil), 6 (one register) or 16 (registers)")
    address: Address
    open: tuple[Word, ...] = Field(min_length=1, max_length=MAX_WRITE_WORDS, description="a list of words")
    close: tuple[Word, ...] = Field(min_length=1, max_length=MAX_WRITE_WORDS, description="a list of words")


class RelaySection(_Part):
    """How to switch, and what to read back; without `state` a command ends unconfirmed."""

    write: RelayWrite
    state: RelayState | None = None
    follow_s: float = Field(
        default=2.0, gt=0, le=30, description="seconds above 0, at most 30, that the contacts may take"
    )


class PowerLimit(_Part):
    """The module's own power limit, in W; 0 is none."""

    address: Address
    max_w: Word = 0xFFFF


class Energy(_Part):
    """What metering knows of the register. Without a modulus a register that falls is never a rollover."""

    resolution_wh: Count = Field(ge=1, le=100_000, description="1–100000 Wh, the register's smallest step")
    modulus_wh: Count | None = Field(default=None, ge=1000, description="1000 Wh or more, where it starts over")


class Reading(_Part):
    """How registers are read: what goes on the wire, and what the model bears."""

    function: Literal[3, 4] = Field(description="3 (holding registers) or 4 (input registers)")
    max_registers: Count = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS, description="1–125 registers")
    max_gap: Count = Field(
        default=0, ge=0, le=MAX_REGISTERS, description="0–125 unused registers that a read may run across"
    )
    gap_ms: Count = Field(default=0, ge=0, le=1000, description="0–1000 ms of rest before each request")


class Layout(_Part):
    """How many channels, and how many registers from one to the next."""

    count: Count = Field(default=1, ge=1, le=MAX_CHANNELS, description=f"1–{MAX_CHANNELS} channels")
    stride: Count = Field(default=0, ge=0, le=0x7FFF, description="0–32767 registers from one to the next")


class Identity(_Part):
    """A register by which the model is known for certain."""

    address: Address
    equals: Word
    function: Literal[3, 4] | None = Field(default=None, description="3 or 4")


class _Profile(_Part):
    name: Name = Field(description="a name of a–z, 0–9 and - (at most 63)")
    title: str = Field(min_length=1, description="what people call this model")
    source: str = Field(min_length=1, description="where the map was taken from")
    channels: Layout = Layout()
    phases: Literal[1, 3] = Field(default=1, description="1 or 3")
    energy: Energy
    self_restore_s: float | None = Field(
        default=None, gt=0, le=86400, description="seconds after which a tripped module closes by itself"
    )
    flag_meanings: Mapping[Flag, Meaning] = Field(
        default={}, description=f"a mapping of {', '.join(Flag)} to {', '.join(Meaning)}"
    )

    @cached_property
    def meanings(self) -> FlagMeanings:
        """What the model's flags mean: as the file says, else as usual."""
        return meanings_of(self.flag_meanings)

    @property
    def channel_count(self) -> int:
        """How many channels, counted from 0."""
        return self.channels.count

    @property
    def resolution_wh(self) -> int:
        """The register's smallest step."""
        return self.energy.resolution_wh

    @property
    def modulus_wh(self) -> int | None:
        """Where the register starts over, in Wh; None where that is not documented."""
        return self.energy.modulus_wh


class ModbusProfile(_Profile):
    """A model that speaks Modbus."""

    kind: Literal["modbus"]
    read: Reading
    identity: Identity | None = None
    quantities: Quantities
    phase_quantities: tuple[Phase, ...] = Field(default=(), max_length=3, description="a list of 3 phases")
    flags: FlagBits | None = None
    relay: RelaySection | None = None
    power_limit: PowerLimit | None = None
    never_write: tuple[Address, ...] = Field(
        default=(), max_length=64, description="a list of addresses at which a write does harm"
    )

    @property
    def has_relay(self) -> bool:
        """Whether a circuit on this model can be switched at all."""
        return self.relay is not None

    @property
    def confirms(self) -> bool:
        """Whether the relay's state can be read back."""
        return self.relay is not None and self.relay.state is not None

    @property
    def reported_flags(self) -> frozenset[Flag]:
        """The flags that the model has."""
        return frozenset(self.flags.bits) if self.flags is not None else frozenset()


class Topics(_Part):
    """Topic templates: `{site}` and `{module}` are filled in; in a command's `{channel}`, `{channel_1}` too."""

    reading: str = Field(min_length=1, description="a topic with {module}")
    status: str | None = Field(default=None, min_length=1, description="a topic with {module}")
    command: str | None = Field(default=None, min_length=1, description="a topic with {module}")
    result: str | None = Field(default=None, min_length=1, description="a topic with {module}")


class MqttQuantity(_Part):
    """Where a quantity stands in a channel's object (dots go deeper), and what one count is worth."""

    path: str = Field(min_length=1, description="a key, or keys with dots")
    scale: Scale = Fraction(1)
    form: Literal["number", "integer", "text"] = Field(
        default="number", description="number, integer, or text (a decimal number in quotes)"
    )


class MqttQuantities(_Part):
    """The quantities of a channel's object."""

    register_wh: MqttQuantity | None = None
    voltage_v: MqttQuantity | None = None
    current_a: MqttQuantity | None = None
    power_w: MqttQuantity | None = None
    power_factor: MqttQuantity | None = None
    frequency_hz: MqttQuantity | None = None


Token = Annotated[
    StrictBool | StrictInt | Annotated[StrictStr, StringConstraints(min_length=1, max_length=128)],
    Field(description="a word, true, false or an integer"),
]


class MqttRelay(_Part):
    """Where the relay's state stands, and the words for its two states, in readings as in commands."""

    path: str = Field(min_length=1, description="a key, or keys with dots")
    open: Token = "open"
    closed: Token = "closed"


class MqttFlags(_Part):
    """Where the list of flags stands, and the module's word for each flag."""

    path: str = Field(min_length=1, description="a key, or keys with dots")
    names: Mapping[Flag, str] = Field(description=f"a mapping of {', '.join(Flag)} to the module's words")


class MqttMessage(_Part):
    """A reading's shape: JSON keys (dots go deeper, a number takes an item of a list).

    Without `channels` the message is one object: where it holds several channels, the paths name them by
    `{channel}` (counted from 0) or `{channel_1}` (counted from 1).
    """

    at: str | None = Field(default=None, description="the key of the sample's time")
    at_form: Literal["rfc3339", "epoch_s", "epoch_ms"] = Field(
        default="rfc3339", description="rfc3339, epoch_s or epoch_ms"
    )
    boot_id: str | None = Field(default=None, description="the key of the boot's id")
    seq: str | None = Field(default=None, description="the key of the count within the boot")
    channels: str | None = Field(default=None, description="the key of the list of channels; none: one object")
    channel: str | None = Field(default=None, description="the key of a channel's number; none: its place")
    quantities: MqttQuantities
    relay: MqttRelay | None = None
    flags: MqttFlags | None = None


class MqttCommand(_Part):
    """A command's shape: a JSON object of these keys (dots go deeper), or with `form: text` the relay's word.

    A module whose commands carry no expiry is commanded only through a broker of MQTT 5, which throws away what
    is too old (invariant 17). The relay's words are those of the readings unless given.
    """

    form: Literal["json", "text"] = Field(default="json", description="json or text")
    id: str | None = Field(default="id", min_length=1, description="a key, or null")
    channel: str | None = Field(default="channel", min_length=1, description="a key, or null")
    relay: str = Field(default="relay", min_length=1, description="a key")
    expires_at: str | None = Field(default="expires_at", min_length=1, description="a key, or null")
    open: Token | None = None
    closed: Token | None = None
    constants: Mapping[str, Token] = Field(default={}, description="a mapping of keys to fixed values")


class MqttResult(_Part):
    """A result's shape: the command's id, how it ended, and the relay in the words of the readings."""

    id: str = Field(default="id", min_length=1, description="a key")
    outcome: str = Field(default="outcome", min_length=1, description="a key")
    relay: str | None = Field(default="relay", min_length=1, description="a key, or null")
    at: str | None = Field(default=None, min_length=1, description="the key of an RFC 3339 time")
    outcomes: Mapping[Literal["done", "expired", "repeated", "refused", "failed"], Token] = Field(
        default={name: name for name in ("done", "expired", "repeated", "refused", "failed")},
        min_length=1,
        description="a mapping of done, expired, repeated, refused, failed to the module's words",
    )


class MqttStatus(_Part):
    """The two words of the status topic."""

    online: str = Field(default="online", min_length=1, description="a word")
    offline: str = Field(default="offline", min_length=1, description="a word")


class MqttProfile(_Profile):
    """A model that speaks MQTT."""

    kind: Literal["mqtt"]
    topics: Topics
    message: MqttMessage
    command: MqttCommand | None = None
    result: MqttResult | None = None
    status: MqttStatus = MqttStatus()

    @property
    def has_relay(self) -> bool:
        """Whether a circuit on this model can be switched at all."""
        return self.command is not None and self.topics.command is not None

    @property
    def confirms(self) -> bool:
        """Whether readings report the relay: by these, or by results, a command is confirmed."""
        return self.has_relay and self.message.relay is not None

    @property
    def reported_flags(self) -> frozenset[Flag]:
        """The flags that the model has."""
        return frozenset(self.message.flags.names) if self.message.flags is not None else frozenset()


Profile = ModbusProfile | MqttProfile
