"""Intents: a commit that can change a wanted relay leaves one with it; the gateway takes it.

An intent says only *look at this circuit again*. Handling one twice changes nothing, so a gateway that dies
between deciding and marking loses nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import intents


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A circuit that wants looking at, and why."""

    intent_id: int
    circuit_id: str
    cause: str
    placed_at: datetime


def leave(connection: Connection, *, circuit_id: str, cause: str, now: datetime) -> None:
    """Ask the gateway to look at a circuit; after the commit, call `dormpower.wake.send_wake`."""
    leave_all(connection, [(circuit_id, cause)], now=now)


def leave_all(connection: Connection, wanted: Iterable[tuple[str, str]], *, now: datetime) -> None:
    """Ask the gateway to look at circuits, each with its cause."""
    rows = [{"circuit_id": circuit_id, "cause": cause, "placed_at": now} for circuit_id, cause in wanted]
    if rows:
        connection.execute(sa.insert(intents), rows)


def unhandled(connection: Connection, limit: int) -> list[Intent]:
    """Return intents that nobody has handled, oldest first, at most `limit`."""
    rows = connection.execute(
        sa.select(intents.c.intent_id, intents.c.circuit_id, intents.c.cause, intents.c.placed_at)
        .where(intents.c.handled_at.is_(None))
        .order_by(intents.c.intent_id)
        .limit(limit)
    )
    return [Intent(**row) for row in rows.mappings()]


def mark_handled(connection: Connection, intent_ids: Sequence[int], now: datetime) -> None:
    """Mark intents as handled, in the transaction that wrote what came of them."""
    if intent_ids:
        connection.execute(
            sa.update(intents).where(intents.c.intent_id.in_(list(intent_ids))).values(handled_at=now)
        )


def drop_handled_before(connection: Connection, at: datetime) -> int:
    """Let handled intents older than `at` go; return how many went."""
    result = connection.execute(sa.delete(intents).where(intents.c.handled_at < at))
    return int(result.rowcount)
