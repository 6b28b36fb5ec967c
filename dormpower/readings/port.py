"""The readings store's port: append accepted samples, read them back as they were or in steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MAX_ITEMS = 10_000


class UnableToReachReadingsError(Exception):
    """The store can't be reached or refuses; the message says which store and why."""


@dataclass(slots=True, unsafe_hash=True)
class Reading:
    """One accepted sample of a circuit. `at` is kept to the millisecond; (circuit, at) is its identity.

    A value: replaced, never changed. Not frozen, and intake fills the fields in a row, for speed of making;
    others name them.
    """

    circuit_id: str
    at: datetime
    register_wh: int
    power_w: float | None = None
    voltage_v: float | None = None
    current_a: float | None = None
    power_factor: float | None = None
    relay: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingTags:
    """Where a circuit belongs: the tags of its readings (CONTRACT: InfluxDB)."""

    campus: str
    building: str
    room: str
    kind: str
    module: str


class ReadingsStore(Protocol):
    """A time series of accepted readings. Writing the same reading again changes nothing."""

    def append(self, readings: Sequence[Reading]) -> None:
        """Store durably: on return the readings survive kill -9 (in the store or in its outbox).

        Raises UnableToReachReadingsError where even that is not possible.
        """

    def between(
        self, circuit_id: str, start: datetime, end: datetime, *, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        """Return the readings of `[start, end)` in order of time, at most `limit`."""

    def every(
        self, circuit_id: str, start: datetime, end: datetime, *, every_s: int, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        """Return one row for each non-empty step of `every_s` seconds, aligned to the epoch.

        Power, volts, amps and power factor are means over the step, `register_wh` and `relay` the last of the
        step; `at` is the start of the step.
        """

    def drop_before(self, at: datetime) -> int:
        """Let readings older than `at` age out; return how many went (0 where the server does it itself)."""

    def compact(self) -> int:
        """Bring what came in lately into the form in which it is kept, where that is due.

        Return how many readings that were (0 where the server does it itself).
        """

    def close(self) -> None:
        """Stop background work and give back what is held."""
