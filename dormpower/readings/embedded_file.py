"""The embedded store's SQLite file: its schema, how it is opened, and the step from the version before."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import structlog

from dormpower.readings.packing import NUMBER, ROW, Chunk, chunks_of
from dormpower.readings.port import UnableToReachReadingsError

SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 15
_WAL_LIMIT_BYTES = 64 * 1024 * 1024
_DAY_MS = 86_400_000
# Blocks of a file that was upgraded are older than every batch: their numbers lie below all of these.
_UPGRADED_BLOCKS_FROM = -10_000_000

log = structlog.get_logger()

_SCHEMA = """
CREATE TABLE IF NOT EXISTS circuits (
    circuit INTEGER PRIMARY KEY,
    circuit_id TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS batches (
    batch INTEGER PRIMARY KEY AUTOINCREMENT,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    register_wh INTEGER NOT NULL,
    wide INTEGER NOT NULL,
    circuits BLOB NOT NULL,
    rows BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS blocks (
    block INTEGER PRIMARY KEY,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    complete INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS chunks (
    block INTEGER NOT NULL,
    circuit INTEGER NOT NULL,
    from_ms INTEGER NOT NULL,
    register_wh INTEGER NOT NULL,
    wide INTEGER NOT NULL,
    rows BLOB NOT NULL,
    PRIMARY KEY (block, circuit)
) WITHOUT ROWID;
"""

PUT_CHUNK = "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)"

_ROWS_OF_VERSION_1 = """
SELECT at_ms, register_wh, power_mw, voltage_mv, current_ma, power_factor_e4, relay
FROM readings WHERE circuit = ? ORDER BY at_ms
"""


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for the one process that writes; make it, or bring it up to this version, where needed."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        connection.execute("PRAGMA cache_size = -65536")
        version = _version(connection)
        if version not in (0, 1, SCHEMA_VERSION):
            raise _other_version(path, version)
        if version != SCHEMA_VERSION:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            if version == 1:
                _upgrade(connection, path)
            else:
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection | None:
    """Open the file for reading beside the writer; None while the writer has not made the store yet."""
    if not path.exists():
        return None
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",  # never creates; readers share the WAL index
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
        if version == 1:
            raise UnableToReachReadingsError(
                f"{path}: a readings store of version 1, which the gateway brings up to {SCHEMA_VERSION} when "
                "it starts"
            )
        if version != 0:  # 0: the writer is just making it
            raise _other_version(path, version)
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is written within, all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the file, whatever is written meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def put_chunks(connection: sqlite3.Connection, block: int, chunks: list[Chunk]) -> None:
    """Write chunks of a block; the same ones again take the place of the first."""
    connection.executemany(
        PUT_CHUNK,
        [
            (block, one.circuit, packed.from_ms, packed.register_wh, packed.wide, packed.body)
            for one in chunks
            for packed in (one.packed,)
        ],
    )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _other_version(path: Path, version: int) -> UnableToReachReadingsError:
    return UnableToReachReadingsError(
        f"{path}: expected a readings store of version {SCHEMA_VERSION}, got {version}; "
        "use the program that wrote it, or name another file"
    )


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Pack the rows of version 1, a table of one row a reading: circuit by circuit, into a block a day.

    Each circuit is one transaction, so that a start that was broken off goes on where it stopped.
    """
    circuits = [row[0] for row in connection.execute("SELECT DISTINCT circuit FROM readings")]
    log.info("readings.upgrading", path=str(path), circuits=len(circuits))
    for circuit in circuits:
        with transaction(connection):
            _upgrade_circuit(connection, circuit)
    with transaction(connection):
        connection.execute("DROP TABLE readings")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    log.info("readings.upgraded", path=str(path), version=SCHEMA_VERSION)


def _upgrade_circuit(connection: sqlite3.Connection, circuit: int) -> None:
    unknown = int(np.iinfo(np.int64).min)
    written = [
        (
            *numbers[:2],
            *(unknown if one is None else one for one in numbers[2:6]),
            -1 if numbers[6] is None else numbers[6],
        )
        for numbers in connection.execute(_ROWS_OF_VERSION_1, (circuit,))
    ]
    rows = np.array(written, ROW)
    days = rows["at_ms"] // _DAY_MS
    for day in np.unique(days).tolist():
        of_day = rows[days == day]
        block = _UPGRADED_BLOCKS_FROM + day
        first_ms, last_ms = int(of_day["at_ms"][0]), int(of_day["at_ms"][-1])
        connection.execute(
            "INSERT INTO blocks VALUES (:block, :first, :last, 1) ON CONFLICT (block) DO UPDATE SET"
            " from_ms = min(from_ms, :first), to_ms = max(to_ms, :last)",
            {"block": block, "first": first_ms, "last": last_ms},
        )
        put_chunks(connection, block, list(chunks_of(np.full(len(of_day), circuit, NUMBER), of_day)))
    connection.execute("DELETE FROM readings WHERE circuit = ?", (circuit,))
