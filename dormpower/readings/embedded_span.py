"""One circuit's readings over a span of time, put together from the blocks and batches of an embedded store."""

import sqlite3
from collections.abc import Iterator
from typing import Self

import numpy as np
import numpy.typing as npt

from dormpower.readings.packing import NUMBER, ROW, Packed, Rows, latest_of_each_instant

PACKED_TO = "(SELECT coalesce(max(block), -9223372036854775808) FROM blocks WHERE complete)"
"""SQL for the last batch that is in a complete block."""

_BLOCKS = (
    "SELECT block, from_ms, to_ms FROM blocks WHERE complete AND to_ms >= ? AND from_ms < ? ORDER BY block"
)
_BATCHES = (
    f"SELECT batch, from_ms, to_ms, circuits FROM batches WHERE batch > {PACKED_TO}"  # noqa: S608
    " AND to_ms >= ? AND from_ms < ? ORDER BY batch"
)
_CHUNK = "SELECT from_ms, register_wh, wide, rows FROM chunks WHERE block = ? AND circuit = ?"


class CircuitSpan:
    """The rows of one circuit in `[start_ms, end_ms)`; valid within the snapshot that it was opened in."""

    def __init__(self, connection: sqlite3.Connection, circuit: int, start_ms: int, end_ms: int) -> None:
        self._connection = connection
        self._circuit = circuit
        self._start_ms = start_ms
        self._end_ms = end_ms
        blocks = connection.execute(_BLOCKS, (start_ms, end_ms)).fetchall()
        batches = connection.execute(_BATCHES, (start_ms, end_ms)).fetchall()
        self._blocks = len(blocks)
        self._numbers = [number for number, *_ in (*blocks, *batches)]
        self._places = _places(circuit, [circuits for *_, circuits in batches])
        # Of each block and batch, in the order in which later ones win.
        spans = np.array([(first, last) for _, first, last, *_ in (*blocks, *batches)], np.int64).reshape(-1, 2)
        self._from_ms, self._to_ms = spans[:, 0], spans[:, 1]
        self._to_ms[self._blocks :][[not len(one) for one in self._places]] = np.iinfo(
            np.int64
        ).min  # not in it

    @classmethod
    def of(cls, connection: sqlite3.Connection, circuit_id: str, start_ms: int, end_ms: int) -> Self | None:
        """Return a circuit's span; None for a circuit that the store has never seen."""
        row = connection.execute("SELECT circuit FROM circuits WHERE circuit_id = ?", (circuit_id,)).fetchone()
        return None if row is None else cls(connection, row[0], start_ms, end_ms)

    def windows(self, width_ms: int) -> Iterator[Rows]:
        """Yield the rows in order of time, one window after the other; empty ones are passed over.

        Windows are aligned to multiples of `width_ms` since the epoch.
        """
        start_ms = self._start_ms
        while start_ms < self._end_ms:
            ahead = self._from_ms[self._to_ms >= start_ms]
            if not len(ahead):
                return
            start_ms = max(start_ms, int(ahead.min()))
            until_ms = min(self._end_ms, (start_ms // width_ms + 1) * width_ms)
            rows = self._rows(start_ms, until_ms)
            if len(rows):
                yield rows
            start_ms = until_ms

    def _rows(self, start_ms: int, until_ms: int) -> Rows:
        touched = np.flatnonzero((self._to_ms >= start_ms) & (self._from_ms < until_ms)).tolist()
        pieces = [self._of_block(one) if one < self._blocks else self._of_batch(one) for one in touched]
        rows = np.concatenate([np.empty(0, ROW), *pieces])
        return latest_of_each_instant(rows[(rows["at_ms"] >= start_ms) & (rows["at_ms"] < until_ms)])

    def _of_block(self, index: int) -> Rows:
        row = self._connection.execute(_CHUNK, (self._numbers[index], self._circuit)).fetchone()
        return np.empty(0, ROW) if row is None else Packed(*row).rows()

    def _of_batch(self, index: int) -> Rows:
        row = self._connection.execute(
            "SELECT from_ms, register_wh, wide, rows FROM batches WHERE batch = ?", (self._numbers[index],)
        ).fetchone()
        return Packed(*row).rows()[self._places[index - self._blocks]]


def _places(circuit: int, batches: list[bytes]) -> list[npt.NDArray[np.int64]]:
    """Return where in each batch a circuit's rows are."""
    ends = np.cumsum([len(one) // NUMBER.itemsize for one in batches])
    found = np.flatnonzero(np.frombuffer(b"".join(batches), NUMBER) == circuit)
    parts = np.split(found, np.searchsorted(found, ends))[:-1] if batches else []
    return [part - start for part, start in zip(parts, (0, *ends.tolist()), strict=False)]
