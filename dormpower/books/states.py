"""Supply states on record: each change with cause, actor, evidence and the reported relay (invariant 26).

The state is derived (`domain.holds.supply_state`); this module notices that it has become another one and
writes that down. Whoever changes a hold calls `record` in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
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
_STALE_AFTER_S = sa.select(meta.c.value).where(meta.c.key == _STALE_KEY)


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
    value = connection.scalar(_STALE_AFTER_S)
    return DEFAULT_STALE_AFTER_S if value is None else float(value)


def set_stale_after_s(connection: Connection, seconds: float) -> None:
    """Write the stale limit that every process uses."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(meta)
        .values(key=_STALE_KEY, value=repr(float(seconds)))
        .on_conflict_do_update(index_elements=[meta.c.key], set_={"value": repr(float(seconds))})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDue:
    """A circuit whose state may have become another: its standing holds, and what would be the cause.

    `holds` are as the present transaction sees them.
    """

    circuit_id: str
    holds: Iterable[Hold]
    cause: str
    actor: str
    evidence: Mapping[str, Any]


def lock(connection: Connection, circuit_id: str) -> None:
    """Serialise writers of one circuit's holds until the transaction ends."""
    lock_all(connection, [circuit_id])


def lock_all(connection: Connection, circuit_ids: Sequence[str]) -> dict[str, str]:
    """Lock circuits as `lock` does and return their states on record.

    The control row is made where one has none yet.
    """
    found = _states(connection, circuit_ids)
    missing = [{"circuit_id": circuit_id} for circuit_id in circuit_ids if circuit_id not in found]
    if missing:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(insert(control_points).on_conflict_do_nothing(), missing)
        found |= _states(connection, [row["circuit_id"] for row in missing])
    return found


def _states(connection: Connection, circuit_ids: Sequence[str]) -> dict[str, str]:
    query = (
        sa.select(control_points.c.circuit_id, control_points.c.state)
        .where(control_points.c.circuit_id.in_(circuit_ids))
        .order_by(control_points.c.circuit_id)  # two that lock many don't wait for each other
        .with_for_update()
    )
    return {row.circuit_id: row.state for row in connection.execute(query)}


def record(connection: Connection, due: Sequence[StateDue], *, now: datetime) -> dict[str, SupplyState]:
    """Derive the states of circuits, each named once, and write the changes; return the states by circuit.

    An event is left for each circuit whose state changed. A campus that is believed for the first time changes
    hundreds of states a second: a few statements for all of them keep the write lock short.
    """
    circuit_ids = [one.circuit_id for one in due]
    before = lock_all(connection, circuit_ids)
    seen = {
        row.circuit_id: row
        for row in connection.execute(
            sa.select(meter_points.c.circuit_id, meter_points.c.last_seen_at, meter_points.c.relay).where(
                meter_points.c.circuit_id.in_(circuit_ids)
            )
        )
    }
    limit_s = stale_after_s(connection)
    states: dict[str, SupplyState] = {}
    changes: list[dict[str, Any]] = []
    for one in due:
        point = seen.get(one.circuit_id)
        states[one.circuit_id] = state = supply_state(
            one.holds, last_seen_at=point.last_seen_at if point else None, now=now, stale_after_s=limit_s
        )
        if state == before[one.circuit_id]:
            continue
        changes.append(
            {
                "circuit_id": one.circuit_id,
                "changed_at": now,
                "from_state": before[one.circuit_id],
                "to_state": state.value,
                "relay": point.relay if point else None,
                "cause": one.cause,
                "actor": one.actor,
                "evidence": dict(one.evidence),
            }
        )
    if changes:
        _write(connection, changes, now)
    return states


def _write(connection: Connection, changes: Sequence[Mapping[str, Any]], now: datetime) -> None:
    connection.execute(sa.insert(state_changes), changes)
    connection.execute(
        sa.update(control_points)
        .where(control_points.c.circuit_id == sa.bindparam("of_circuit"))
        .values(state=sa.bindparam("to_state"), state_since_at=now),
        [{"of_circuit": change["circuit_id"], "to_state": change["to_state"]} for change in changes],
    )
    events.append_all(
        connection, kind="circuit", subject_ids=[change["circuit_id"] for change in changes], now=now
    )


def history(connection: Connection, circuit_id: str, *, limit: int = 50) -> list[StateChange]:
    """Return a circuit's changes of state, newest first."""
    rows = connection.execute(
        sa.select(state_changes)
        .where(state_changes.c.circuit_id == circuit_id)
        .order_by(state_changes.c.changed_at.desc(), state_changes.c.state_change_id.desc())
        .limit(limit)
    )
    return [StateChange(**row) for row in rows.mappings()]
