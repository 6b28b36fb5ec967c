"""Supply states on record: each change with cause, actor, evidence and the reported relay (invariant 26).

The state is derived (`domain.holds.supply_state`); this module notices that it has become another one and
writes that down. Whoever changes a hold calls `record` in the same transaction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from dormpower.books import events
from dormpower.books.tables import control_points, meta, meter_points, state_changes
from dormpower.domain.holds import Hold, SupplyState, supply_state

DEFAULT_STALE_AFTER_S = 150.0
_STALE_KEY = "stale_after_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """One change of a circuit's supply state."""

    state_change_id: int
    circuit_id: str
    changed_at: datetime
    from_state: str
    to_state: str
    relay: str | None
    cause: str
    actor: str
    evidence: Mapping[str, Any]


def stale_after_s(connection: Connection) -> float:
    """Return after how many campus seconds without an accepted reading a circuit is offline.

    The gateway writes it at its start, from its poll period and the campus clock's speed.
    """
    value = connection.scalar(sa.select(meta.c.value).where(meta.c.key == _STALE_KEY))
    return DEFAULT_STALE_AFTER_S if value is None else float(value)


def set_stale_after_s(connection: Connection, seconds: float) -> None:
    """Write the stale limit that every process uses."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(meta)
        .values(key=_STALE_KEY, value=repr(float(seconds)))
        .on_conflict_do_update(index_elements=[meta.c.key], set_={"value": repr(float(seconds))})
    )


def lock(connection: Connection, circuit_id: str) -> str:
    """Serialise writers of one circuit's holds until the transaction ends; return the state on record.

    The circuit's control row is made where it has none yet.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    query = sa.select(control_points.c.state).where(control_points.c.circuit_id == circuit_id).with_for_update()
    state = connection.scalar(query)
    if state is None:
        connection.execute(insert(control_points).values(circuit_id=circuit_id).on_conflict_do_nothing())
        state = connection.scalar(query)
    return str(state)


def record(
    connection: Connection,
    *,
    circuit_id: str,
    holds: Iterable[Hold],
    cause: str,
    actor: str,
    evidence: Mapping[str, Any],
    now: datetime,
) -> SupplyState:
    """Derive the state from the standing holds and write a change where it became another; return it.

    `holds` are the circuit's standing ones, as the present transaction sees them. An event is left where the
    state changed.
    """
    before = lock(connection, circuit_id)
    seen = connection.execute(
        sa.select(meter_points.c.last_seen_at, meter_points.c.relay).where(
            meter_points.c.circuit_id == circuit_id
        )
    ).first()
    state = supply_state(
        holds,
        last_seen_at=seen.last_seen_at if seen else None,
        now=now,
        stale_after_s=stale_after_s(connection),
    )
    if state == before:
        return state
    connection.execute(
        sa.insert(state_changes).values(
            circuit_id=circuit_id,
            changed_at=now,
            from_state=before,
            to_state=state.value,
            relay=seen.relay if seen else None,
            cause=cause,
            actor=actor,
            evidence=dict(evidence),
        )
    )
    connection.execute(
        sa.update(control_points)
        .where(control_points.c.circuit_id == circuit_id)
        .values(state=state.value, state_since_at=now)
    )
    events.append(connection, kind="circuit", subject_id=circuit_id, now=now)
    return state


def history(connection: Connection, circuit_id: str, *, limit: int = 50) -> list[StateChange]:
    """Return a circuit's changes of state, newest first."""
    rows = connection.execute(
        sa.select(state_changes)
        .where(state_changes.c.circuit_id == circuit_id)
        .order_by(state_changes.c.changed_at.desc(), state_changes.c.state_change_id.desc())
        .limit(limit)
    )
    return [StateChange(**row) for row in rows.mappings()]
