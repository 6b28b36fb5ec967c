"""The embedded readings store: one SQLite file, one writer, many readers, also from other processes.

Theory of operation
-------------------
Readings arrive by time and are asked for by circuit. A row each, in a table in order of (circuit, at), would
touch one page of the file for nearly every reading. So what arrives is kept as it comes: a *batch* is one row,
the readings of one `append` packed into an array (`packing.py`), durable when `append` returns. From time to
time `compact` turns the oldest batches into a *block*: one *chunk* a circuit, written side by side. A span of a
circuit is then one chunk of each block that it touches, and what is left of the batches.

A block is planned (`complete` 0, its number that of its last batch), written in short transactions, declared
complete, and only then are its batches deleted, in short transactions too. Whatever ends the process between
two of them, the next `compact` goes on with the same plan. Readers take complete blocks and the batches after
the newest of them, in one snapshot: nothing is missing and nothing twice.

The same circuit and instant again takes the place of what was there: later blocks and batches win.
"""

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dormpower.readings.columns import ReadingColumns
from dormpower.readings.embedded_file import open_reader, open_writer, put_chunks, snapshot, transaction
from dormpower.readings.embedded_span import PACKED_TO, CircuitSpan
from dormpower.readings.instants import check_page, to_ms_up
from dormpower.readings.packing import (
    NARROW_BYTES,
    NUMBER,
    WIDE_BYTES,
    Chunk,
    Packed,
    Rows,
    chunks_of,
    numbers_of,
    readings_of,
    rows_of,
    steps_of,
)
from dormpower.readings.port import MAX_ITEMS, Reading, UnableToReachReadingsError

IDLE_READERS = 8
ROWS_A_BLOCK = 400_000  # some 50 MB while it is made; ten minutes of 10,000 rooms at a sample in 30 s
COMPACT_AFTER_S = 600.0
CHUNKS_A_STEP = 500  # a few milliseconds of the write lock, which appends share
BATCHES_A_STEP = 50
WINDOW_MS = 86_400_000  # how much of a circuit is unpacked at once

_CHUNKS_BEGUN_BEFORE = (
    "SELECT circuit, from_ms, register_wh, wide, rows FROM chunks"
    " WHERE block = ? AND circuit > ? AND from_ms < ? ORDER BY circuit LIMIT ?"
)
_READINGS_OF = (
    f"SELECT coalesce(sum(length(rows) / CASE WHEN wide THEN {WIDE_BYTES} ELSE {NARROW_BYTES} END), 0)"  # noqa: S608
    " FROM chunks WHERE block = ?"
)
_BEGIN_WITH_FIRST = (
    "UPDATE blocks SET from_ms ="
    " coalesce((SELECT min(from_ms) FROM chunks WHERE chunks.block = blocks.block), ?) WHERE block = ?"
)
_BEFORE_ANY = -1  # circuit


