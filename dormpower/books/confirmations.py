"""Confirmations of holds on record: when the relay was read back open, and when that no longer held."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, events, holds
from dormpower.books.tables import holds as holds_table
from dormpower.domain.confirming import ReadBack, contradicted, newly_confirmed
from dormpower.domain.holds import Hold

ACTOR = "rule:read_back"


def note(
    connection: Connection, *, circuit_id: str, read_back: ReadBack, evidence: Mapping[str, Any], now: datetime
) -> tuple[Hold, ...]:
    """Write what a read-back says of a circuit's standing holds; return these as they stand after it."""
    standing = holds.standing(connection, [circuit_id]).get(circuit_id, ())
    confirmed = newly_confirmed(standing, read_back)
    withdrawn = contradicted(standing, read_back)
    for found, at, step in ((confirmed, now, "confirmed_open"), (withdrawn, None, "confirmation_withdrawn")):
        if found:
            _write(connection, circuit_id, found, at=at, step=step, evidence=evidence, now=now)
    if not (confirmed or withdrawn):
        return standing
    return holds.standing(connection, [circuit_id]).get(circuit_id, ())


def _write(
    connection: Connection,
    circuit_id: str,
    found: Sequence[Hold],
    *,
    at: datetime | None,
    step: str,
    evidence: Mapping[str, Any],
    now: datetime,
) -> None:
    hold_ids = [hold.hold_id for hold in found]
    connection.execute(
        sa.update(holds_table)
        .where(holds_table.c.hold_id.in_(hold_ids), holds_table.c.released_at.is_(None))
        .values(confirmed_open_at=at)
    )
    audit_log.write(
        connection,
        actor=ACTOR,
        action=f"hold.{step}",
        subject_kind="circuit",
        subject_id=circuit_id,
        detail={"hold_ids": hold_ids, **evidence},
        now=now,
    )
    events.append(connection, kind="circuit", subject_id=circuit_id, now=now)
