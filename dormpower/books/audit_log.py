"""The audit log: who did what, written in the transaction that it tells of (append-only, invariant 38).

Triggers keep honest programs from changing a row. Against whoever can drop a trigger there is a chain: one
sealer gives each row a position, and a hash over the hash before it and the row itself. The chain goes by
position and not by `audit_id`, because on PostgreSQL a transaction that took its id early may commit late: its
row is sealed when it becomes visible, and none is passed over. `verify` then finds a row that was edited,
deleted or moved, and a row that slipped in long ago without a seal.

Whoever can write everything can also make a new chain, or cut off its end. That is found against the chain's
heads, exported once a campus day to a file (`export_head`) that belongs onto another machine or onto paper.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.database import Books, lock_rows
from dormpower.books.tables import audit_log, audit_seals, jobs
from dormpower.books.types import to_ms

HEADS_FILE = "audit-heads.jsonl"
EXPORT_JOB = "audit_head"

# How far below the newest sealed id a late commit is looked for each second. More audit rows than these can't
# be written while one transaction is open; the daily export looks at every row all the same.
LATE_IDS = 10_000
BATCH = 1_000

_COLUMNS = (
    audit_log.c.audit_id,
    audit_log.c.written_at,
    audit_log.c.actor,
    audit_log.c.action,
    audit_log.c.subject_kind,
    audit_log.c.subject_id,
    audit_log.c.detail,
)


class UnableToReadHeadsError(Exception):
    """The file of exported heads can't be read; the message names the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """Who did what with which subject."""

    actor: str
    action: str
    subject_kind: str
    subject_id: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of the chain at one time: how many rows it covers, and its hash."""

    position: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFault:
    """A place where the chain does not hold."""

    where: str
    text: str


def write(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject_kind: str,
    subject_id: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    """Append one row."""
    row = AuditRow(actor=actor, action=action, subject_kind=subject_kind, subject_id=subject_id, detail=detail)
    write_all(connection, [row], now=now)


def write_all(connection: Connection, rows: Sequence[AuditRow], *, now: datetime) -> None:
    """Append rows in their order."""
    if rows:
        connection.execute(
            sa.insert(audit_log),
            [
                {
                    "written_at": now,
                    "actor": row.actor,
                    "action": row.action,
                    "subject_kind": row.subject_kind,
                    "subject_id": row.subject_id,
                    "detail": dict(row.detail),
                }
                for row in rows
            ],
        )


def seal(connection: Connection, *, everything: bool = False, limit: int = BATCH) -> int:
    """Chain at most `limit` rows that have no seal yet, lowest id first; return how many.

    Looks `LATE_IDS` below the newest sealed id, or with `everything` at all rows. Needs a writing connection.
    """
    lock_rows(connection, "audit_seal")
    last = connection.execute(
        sa.select(audit_seals.c.position, audit_seals.c.hash).order_by(audit_seals.c.position.desc()).limit(1)
    ).first()
    position, hash_before = (0, "") if last is None else (last.position, last.hash)
    query = (
        sa.select(*_COLUMNS)
        .outerjoin(audit_seals, audit_seals.c.audit_id == audit_log.c.audit_id)
        .where(audit_seals.c.audit_id.is_(None))
        .order_by(audit_log.c.audit_id)
        .limit(limit)
    )
    if not everything:
        newest = connection.scalar(sa.select(sa.func.max(audit_seals.c.audit_id))) or 0
        query = query.where(audit_log.c.audit_id > newest - LATE_IDS)
    sealed: list[dict[str, Any]] = []
    for row in connection.execute(query):
        position += 1
        hash_before = _hash(hash_before, position, row)
        sealed.append({"position": position, "audit_id": row.audit_id, "hash": hash_before})
    if sealed:
        connection.execute(sa.insert(audit_seals), sealed)
    return len(sealed)


def head(connection: Connection) -> Head | None:
    """Return the end of the chain; None where nothing was sealed yet."""
    row = connection.execute(
        sa.select(audit_seals.c.position, audit_seals.c.hash).order_by(audit_seals.c.position.desc()).limit(1)
    ).first()
    return None if row is None else Head(position=row.position, hash=row.hash)


def verify(
    connection: Connection,
    *,
    heads: Iterable[Head] = (),
    progress: Callable[[int], None] | None = None,
) -> Iterator[ChainFault]:
    """Walk the whole chain and yield each place where it does not hold; nothing where it holds.

    `heads` are ends of the chain that were exported earlier. `progress` is called now and then with the number
    of rows walked. After a fault the walk goes on from the hash on record, so that one edit is one fault.
    """
    expected = {one.position: one.hash for one in heads}
    position, hash_before = 0, ""
    rows = connection.execution_options(yield_per=BATCH).execute(
        sa.select(
            audit_seals.c.position, audit_seals.c.audit_id.label("sealed_id"), audit_seals.c.hash, *_COLUMNS
        )
        .outerjoin(audit_log, audit_log.c.audit_id == audit_seals.c.audit_id)
        .order_by(audit_seals.c.position)
    )
    for row in rows:
        where = f"audit row {row.sealed_id}, position {row.position}"
        if row.position != position + 1:
            yield ChainFault(where=where, text=f"seals {position + 1} to {row.position - 1} are missing")
        elif row.audit_id is None:
            yield ChainFault(where=where, text="the row was deleted")
        elif row.hash != _hash(hash_before, row.position, row):
            yield ChainFault(where=where, text="the row or its place in the chain was changed")
        position, hash_before = row.position, row.hash
        if expected.pop(position, row.hash) != row.hash:
            yield ChainFault(where=where, text="the chain is not the one whose head was exported")
        if progress is not None and position % BATCH == 0:
            progress(position)
    for missing in sorted(expected):
        yield ChainFault(
            where=f"position {missing}", text=f"the chain ends at {position}, its head was exported here"
        )
    yield from _never_sealed(connection)


def _never_sealed(connection: Connection) -> Iterator[ChainFault]:
    """Rows far below the newest sealed one: younger ones only wait for the sealer."""
    newest = connection.scalar(sa.select(sa.func.max(audit_seals.c.audit_id))) or 0
    for audit_id in connection.execute(
        sa.select(audit_log.c.audit_id)
        .outerjoin(audit_seals, audit_seals.c.audit_id == audit_log.c.audit_id)
        .where(audit_seals.c.audit_id.is_(None), audit_log.c.audit_id <= newest - LATE_IDS)
        .order_by(audit_log.c.audit_id)
    ).scalars():
        yield ChainFault(where=f"audit row {audit_id}", text="the row was never sealed, later ones were")


# --- heads in a file -----------------------------------------------------------------------------------------


def export_head(books: Books, *, path: Path, on: date, now: datetime) -> bool:
    """Seal what is left and append the chain's head to a file, once a campus day; return whether it did.

    The line is written before the day is marked done: a crash in between repeats a line and loses none.
    """
    period = on.isoformat()
    done = sa.select(jobs.c.period).where(jobs.c.job == EXPORT_JOB, jobs.c.period == period)
    with books.read() as connection:
        if connection.scalar(done) is not None:
            return False
    while True:
        with books.write() as connection:
            if seal(connection, everything=True) < BATCH:
                break
    with books.write() as connection:
        lock_rows(connection, "audit_seal")
        end = head(connection)
        if end is None or connection.scalar(done) is not None:
            return False
        line = {"on": period, "at": now.isoformat(), "position": end.position, "hash": end.hash}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        connection.execute(sa.insert(jobs).values(job=EXPORT_JOB, period=period, done_at=now))
    return True


def read_heads(path: Path) -> Sequence[Head]:
    """Return the heads in a file; none where there is no file. Raises UnableToReadHeadsError."""
    if not path.exists():
        return []
    heads = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            heads.append(Head(position=int(entry["position"]), hash=str(entry["hash"])))
        except (ValueError, KeyError, TypeError) as fault:
            raise UnableToReadHeadsError(
                f"{path}, line {number}: expected JSON with position and hash, got {line[:80]!r}"
            ) from fault
    return heads


def _hash(hash_before: str, position: int, row: Any) -> str:
    content = json.dumps(
        [
            hash_before,
            position,
            row.audit_id,
            to_ms(row.written_at),
            row.actor,
            row.action,
            row.subject_kind,
            row.subject_id,
            row.detail,
        ],
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(content.encode()).hexdigest()
