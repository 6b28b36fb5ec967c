"""What happened to a circuit, newest first: one list out of the holds, the changes of state and the commands.

Pages go by (instant, kind, id). Within one instant the kinds are in the order in which one leads to the other:
a hold goes, another comes, the state becomes another, the relay is sent a command. Holds in shadow moved
nothing and are not told.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.residencies import Span, within
from dormpower.books.tables import commands, holds, state_changes
from dormpower.books.types import from_ms, to_ms
from dormpower.domain.holds import Hold, reason_of
from dormpower.domain.timeline import CommandSent, Entry, HoldPlaced, HoldReleased, StateChanged

MAX_LISTED = 200


class UnableToReadCursorError(Exception):
    """The cursor was not given out by this program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One table's part: what an entry is made from, and the columns that it is ordered by."""

    query: sa.Select[Any]
    at: sa.Column[datetime]
    key: sa.Column[Any]
    entry: Callable[[sa.RowMapping], Entry]
    is_number: bool = False


def page(
    connection: Connection,
    *,
    circuit_id: str,
    spans: Sequence[Span] | None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[Entry], str | None]:
    """Return a page of a circuit's timeline within `spans` (None: all of it), and the next page's cursor.

    Raises UnableToReadCursorError.
    """
    limit = min(max(limit, 1), MAX_LISTED)
    sources = _sources(circuit_id)
    after = None if cursor is None else _after(cursor, sources)
    parts = [
        _part(connection, source, rank=rank, spans=spans, after=after, limit=limit + 1)
        for rank, source in enumerate(sources)
    ]
    ordered = merge(*parts, key=_order, reverse=True)
    found = list(islice(ordered, limit + 1))
    next_cursor = _cursor(found[limit - 1]) if len(found) > limit else None
    return [entry for _, _, entry in found[:limit]], next_cursor


def _sources(circuit_id: str) -> tuple[_Source, ...]:
    """Return the parts, in the order of their rank."""
    of_circuit = sa.select(holds).where(holds.c.circuit_id == circuit_id, holds.c.shadow.is_(sa.false()))
    return (
        _Source(
            query=of_circuit.where(holds.c.released_at.is_not(None)),
            at=holds.c.released_at,
            key=holds.c.hold_id,
            entry=_released,
        ),
        _Source(query=of_circuit, at=holds.c.placed_at, key=holds.c.hold_id, entry=_placed),
        _Source(
            query=sa.select(state_changes).where(state_changes.c.circuit_id == circuit_id),
            at=state_changes.c.changed_at,
            key=state_changes.c.state_change_id,
            entry=_changed,
            is_number=True,
        ),
        _Source(
            query=sa.select(commands).where(commands.c.circuit_id == circuit_id),
            at=commands.c.recorded_at,
            key=commands.c.command_id,
            entry=_sent,
        ),
    )


def _part(
    connection: Connection,
    source: _Source,
    *,
    rank: int,
    spans: Sequence[Span] | None,
    after: tuple[datetime, int, Any] | None,
    limit: int,
) -> list[tuple[int, Any, Entry]]:
    """Return (rank, key, entry) of one source, newest first."""
    query = source.query.where(within(spans, source.at))
    if after is not None:
        at, last_rank, key = after
        earlier = source.at < at
        if rank < last_rank:
            earlier = source.at <= at
        elif rank == last_rank:
            earlier = sa.or_(source.at < at, sa.and_(source.at == at, source.key < key))
        query = query.where(earlier)
    rows = connection.execute(query.order_by(source.at.desc(), source.key.desc()).limit(limit)).mappings()
    return [(rank, row[source.key.name], source.entry(row)) for row in rows]


def _order(one: tuple[int, Any, Entry]) -> tuple[datetime, int, Any]:
    rank, key, entry = one
    return entry.at, rank, key


def _cursor(one: tuple[int, Any, Entry]) -> str:
    rank, key, entry = one
    return f"{to_ms(entry.at)}.{rank}.{key}"


def _after(cursor: str, sources: Sequence[_Source]) -> tuple[datetime, int, Any]:
    at_ms, _, rest = cursor.partition(".")
    rank, _, key = rest.partition(".")
    known = all(part.isascii() and part.isdigit() and len(part) <= 14 for part in (at_ms, rank))
    if not known or int(rank) >= len(sources) or not key:
        raise UnableToReadCursorError("cursor: expected one that a page gave out as next_cursor")
    if not sources[int(rank)].is_number:
        return from_ms(int(at_ms)), int(rank), key
    if not (key.isascii() and key.isdigit() and len(key) <= 18):
        raise UnableToReadCursorError("cursor: expected one that a page gave out as next_cursor")
    return from_ms(int(at_ms)), int(rank), int(key)


def _hold(row: sa.RowMapping) -> Hold:
    return Hold(
        **{field.name: row[field.name] for field in fields(Hold)} | {"reason": reason_of(row["reason"])}
    )


def _placed(row: sa.RowMapping) -> HoldPlaced:
    return HoldPlaced(entry_id=row["hold_id"], at=row["placed_at"], hold=_hold(row))


def _released(row: sa.RowMapping) -> HoldReleased:
    return HoldReleased(
        entry_id=row["hold_id"],
        at=row["released_at"],
        hold=_hold(row),
        released_by=row["released_by"],
        evidence=row["release_evidence"] or {},
    )


def _changed(row: sa.RowMapping) -> StateChanged:
    return StateChanged(
        entry_id=str(row["state_change_id"]),
        at=row["changed_at"],
        from_state=row["from_state"],
        to_state=row["to_state"],
        cause=row["cause"],
        actor=row["actor"],
        relay=row["relay"],
    )


def _sent(row: sa.RowMapping) -> CommandSent:
    return CommandSent(
        entry_id=row["command_id"],
        at=row["recorded_at"],
        relay=row["relay"],
        reasons=tuple(_reasons(row["cause"].get("holds", ()))),
        attempt=row["attempt"],
        finished_at=row["finished_at"],
        outcome=row["outcome"],
        read_back_relay=row["read_back_relay"],
        read_back_at=row["read_back_at"],
    )


def _reasons(written: Iterable[dict[str, Any]]) -> list[str]:
    """Return the reasons of the holds behind a command, each once, in the order of the holds."""
    return list(dict.fromkeys(str(one["reason"]) for one in written))
