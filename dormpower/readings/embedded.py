"""The embedded readings store: one SQLite file, one writer, many readers, also from other processes.

A reading is a row of integers in a table without rowids that is ordered by (circuit, at): about half the bytes
of a table with rowids and an index, and a circuit's span is one stretch of the file. It takes some 100,000
readings a second in commits of 5,000 on two shared cores (`benchmarks/`), far above what a campus sends.

Volts, amps and watts are kept in thousandths, the power factor in ten-thousandths. A value with no more
decimals than that comes back as the same float; finer ones are rounded half-even. Registers are integers.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from dormpower.readings.instants import check_page, check_relay, from_ms, to_ms, to_ms_up
from dormpower.readings.port import MAX_ITEMS, Reading, UnableToReachReadingsError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 15
IDLE_READERS = 8
ROWS_A_DROP = 5_000
_WAL_LIMIT_BYTES = 64 * 1024 * 1024

_MILLI = 1_000
_TEN_THOUSANDTHS = 10_000
_RELAY_CODES = {"open": 0, "closed": 1, None: None}
_RELAYS = {0: "open", 1: "closed", None: None}

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS circuits (
    circuit INTEGER PRIMARY KEY,
    circuit_id TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS readings (
    circuit INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    register_wh INTEGER NOT NULL,
    power_mw INTEGER,
    voltage_mv INTEGER,
    current_ma INTEGER,
    power_factor_e4 INTEGER,
    relay INTEGER,
    PRIMARY KEY (circuit, at_ms)
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_APPEND = "INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

_BETWEEN = """
SELECT at_ms, register_wh, power_mw, voltage_mv, current_ma, power_factor_e4, relay
FROM readings
WHERE circuit = (SELECT circuit FROM circuits WHERE circuit_id = :circuit_id)
  AND at_ms >= :start_ms AND at_ms < :end_ms
ORDER BY at_ms LIMIT :limit
"""

# The register is that of the step's last row. The relay is the last one reported, coded into its instant,
# because max() passes over nulls.
_EVERY = """
SELECT step.from_ms, last.register_wh, step.power_mw, step.voltage_mv, step.current_ma, step.power_factor_e4,
       step.relay_code % 2
