"""Readings as columns: a sequence of `Reading` that is kept as one array a quantity.

What intake judges in arrays goes to the store like this; a store that wants one reading at a time iterates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from dormpower.readings.instants import check_relay, from_ms, to_ms
from dormpower.readings.port import Reading

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RELAY_CODES = {"open": 0, "closed": 1, None: -1}
RELAYS = ("open", "closed", None)
"""By code, -1 the last."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReadingColumns(Sequence[Reading]):
    """Readings, each array as long as there are; `circuit` are places in `circuit_ids`.

    Instants are milliseconds since 1970 UTC, quantities as in `Reading`, not-a-number where unknown.
    """

    circuit_ids: Sequence[str]
    circuit: npt.NDArray[np.intp]
    at_ms: Integers
    register_wh: Integers
    power_w: Floats
    voltage_v: Floats
    current_a: Floats
    power_factor: Floats
    relay: npt.NDArray[np.int8]

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Self:
        """Return readings as columns. Raises ValueError for a relay's state that is none."""
        if isinstance(readings, cls):
            return readings
        try:
            relays = [RELAY_CODES[reading.relay] for reading in readings]
        except KeyError:
            for reading in readings:
                check_relay(reading.relay)
            raise
        return cls(
            circuit_ids=[reading.circuit_id for reading in readings],
            circuit=np.arange(len(readings)),
            at_ms=np.array(_instants(readings), np.int64),
            register_wh=np.array([reading.register_wh for reading in readings], np.int64),
            power_w=_floats([reading.power_w for reading in readings]),
            voltage_v=_floats([reading.voltage_v for reading in readings]),
            current_a=_floats([reading.current_a for reading in readings]),
            power_factor=_floats([reading.power_factor for reading in readings]),
            relay=np.array(relays, np.int8),
        )

    def followed_by(self, more: Sequence[Reading]) -> "ReadingColumns":
        """Return these readings and then others."""
        if not more:
            return self
        others = ReadingColumns.of(more)

        def joined(name: str) -> Any:
            return np.concatenate((getattr(self, name), getattr(others, name)))

        return ReadingColumns(
            circuit_ids=[*self.circuit_ids, *others.circuit_ids],
            circuit=np.concatenate((self.circuit, others.circuit + len(self.circuit_ids))),
            at_ms=joined("at_ms"),
            register_wh=joined("register_wh"),
            power_w=joined("power_w"),
            voltage_v=joined("voltage_v"),
            current_a=joined("current_a"),
            power_factor=joined("power_factor"),
            relay=joined("relay"),
        )

    def __len__(self) -> int:
        """Return how many readings these are."""
        return len(self.at_ms)

    @overload
    def __getitem__(self, place: int) -> Reading: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Reading]: ...

    def __getitem__(self, place: int | slice) -> Reading | Sequence[Reading]:
        """Return one reading, or a list of them."""
        if isinstance(place, slice):
            return list(self)[place]
        return self._reading(range(len(self))[place])

    def __iter__(self) -> Iterator[Reading]:
        """Yield the readings."""
        return (self._reading(place) for place in range(len(self)))

    def _reading(self, place: int) -> Reading:
        return Reading(
            circuit_id=self.circuit_ids[self.circuit[place]],
            at=from_ms(self.at_ms[place].item()),
            register_wh=self.register_wh[place].item(),
            power_w=known_number(self.power_w[place].item()),
            voltage_v=known_number(self.voltage_v[place].item()),
            current_a=known_number(self.current_a[place].item()),
            power_factor=known_number(self.power_factor[place].item()),
            relay=RELAYS[self.relay[place]],
        )


def known_number(value: float) -> float | None:
    """Return a value of a column; None for not-a-number."""
    return value if value == value else None  # noqa: PLR0124 - only not-a-number differs from itself


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array(values, np.float64)  # None becomes not-a-number


def _instants(readings: Sequence[Reading]) -> list[int]:
    """Return the readings' instants; those of one module's channels share theirs."""
    found: list[int] = []
    before, at_ms = None, 0
    for reading in readings:
        if reading.at is not before:
            before, at_ms = reading.at, to_ms(reading.at)
        found.append(at_ms)
    return found
