"""Steady rows: one row a circuit, in arrays, of what a plain sample is judged by and changes.

Theory of operation
-------------------
Nearly every sample of nearly every circuit is *plain*: a believed step of a register, the relay as it was, no
flag, a load that no rule has to see, energy enough. Those are judged many at a time (`plain_run.py`) on these
rows. Every other sample is judged by itself, on objects: intake's meter states and control's memory.

A circuit's row has two halves, intake's (`positions`) and control's (`lately`). Its samples are plain only
while both owners have said so: `stepping` (the register is believed, and its samples come as columns) and
`calm` (nothing stands, nothing waits, and the rules that watch rest). Whoever finds it otherwise takes its mark
back, and puts it on again with the row written anew.

Plain samples move the rows alone: the row is *ahead* of its owner's object, which reads it from there, until
the object is written next. So there is one truth at each moment: the row where it is ahead, else the object.

Instants are microseconds since 1970 UTC.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from dormpower.domain.loadsteps import PowerSample
from gateway.columns import Codes, Floats, Integers, Truths

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
NEVER_US = -(2**62)
FOR_EVER_US = 2**62
NO_ACCOUNT = -1
_FIRST_ACCOUNTS = 64


def to_us(at: datetime) -> int:
    """Return an instant as the rows keep it."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(at_us: int) -> datetime:
    """Return a row's instant."""
    return _EPOCH + timedelta(microseconds=at_us)


_KINDS: Mapping[Any, Any] = {Integers: np.int64, Floats: np.float64, Codes: np.int8}


def as_array(marks: bytearray) -> Truths:
    """Return a mark of all circuits as an array; what is written to it is the mark."""
    return np.frombuffer(marks, np.bool_)


class _Columns:
    """Arrays of one length, one a field."""

    __slots__ = ()

    def at(self, rows: npt.NDArray[Any]) -> Self:
        """Return a copy of some rows."""
        return type(self)(*(getattr(self, one.name)[rows] for one in fields(self)))  # type: ignore[arg-type]

    def put(self, rows: npt.NDArray[Any], new: Self) -> None:
        """Overwrite some rows."""
        for one in fields(self):  # type: ignore[arg-type]
            getattr(self, one.name)[rows] = getattr(new, one.name)

    @classmethod
    def empty(cls, length: int) -> Self:
        """Return rows of nothing."""
        return cls(*(np.zeros(length, _KINDS[one.type]) for one in fields(cls)))  # type: ignore[arg-type]


@dataclass(slots=True, eq=False)
class Positions(_Columns):
    """Intake's half: the register's position, and the newest sample's instant."""

    register_wh: Integers
    register_at: Integers
    metered_wh: Integers
    seen_at: Integers


@dataclass(slots=True, eq=False)
class Lately(_Columns):
    """Control's half: the last sample, its powers and those of the two before it, and the last with a register.

    `counted_wh` is the metered energy that the account was charged with in memory. Not-a-number is unknown.
    """

    counted_wh: Integers
    before_at: Integers
    first_at: Integers
    second_at: Integers
    last_at: Integers
    first_w: Floats
    second_w: Floats
    last_w: Floats
    first_va: Floats
    second_va: Floats
    last_va: Floats
    fresh_at: Integers
    fresh_register_wh: Integers
    fresh_voltage_v: Floats
    fresh_current_a: Floats
    fresh_power_w: Floats
    fresh_power_factor: Floats
    fresh_frequency_hz: Floats
    fresh_relay: Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Within which samples a rule that rests need not be shown any.

    At most `below_w`, less than `rise_w` above the level of the latest (`loadsteps`), and no further than
    `longest_gap` after the last.
    """

    below_w: float = inf
    rise_w: float = inf
    longest_gap: timedelta = timedelta.max


class Rests(Protocol):
    """A rule that watches samples, and makes nothing but their latest powers of them while it rests."""

    def bounds_of(self, circuit_id: str) -> Bounds:
        """Return within which samples it goes on resting."""

    def recent(self, circuit_id: str, watched: object) -> Sequence[PowerSample] | None:
        """Return the powers that it goes by: `BEFORE_SAMPLES` of them or none; None where it does not rest."""

    def resting(self, circuit_id: str, recent: tuple[PowerSample, ...]) -> object:
        """Return what it makes of samples of which these are the latest: the reverse of `recent`."""


class AccountRows:
    """Prepaid accounts in memory: available = base − metered."""

    def __init__(self) -> None:
        self.base_wh = np.zeros(_FIRST_ACCOUNTS, np.int64)
        self.metered_wh = np.zeros(_FIRST_ACCOUNTS, np.int64)
        self.count = 0

    def add(self) -> int:
        """Return a new account's row."""
        if self.count == len(self.base_wh):
            self.base_wh = np.concatenate((self.base_wh, np.zeros_like(self.base_wh)))
            self.metered_wh = np.concatenate((self.metered_wh, np.zeros_like(self.metered_wh)))
        self.count += 1
        return self.count - 1


class SteadyRows:
    """The rows of a site's circuits, each known by its number."""

    def __init__(self, circuit_ids: Iterable[str]) -> None:
        self.circuit_ids: Sequence[str] = tuple(circuit_ids)
        self.row_of = {circuit_id: row for row, circuit_id in enumerate(self.circuit_ids)}
        count = len(self.circuit_ids)
        self.accounts = AccountRows()
        # Bytes, because they are asked one by one too: an array's element would be an object each time.
        self.stepping, self.positions_ahead = bytearray(count), bytearray(count)
        self.calm, self.lately_ahead = bytearray(count), bytearray(count)
        # intake's
        self.positions = Positions.empty(count)
        self.day_ends_at = np.zeros(count, np.int64)
        self.resolution_wh = np.zeros(count, np.int64)
        self.plausible_w = np.zeros(count, np.int64)
        self.slack_ms = np.zeros(count, np.int64)
        # control's
        self.lately = Lately.empty(count)
        self.judged_relay = np.full(count, -1, np.int8)
        self.account = np.full(count, NO_ACCOUNT, np.int64)
        self.below_w = np.full(count, inf)
        self.rise_w = np.full(count, inf)
        self.longest_gap_us = np.full(count, FOR_EVER_US, np.int64)
        self.quiet_above_wh = -inf
        self.watchers: Sequence[Rests] = ()

    def go_by(self, watchers: Sequence[Rests], *, quiet_above_wh: float) -> None:
        """Take note of the rules that watch samples, and of the balance above which none decides anything."""
        self.watchers, self.quiet_above_wh = watchers, quiet_above_wh
        for row, circuit_id in enumerate(self.circuit_ids):
            bounds = [one.bounds_of(circuit_id) for one in watchers]
            self.below_w[row] = min((one.below_w for one in bounds), default=inf)
            self.rise_w[row] = min((one.rise_w for one in bounds), default=inf)
            longest_gap = min((one.longest_gap for one in bounds), default=timedelta.max)
            self.longest_gap_us[row] = min(longest_gap // _MICROSECOND, FOR_EVER_US)
