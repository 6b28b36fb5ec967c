"""Trips in the books: the closings by their timers, and latching one (invariant 21)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, events, states
from dormpower.books.tables import holds
from dormpower.domain.holds import RESETTABLE, Hold, Reason
from dormpower.domain.restoring import Restore

_MANY = 500


def restores(
    connection: Connection, *, circuit_ids: Sequence[str], since: datetime
) -> dict[str, tuple[Restore, ...]]:
    """Return by circuit the trips that ended by their own timer after `since`, shadow ones among them.

    A timer that ended because its rule was taken out of force counts too: it closed the relay all the same.
    """
    found: dict[str, list[Restore]] = {}
    ids = list(circuit_ids)
    for start in range(0, len(ids), _MANY):
        rows = connection.execute(
            sa.select(holds.c.circuit_id, holds.c.released_at, holds.c.reason, holds.c.shadow)
            .where(
                holds.c.circuit_id.in_(ids[start : start + _MANY]),
                holds.c.reason.in_(sorted(reason.value for reason in RESETTABLE)),
                holds.c.released_at > since,
                holds.c.released_by == holds.c.placed_by,
                holds.c.expected_release_at.is_not(None),
            )
            .order_by(holds.c.released_at)
        )
        for row in rows:
            found.setdefault(row.circuit_id, []).append(
                Restore(at=row.released_at, reason=Reason(row.reason), shadow=row.shadow)
            )
    return {circuit_id: tuple(members) for circuit_id, members in found.items()}


def latch(
    connection: Connection, *, hold: Hold, actor: str, evidence: Mapping[str, Any], now: datetime
) -> None:
    """Take the time off a standing trip: maintenance has to reset it."""
    states.lock(connection, hold.circuit_id)
    connection.execute(
        sa.update(holds)
        .where(holds.c.hold_id == hold.hold_id, holds.c.released_at.is_(None))
        .values(expected_release_at=None)
    )
    events.append(connection, kind="circuit", subject_id=hold.circuit_id, now=now)
    audit_log.write(
        connection,
        actor=actor,
        action=f"hold.{hold.reason.value}.latched",
        subject_kind="circuit",
        subject_id=hold.circuit_id,
        detail={"hold_id": hold.hold_id, "shadow": hold.shadow, **dict(evidence)},
        now=now,
    )
