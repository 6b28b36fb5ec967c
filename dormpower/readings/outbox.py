"""A durable, bounded queue on disk between the gateway and a readings server that may be away.

What `append` returned for survives kill -9 and a power cut (SQLite, WAL, synchronous=FULL). The queue is
bounded in bytes: when full it drops the oldest parcels, counts their lines, and takes the new one, so that a
server that is away for days never holds up the books (invariant 29). The counts are kept on disk too.

One thread appends, one takes and acknowledges. What has been taken is not dropped by an overflow: it may be on
its way, and a line must be counted as one thing only.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dormpower.readings.port import UnableToReachReadingsError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 15
MAX_PARCEL_LINES = 5_000
DEFAULT_MAX_BYTES = 512 * 1024 * 1024

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS parcels (
    parcel INTEGER PRIMARY KEY AUTOINCREMENT,
    lines INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counts VALUES ('delivered', 0), ('dropped', 0), ('rejected', 0);
PRAGMA user_version = 1;
COMMIT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxCounts:
    """What is waiting, and what became of the rest since the file was made."""

    pending_lines: int
    pending_bytes: int
    delivered_lines: int  # acknowledged by the server
    dropped_lines: int  # the oldest, to make room when full
    rejected_lines: int  # refused by the server as unusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcels:
    """The oldest lines, in order; `last` names them when they are acknowledged."""

    last: int
    lines: tuple[bytes, ...]


class Outbox:
    """Lines of text, first in first out, on disk. Raises UnableToReachReadingsError where the disk fails."""

    def __init__(self, path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._taken_to = 0
        self._pending_lines = 0
        self._pending_bytes = 0
        with self._told():
            self._connection = self._open()

    def append(self, lines: Sequence[bytes]) -> int:
        """Store lines durably; return how many of the oldest had to be dropped for them."""
        if not lines:
            return 0
        with self._told(), self._lock:
            size = sum(len(line) + 1 for line in lines)
            with self._transaction():
                dropped_lines, dropped_bytes = self._make_room(size)
                for first in range(0, len(lines), MAX_PARCEL_LINES):
                    part = lines[first : first + MAX_PARCEL_LINES]
                    self._connection.execute(
                        "INSERT INTO parcels (lines, body) VALUES (?, ?)", (len(part), b"\n".join(part) + b"\n")
                    )
            self._pending_lines += len(lines) - dropped_lines
            self._pending_bytes += size - dropped_bytes
            return dropped_lines

    def take(self, *, max_lines: int = MAX_PARCEL_LINES) -> Parcels | None:
        """Return the oldest parcels, at most `max_lines` together (but at least one); None where empty.

        They stay until they are acknowledged: taking again without that returns them again.
        """
        with self._told(), self._lock:
            bodies: list[bytes] = []
            last, lines = 0, 0
            for parcel, count, body in self._connection.execute(
                "SELECT parcel, lines, body FROM parcels ORDER BY parcel"
            ):
                if bodies and lines + count > max_lines:
                    break
                last, lines = parcel, lines + count
                bodies.append(body)
            self._taken_to = last
            return Parcels(last=last, lines=tuple(b"".join(bodies).split(b"\n")[:-1])) if bodies else None

    def acknowledge(self, parcels: Parcels, *, rejected_lines: int = 0) -> None:
        """Remove what the server has answered for, and count what it refused for good."""
        with self._told(), self._lock:
            delivered = len(parcels.lines) - rejected_lines
            with self._transaction():
                lines, size = self._sum("parcel <= ?", parcels.last)
                self._connection.execute("DELETE FROM parcels WHERE parcel <= ?", (parcels.last,))
                self._count("delivered", delivered)
                self._count("rejected", rejected_lines)
            self._pending_lines -= lines
            self._pending_bytes -= size
            self._taken_to = 0

    def counts(self) -> OutboxCounts:
        """Return what waits and what became of the rest."""
        with self._told(), self._lock:
            counted = dict(self._connection.execute("SELECT name, value FROM counts"))
            return OutboxCounts(
                pending_lines=self._pending_lines,
                pending_bytes=self._pending_bytes,
                delivered_lines=counted["delivered"],
                dropped_lines=counted["dropped"],
                rejected_lines=counted["rejected"],
            )

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._connection.close()

    def _make_room(self, size: int) -> tuple[int, int]:
        """Drop the oldest parcels that are not taken until `size` bytes fit; return lines and bytes dropped."""
        excess = self._pending_bytes + size - self._max_bytes
        last, lines, freed = 0, 0, 0
        if excess <= 0:
            return 0, 0
        for parcel, count, length in self._connection.execute(
            "SELECT parcel, lines, length(body) FROM parcels WHERE parcel > ? ORDER BY parcel",
            (self._taken_to,),
        ):
            last, lines, freed = parcel, lines + count, freed + length
            if freed >= excess:
                break
        self._connection.execute("DELETE FROM parcels WHERE parcel > ? AND parcel <= ?", (self._taken_to, last))
        self._count("dropped", lines)
        return lines, freed

    def _count(self, name: str, lines: int) -> None:
        if lines:
            self._connection.execute("UPDATE counts SET value = value + ? WHERE name = ?", (lines, name))

    def _sum(self, condition: str, *parameters: int) -> tuple[int, int]:
        row = self._connection.execute(
            f"SELECT coalesce(sum(lines), 0), coalesce(sum(length(body)), 0) FROM parcels WHERE {condition}",  # noqa: S608 - a literal of this module
            parameters,
        ).fetchone()
        return int(row[0]), int(row[1])

    def _open(self) -> sqlite3.Connection:
        self._connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._connection.executescript(_SCHEMA)
            elif version != SCHEMA_VERSION:
                raise UnableToReachReadingsError(
                    f"{self.path}: expected an outbox of version {SCHEMA_VERSION}, got {version}; "
                    "use the program that wrote it, or name another file"
                )
            self._pending_lines, self._pending_bytes = self._sum("parcel > ?", 0)
        except BaseException:
            self._connection.close()
            raise
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as fault:
            raise UnableToReachReadingsError(f"{self.path}: the outbox of readings fails: {fault}") from fault