FROM (
    SELECT circuit, at_ms / :every_ms * :every_ms AS from_ms, max(at_ms) AS last_ms,
           avg(power_mw) AS power_mw, avg(voltage_mv) AS voltage_mv, avg(current_ma) AS current_ma,
           avg(power_factor_e4) AS power_factor_e4, max(at_ms * 2 + relay) AS relay_code
    FROM readings
    WHERE circuit = (SELECT circuit FROM circuits WHERE circuit_id = :circuit_id)
      AND at_ms >= :start_ms AND at_ms < :end_ms
    GROUP BY circuit, 2 ORDER BY 2 LIMIT :limit
) AS step
JOIN readings AS last ON last.circuit = step.circuit AND last.at_ms = step.last_ms
ORDER BY step.from_ms
"""

_DROP = """
DELETE FROM readings WHERE circuit = :circuit AND at_ms < :before_ms AND at_ms <= (
    SELECT max(at_ms) FROM (
        SELECT at_ms FROM readings WHERE circuit = :circuit AND at_ms < :before_ms ORDER BY at_ms LIMIT :rows
    )
)
"""


class EmbeddedReadings:
    """Readings in one SQLite file (WAL, synchronous=FULL: what was appended survives a power cut).

    One process writes; any number of threads and processes read at the same time. `read_only` is for the other
    processes: the file need not be there yet, which reads as an empty store.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._circuits: dict[str, int] = {}
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._closed = False

    def append(self, readings: Sequence[Reading]) -> None:
        """Store durably in one transaction; the same circuit and instant again replaces what was there."""
        if self._read_only:
            raise UnableToReachReadingsError(f"{self.path}: opened for reading only, can't append")
        if not readings:
            return
        with self._told(), self._writing:
            writer = self._open_writer()
            numbers = self._circuits
            new = {reading.circuit_id for reading in readings} - numbers.keys()
            with _transaction(writer):
                if new:
                    numbers = numbers | {circuit_id: _number(writer, circuit_id) for circuit_id in new}
                writer.executemany(_APPEND, [_row(reading, numbers) for reading in readings])
            self._circuits = numbers

    def between(
        self, circuit_id: str, start: datetime, end: datetime, *, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        """Return the readings of `[start, end)` in order of time, at most `limit`."""
        check_page(limit=limit)
        return self._read(_BETWEEN, circuit_id, start, end, limit=limit)

    def every(
        self, circuit_id: str, start: datetime, end: datetime, *, every_s: int, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        """Return one row for each non-empty step of `every_s` seconds, aligned to the epoch."""
        check_page(limit=limit, every_s=every_s)
        return self._read(_EVERY, circuit_id, start, end, limit=limit, every_ms=every_s * 1000)

    def drop_before(self, at: datetime) -> int:
        """Delete readings older than `at` and return how many.

        Goes in short transactions, with the write lock free in between, so that appends are not kept waiting.
        """
        if self._read_only:
            raise UnableToReachReadingsError(f"{self.path}: opened for reading only, can't drop")
        with self._told():
            with self._writing:
                writer = self._open_writer()
                circuits = [row[0] for row in writer.execute("SELECT circuit FROM circuits")]
            return sum(self._drop_circuit(circuit, to_ms_up(at)) for circuit in circuits)

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

    def _drop_circuit(self, circuit: int, before_ms: int) -> int:
        dropped = 0
        while True:
            with self._writing:
                writer = self._open_writer()
                with _transaction(writer):
                    rows = writer.execute(
                        _DROP, {"circuit": circuit, "before_ms": before_ms, "rows": ROWS_A_DROP}
                    ).rowcount
            dropped += rows
            if rows < ROWS_A_DROP:
                return dropped

    def _open_writer(self) -> sqlite3.Connection:
        if self._closed:
            raise UnableToReachReadingsError(f"{self.path}: the store is closed")
        if self._writer is None:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(connection, self.path)
            except BaseException:
                connection.close()
                raise
            self._writer = connection
        return self._writer

    def _read(
        self, sql: str, circuit_id: str, start: datetime, end: datetime, **parameters: int
    ) -> list[Reading]:
        with self._told(), self._reader() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                sql,
                {
                    "circuit_id": circuit_id,
                    "start_ms": to_ms_up(start),
                    "end_ms": to_ms_up(end),
                    **parameters,
                },
            ).fetchall()
        return [_reading(circuit_id, row) for row in rows]

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection | None]:
        """Lend a connection to one thread; None while the writer has not made the store yet."""
        with self._idle_lock:
            if self._closed:
                raise UnableToReachReadingsError(f"{self.path}: the store is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._open_reader()
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

    def _open_reader(self) -> sqlite3.Connection | None:
        if not self.path.exists():
            return None
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",  # never creates; readers share the WAL index
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA query_only = ON")
            version = _version(connection)
            if version == SCHEMA_VERSION:
                return connection
            if version != 0:  # 0: the writer is just making it
                raise _other_version(self.path, version)
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn SQLite's errors into the port's, with the file's name."""
        try:
            yield
        except sqlite3.Error as fault:
            raise UnableToReachReadingsError(f"{self.path}: the readings store fails: {fault}") from fault


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    connection.execute("PRAGMA cache_size = -65536")
    version = _version(connection)
    if version == 0:
        connection.executescript(_SCHEMA)
    elif version != SCHEMA_VERSION:
        raise _other_version(path, version)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _other_version(path: Path, version: int) -> UnableToReachReadingsError:
    return UnableToReachReadingsError(
        f"{path}: expected a readings store of version {SCHEMA_VERSION}, got {version}; "
        "use the program that wrote it, or name another file"
    )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _number(connection: sqlite3.Connection, circuit_id: str) -> int:
    connection.execute("INSERT OR IGNORE INTO circuits (circuit_id) VALUES (?)", (circuit_id,))
    row = connection.execute("SELECT circuit FROM circuits WHERE circuit_id = ?", (circuit_id,)).fetchone()
    return int(row[0])


def _row(reading: Reading, numbers: dict[str, int]) -> tuple[int | None, ...]:
    power_w, voltage_v = reading.power_w, reading.voltage_v
    current_a, power_factor = reading.current_a, reading.power_factor
    if reading.relay not in _RELAY_CODES:
        check_relay(reading.relay)
    return (
        numbers[reading.circuit_id],
        to_ms(reading.at),
        reading.register_wh,
        # Written out, because this runs for every accepted sample; what is not finite is not kept.
        round(power_w * _MILLI) if power_w is not None and isfinite(power_w) else None,
        round(voltage_v * _MILLI) if voltage_v is not None and isfinite(voltage_v) else None,
        round(current_a * _MILLI) if current_a is not None and isfinite(current_a) else None,
        (
            round(power_factor * _TEN_THOUSANDTHS)
            if power_factor is not None and isfinite(power_factor)
            else None
        ),
        _RELAY_CODES[reading.relay],
    )


def _reading(circuit_id: str, row: tuple[Any, ...]) -> Reading:
    at_ms, register_wh, power_mw, voltage_mv, current_ma, power_factor_e4, relay = row
    return Reading(
        circuit_id=circuit_id,
        at=from_ms(at_ms),
        register_wh=register_wh,
        power_w=_unscaled(power_mw, _MILLI),
        voltage_v=_unscaled(voltage_mv, _MILLI),
        current_a=_unscaled(current_ma, _MILLI),
        power_factor=_unscaled(power_factor_e4, _TEN_THOUSANDTHS),
        relay=_RELAYS[relay],
    )


def _unscaled(value: float | None, scale: int) -> float | None:
    return None if value is None else value / scale
