"""Readings as arrays of fixed-width integers: the form in which the embedded store keeps them.

Volts, amps and watts are thousandths, the power factor ten-thousandths, rounded half-even; registers are exact.
A quantity that is unknown, not finite or beyond the integers is the smallest integer of its field. Packed rows
have one instant and one register in full and the rest as differences from them, in 23 bytes a reading where
everything fits 32 bits and in 49 where it does not. A *chunk* is one circuit's readings in order of time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dormpower.readings.columns import RELAYS, Floats, ReadingColumns, known_number
from dormpower.readings.instants import from_ms
from dormpower.readings.port import Reading

Rows = npt.NDArray[Any]
"""Readings of one or more circuits, of dtype `ROW`."""

_QUANTITIES = (("power_w", 1_000), ("voltage_v", 1_000), ("current_a", 1_000), ("power_factor", 10_000))

ROW = np.dtype(
    [("at_ms", "<i8"), ("register_wh", "<i8"), *((name, "<i8") for name, _ in _QUANTITIES), ("relay", "i1")]
)
_NARROW = np.dtype(
    [
        ("at_ms", "<u4"),
        ("register_wh", "<i4"),
        ("power_w", "<i4"),
        ("voltage_v", "<i4"),
        ("current_a", "<i4"),
        ("power_factor", "<i2"),
        ("relay", "i1"),
    ]
)
_UNKNOWN = np.iinfo(np.int64).min
_LARGEST_SCALED = 2.0**62
NUMBER = np.dtype("<i4")
"""Of a circuit's number beside its row."""
NARROW_BYTES, WIDE_BYTES = _NARROW.itemsize, ROW.itemsize
"""Of a reading in a chunk."""


def rows_of(readings: Sequence[Reading]) -> Rows:
    """Return readings as rows, in their order. Raises ValueError for a relay's state that is none."""
    columns = ReadingColumns.of(readings)
    rows = np.empty(len(columns), ROW)
    rows["at_ms"] = columns.at_ms
    rows["register_wh"] = columns.register_wh
    rows["relay"] = columns.relay
    for name, scale in _QUANTITIES:
        rows[name] = _scaled(getattr(columns, name), scale)
    return rows


def readings_of(circuit_id: str, rows: Rows) -> list[Reading]:
    """Return one circuit's rows as readings."""
    means = [_floats(rows[name], scale) for name, scale in _QUANTITIES]
    return _readings(circuit_id, rows["at_ms"], rows["register_wh"], means, rows["relay"])


def latest_of_each_instant(rows: Rows) -> Rows:
    """Return one circuit's rows in order of time; of the same instant the one that came last."""
    rows = rows[np.argsort(rows["at_ms"], kind="stable")]
    if len(rows) < 2:
        return rows
    newest: Rows = rows[np.append(np.diff(rows["at_ms"]) != 0, True)]
    return newest


def steps_of(circuit_id: str, rows: Rows, *, every_ms: int) -> list[Reading]:
    """Return one reading for each step with rows: means, the last register, the last known relay.

    The rows are in order of time.
    """
    if not len(rows):
        return []
    step_ms = rows["at_ms"] // every_ms * every_ms
    firsts = np.flatnonzero(np.append(True, np.diff(step_ms) != 0))
    lasts = np.append(firsts[1:], len(rows)) - 1
    means = []
    for name, scale in _QUANTITIES:
        values = rows[name]
        known = values != _UNKNOWN
        counts = np.add.reduceat(known, firsts, dtype=np.int64)
        sums = np.add.reduceat(np.where(known, values, 0), firsts)  # of integers, so exact
        means.append(np.divide(sums, counts * scale, out=np.full(len(firsts), np.nan), where=counts > 0))
    reported = np.where(rows["relay"] >= 0, np.arange(len(rows)), -1)
    last_reported = np.maximum.reduceat(reported, firsts)
    relays = np.where(last_reported >= firsts, rows["relay"][last_reported], -1)
    return _readings(circuit_id, step_ms[firsts], rows["register_wh"][lasts], means, relays)