class EmbeddedReadings:
    """Readings in one SQLite file (WAL, synchronous=FULL: what was appended survives a power cut).

    One process writes; any number of threads and processes read at the same time. `read_only` is for the other
    processes: the file need not be there yet, which reads as an empty store.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        rows_a_block: int = ROWS_A_BLOCK,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._read_only = read_only
        self._rows_a_block = rows_a_block
        self._monotonic_s = monotonic_s
        self._writing = threading.Lock()
        self._packing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._circuits: dict[str, int] = {}
        self._loose_rows = 0  # in batches that are in no block yet
        self._loose_since_s: float | None = None
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._closed = False

    def append(self, readings: Sequence[Reading]) -> None:
        """Store durably in one transaction; the same circuit and instant again replaces what was there."""
        self._may_write("append")
        if not readings:
            return
        columns = ReadingColumns.of(readings)
        rows = rows_of(columns)
        to_ms = int(rows["at_ms"].max())
        packed = Packed.of(rows)
        with self._write() as writer:
            with transaction(writer):
                numbers = self._numbered(writer, columns.circuit_ids)
                writer.execute(
                    "INSERT INTO batches (from_ms, to_ms, register_wh, wide, circuits, rows)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        packed.from_ms,
                        to_ms,
                        packed.register_wh,
                        packed.wide,
                        numbers_of(columns, numbers).tobytes(),
                        packed.body,
                    ),
                )
            self._circuits = numbers
            self._count_loose(len(readings))

    def between(
        self, circuit_id: str, start: datetime, end: datetime, *, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        """Return the readings of `[start, end)` in order of time, at most `limit`."""
        check_page(limit=limit)
        found: list[Reading] = []
        with self._span(circuit_id, start, end) as span:
            for rows in () if span is None else span.windows(WINDOW_MS):
                found += readings_of(circuit_id, rows[: limit - len(found)])
                if len(found) >= limit:
                    break
        return found

    def every(
        self, circuit_id: str, start: datetime, end: datetime, *, every_s: int, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        """Return one row for each non-empty step of `every_s` seconds, aligned to the epoch."""
        check_page(limit=limit, every_s=every_s)
        every_ms = every_s * 1000
        width_ms = -(-WINDOW_MS // every_ms) * every_ms  # no step lies in two windows
        found: list[Reading] = []
        with self._span(circuit_id, start, end) as span:
            for rows in () if span is None else span.windows(width_ms):
                found += steps_of(circuit_id, rows, every_ms=every_ms)
                if len(found) >= limit:
                    break
        return found[:limit]

    def compact(self) -> int:
        """Turn batches into blocks where that is due; return how many readings were packed.

        Due when a block's worth of them has come, or after some minutes. Goes in short transactions, with the
        write lock free in between, so that appends are not kept waiting.
        """
        self._may_write("compact")
        with self._write():  # opened, so that what an earlier process left is counted
            since_s = self._loose_since_s
            waited = since_s is not None and self._monotonic_s() - since_s >= COMPACT_AFTER_S
            due = waited or self._loose_rows >= self._rows_a_block
        return self._pack(all_of_it=waited) if due else 0

    def drop_before(self, at: datetime) -> int:
        """Delete readings older than `at` and return how many.

        Packs what is loose first, and goes in short transactions as `compact` does.
        """
        self._may_write("drop")
        before_ms = to_ms_up(at)
        self._pack(all_of_it=True)
        with self._packing:
            with self._write() as writer:
                blocks = writer.execute(
                    "SELECT block, to_ms < ? FROM blocks WHERE complete AND from_ms < ? ORDER BY block",
                    (before_ms, before_ms),
                ).fetchall()
            return sum(
                self._drop_block(block) if whole else self._cut_block(block, before_ms)
                for block, whole in blocks
            )

    def close(self) -> None:
        """Close the file; later calls raise UnableToReachReadingsError."""
        with self._writing, self._idle_lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    # --- blocks -------------------------------------------------------------------------------------------

    def _pack(self, *, all_of_it: bool) -> int:
        """Make whole blocks of the batches, and with `all_of_it` one of what is left too."""
        packed = 0
        with self._packing:
            with self._write() as writer:
                (newest,) = writer.execute("SELECT coalesce(max(batch), 0) FROM batches").fetchone()
            while True:
                self._delete_packed()
                with self._write() as writer:
                    block = _planned(writer) or _plan(writer, self._rows_a_block, all_of_it=all_of_it)
                    if block is None:
                        return packed
                    circuits, rows = _loose(writer, block)
                self._write_block(block, chunks_of(circuits, rows))
                with self._write() as writer:
                    writer.execute("UPDATE blocks SET complete = 1 WHERE block = ?", (block,))
                    self._count_loose(-len(rows))
                packed += len(rows)
                # What came in meanwhile waits for the next time: else every batch becomes a block, and no end.
                all_of_it = all_of_it and block < newest

    def _delete_packed(self) -> None:
        """Delete the batches that are in complete blocks."""
        with self._write() as writer:
            (packed_to,) = writer.execute(f"SELECT {PACKED_TO}").fetchone()
        self._delete_in_steps(
            "DELETE FROM batches WHERE batch IN (SELECT batch FROM batches WHERE batch <= ? LIMIT ?)",
            packed_to,
            BATCHES_A_STEP,
        )

    def _write_block(self, block: int, chunks: Iterator[Chunk]) -> None:
        while step := list(itertools.islice(chunks, CHUNKS_A_STEP)):
            with self._write() as writer, transaction(writer):
                put_chunks(writer, block, step)

    def _drop_block(self, block: int) -> int:
        with self._write() as writer:
            (dropped,) = writer.execute(_READINGS_OF, (block,)).fetchone()
        self._delete_in_steps(
            "DELETE FROM chunks WHERE block = ?1 AND circuit IN"
            " (SELECT circuit FROM chunks WHERE block = ?1 LIMIT ?2)",
            block,
            CHUNKS_A_STEP,
        )
        with self._write() as writer:
            writer.execute("DELETE FROM blocks WHERE block = ?", (block,))
        return int(dropped)

    def _cut_block(self, block: int, before_ms: int) -> int:
        """Delete the older part of a block that has newer readings too."""
        dropped, after = 0, _BEFORE_ANY
        while True:
            with self._write() as writer, transaction(writer):
                chunks = _chunks(writer, block, after=after, before_ms=before_ms)
                dropped += sum(_cut_chunk(writer, block, chunk, before_ms) for chunk in chunks)
            if len(chunks) < CHUNKS_A_STEP:
                break
            after = chunks[-1].circuit
        with self._write() as writer:  # its first reading now: until that is due it is left alone
            writer.execute(_BEGIN_WITH_FIRST, (before_ms, block))
        return dropped

    def _delete_in_steps(self, sql: str, number: int, at_once: int) -> None:
        while True:
            with self._write() as writer:
                if writer.execute(sql, (number, at_once)).rowcount < at_once:
                    return

    # --- the file -----------------------------------------------------------------------------------------

    def _may_write(self, what: str) -> None:
        if self._read_only:
            raise UnableToReachReadingsError(f"{self.path}: opened for reading only, can't {what}")

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """Lend the writer's connection, to one thread at a time."""
        with self._told(), self._writing:
            if self._closed:
                raise UnableToReachReadingsError(f"{self.path}: the store is closed")
            if self._writer is None:
                self._writer = open_writer(self.path)
                self._count_loose(_loose_rows(self._writer))
            yield self._writer

    def _numbered(self, writer: sqlite3.Connection, circuit_ids: Sequence[str]) -> dict[str, int]:
        """Return the circuits' numbers, new ones among them, which count once the transaction is committed."""
        numbers = self._circuits
        new = {circuit_id for circuit_id in circuit_ids if circuit_id not in numbers}
        return numbers | {one: _number(writer, one) for one in sorted(new)} if new else numbers

    def _count_loose(self, more: int) -> None:
        self._loose_rows = max(0, self._loose_rows + more)
        if not self._loose_rows:
            self._loose_since_s = None
        elif self._loose_since_s is None or more < 0:
            self._loose_since_s = self._monotonic_s()

    @contextmanager
    def _span(self, circuit_id: str, start: datetime, end: datetime) -> Iterator[CircuitSpan | None]:
        """Open a circuit's span; None where there is nothing of it."""
        start_ms, end_ms = to_ms_up(start), to_ms_up(end)
        with self._told(), self._reader() as connection:
            if connection is None or start_ms >= end_ms:
                yield None
                return
            with snapshot(connection):
                yield CircuitSpan.of(connection, circuit_id, start_ms, end_ms)

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection | None]:
        """Lend a connection to one thread; None while the writer has not made the store yet."""
        with self._idle_lock:
            if self._closed:
                raise UnableToReachReadingsError(f"{self.path}: the store is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = open_reader(self.path)
        if connection is None:
            yield None
            return
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._idle_lock:
            if not self._closed and len(self._idle) < IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn SQLite's errors into the port's, with the file's name."""
        try:
            yield
        except sqlite3.Error as fault:
            raise UnableToReachReadingsError(f"{self.path}: the readings store fails: {fault}") from fault


def _number(connection: sqlite3.Connection, circuit_id: str) -> int:
    connection.execute("INSERT OR IGNORE INTO circuits (circuit_id) VALUES (?)", (circuit_id,))
    row = connection.execute("SELECT circuit FROM circuits WHERE circuit_id = ?", (circuit_id,)).fetchone()
    return int(row[0])


def _loose_rows(connection: sqlite3.Connection) -> int:
    (found,) = connection.execute(
        f"SELECT coalesce(sum(length(circuits)), 0) FROM batches WHERE batch > {PACKED_TO}"  # noqa: S608
    ).fetchone()
    return int(found) // NUMBER.itemsize


def _planned(connection: sqlite3.Connection) -> int | None:
    """Return the block that was begun and not completed."""
    row = connection.execute("SELECT block FROM blocks WHERE NOT complete").fetchone()
    return None if row is None else int(row[0])


def _plan(connection: sqlite3.Connection, rows_a_block: int, *, all_of_it: bool) -> int | None:
    """Plan the next block: its worth of the oldest batches; None where there are not enough for one."""
    rows = 0
    from_ms: list[int] = []
    to_ms: list[int] = []
    for batch, first_ms, last_ms, circuits_bytes in connection.execute(
        f"SELECT batch, from_ms, to_ms, length(circuits) FROM batches WHERE batch > {PACKED_TO}"  # noqa: S608
        " ORDER BY batch"
    ):
        block = int(batch)
        from_ms.append(first_ms)
        to_ms.append(last_ms)
        rows += circuits_bytes // NUMBER.itemsize
        if rows >= rows_a_block:
            break
    if not rows or (rows < rows_a_block and not all_of_it):
        return None
    connection.execute("INSERT INTO blocks VALUES (?, ?, ?, 0)", (block, min(from_ms), max(to_ms)))
    return block


def _loose(connection: sqlite3.Connection, block: int) -> tuple[npt.NDArray[np.int32], Rows]:
    """Return the readings of the batches that a planned block is made of, in the order of their arrival."""
    batches = connection.execute(
        "SELECT circuits, from_ms, register_wh, wide, rows FROM batches"  # noqa: S608
        f" WHERE batch > {PACKED_TO} AND batch <= ? ORDER BY batch",
        (block,),
    ).fetchall()
    circuits = np.frombuffer(b"".join(circuits for circuits, *_ in batches), NUMBER)
    return circuits, np.concatenate([Packed(*packed).rows() for _, *packed in batches])


def _chunks(connection: sqlite3.Connection, block: int, *, after: int, before_ms: int) -> list[Chunk]:
    """Return a step's worth of a block's chunks that have readings from before an instant."""
    found = connection.execute(_CHUNKS_BEGUN_BEFORE, (block, after, before_ms, CHUNKS_A_STEP))
    return [Chunk(circuit, Packed(*packed)) for circuit, *packed in found]


def _cut_chunk(connection: sqlite3.Connection, block: int, chunk: Chunk, before_ms: int) -> int:
    """Delete a chunk's readings from before an instant; return how many."""
    rows = chunk.packed.rows()
    kept = rows[rows["at_ms"] >= before_ms]
    if len(kept) < len(rows):
        connection.execute("DELETE FROM chunks WHERE block = ? AND circuit = ?", (block, chunk.circuit))
        put_chunks(connection, block, list(chunks_of(np.full(len(kept), chunk.circuit, NUMBER), kept)))
    return len(rows) - len(kept)