def _readings(
    circuit_id: str,
    at_ms: npt.NDArray[Any],
    register_wh: npt.NDArray[Any],
    quantities: Sequence[npt.NDArray[np.float64]],
    relays: npt.NDArray[Any],
) -> list[Reading]:
    columns = (at_ms, register_wh, *quantities, relays)
    return [
        Reading(
            circuit_id=circuit_id,
            at=from_ms(at),
            register_wh=register,
            power_w=known_number(power_w),
            voltage_v=known_number(voltage_v),
            current_a=known_number(current_a),
            power_factor=known_number(power_factor),
            relay=RELAYS[relay],
        )
        for at, register, power_w, voltage_v, current_a, power_factor, relay in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows as bytes; `wide` tells which of the two widths `body` has."""

    from_ms: int
    register_wh: int
    wide: bool
    body: bytes

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Pack rows, one at least, in the order in which they are; they are changed by that."""
        from_ms, register_wh = int(rows["at_ms"].min()), int(rows["register_wh"].min())
        rows["at_ms"] -= from_ms
        rows["register_wh"] -= register_wh
        narrow, fits = _narrowed(rows)
        wide = not fits.all()
        return cls(from_ms, register_wh, wide, (rows if wide else narrow).tobytes())

    def rows(self) -> Rows:
        """Return the rows."""
        packed = np.frombuffer(self.body, ROW if self.wide else _NARROW)
        rows = np.empty(len(packed), ROW)
        for name in packed.dtype.names or ():
            rows[name] = packed[name]
        if not self.wide:
            for name, _ in _QUANTITIES:
                rows[name][packed[name] == np.iinfo(packed.dtype[name]).min] = _UNKNOWN
        rows["at_ms"] += self.from_ms
        rows["register_wh"] += self.register_wh
        return rows


@dataclass(frozen=True, slots=True)
class Chunk:
    """One circuit's readings."""

    circuit: int
    packed: Packed


def chunks_of(circuits: npt.NDArray[Any], rows: Rows) -> Iterator[Chunk]:
    """Yield one chunk a circuit, in order of `circuits` (the numbers of the rows' circuits).

    Of a circuit's rows of the same instant the last one counts.
    """
    if not len(rows):
        return
    circuits, rows = _in_order(circuits, rows)
    firsts = np.flatnonzero(np.append(True, np.diff(circuits) != 0))
    sizes = np.diff(np.append(firsts, len(rows)))
    bases = rows[firsts]
    rows["at_ms"] -= np.repeat(bases["at_ms"], sizes)
    rows["register_wh"] -= np.repeat(bases["register_wh"], sizes)
    narrow, fits = _narrowed(rows)
    all_fit = np.logical_and.reduceat(fits, firsts)
    bodies = {
        False: (memoryview(narrow.tobytes()), _NARROW.itemsize),
        True: (memoryview(b"" if all_fit.all() else rows.tobytes()), ROW.itemsize),
    }
    for circuit, first, size, fit, at_ms, register_wh in zip(
        circuits[firsts].tolist(),
        firsts.tolist(),
        sizes.tolist(),
        all_fit.tolist(),
        bases["at_ms"].tolist(),
        bases["register_wh"].tolist(),
        strict=True,
    ):
        body, width = bodies[not fit]
        packed = bytes(body[first * width : (first + size) * width])
        yield Chunk(circuit, Packed(at_ms, register_wh, not fit, packed))


def _in_order(circuits: npt.NDArray[Any], rows: Rows) -> tuple[npt.NDArray[Any], Rows]:
    """Return rows by circuit and time; of the same circuit and instant the one that came last."""
    small = circuits.astype(np.uint16) if circuits.min() >= 0 and circuits.max() < 0x10000 else circuits
    order = np.argsort(small, kind="stable")  # of 16 bits by radix, and rows come in order of time mostly
    at_ms = rows["at_ms"][order]
    same_circuit = np.diff(circuits[order]) == 0
    steps_ms = np.diff(at_ms)
    if (steps_ms[same_circuit] <= 0).any():
        order = np.lexsort((rows["at_ms"], circuits))  # stable: later rows of an instant stay behind earlier
        kept = np.append((np.diff(circuits[order]) != 0) | (np.diff(rows["at_ms"][order]) != 0), True)
        order = order[kept]
    return circuits[order], rows[order]


def _narrowed(rows: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Return the rows (differences already) in the narrow width, and which of them lost nothing by it."""
    narrow = np.empty(len(rows), _NARROW)
    fits = np.ones(len(rows), np.bool_)
    for name in _NARROW.names or ():
        values, bounds = rows[name], np.iinfo(_NARROW[name])
        if name in ("at_ms", "register_wh", "relay"):
            fits &= (values >= bounds.min) & (values <= bounds.max)
            narrow[name] = values.astype(_NARROW[name])
        else:
            known = values != _UNKNOWN
            fits &= ~known | ((values > bounds.min) & (values <= bounds.max))
            narrow[name] = np.where(known, values, bounds.min).astype(_NARROW[name])
    return narrow, fits


def _scaled(values: Floats, scale: int) -> npt.NDArray[np.int64]:
    scaled = np.rint(values * scale)
    return np.where(np.abs(scaled) < _LARGEST_SCALED, scaled, float(_UNKNOWN)).astype(np.int64)


def _floats(values: npt.NDArray[np.int64], scale: int) -> npt.NDArray[np.float64]:
    return np.where(values == _UNKNOWN, np.nan, values / scale)


def numbers_of(readings: ReadingColumns, numbers: Mapping[str, int]) -> npt.NDArray[Any]:
    """Return the circuits' numbers of readings."""
    return np.array([numbers[circuit_id] for circuit_id in readings.circuit_ids], NUMBER)[readings.circuit]
