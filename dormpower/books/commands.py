"""Commands to relays, recorded before they are sent and finished with what was read back (invariants 16, 17).

A gateway that dies in between leaves a command without an end: at the next start it is marked `interrupted` and
never sent again as such; the reconciler looks at the relay and decides anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import events
from dormpower.books.ids import new_id
from dormpower.books.tables import commands, control_points
from dormpower.books.types import Instant
from dormpower.domain.samples import Relay

_IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command and how it ended; `outcome` is None while it is under way."""

    command_id: str
    circuit_id: str
    module_id: str
    channel: int
    relay: str
    cause: dict[str, Any]
    attempt: int
    recorded_at: datetime
    expires_at: datetime
    finished_at: datetime | None
    outcome: str | None
    read_back_relay: str | None
    read_back_at: datetime | None


def record(
    connection: Connection,
    *,
    circuit_id: str,
    module_id: str,
    channel: int,
    relay: Relay,
    cause: dict[str, Any],
    attempt: int,
    now: datetime,
    expires_at: datetime,
) -> str:
    """Put a command on record before it is sent and return its id. `now` is campus, `expires_at` real time."""
    command_id = new_id("cmd", now)
    connection.execute(
        sa.insert(commands).values(
            command_id=command_id,
            circuit_id=circuit_id,
            module_id=module_id,
            channel=channel,
            relay=relay.value,
            cause=cause,
            attempt=attempt,
            recorded_at=now,
            expires_at=expires_at,
        )
    )
    return command_id


def finish(
    connection: Connection, *, command_id: str, outcome: str, read_back: Relay | None, now: datetime
) -> None:
    """Put the end of a command on record, once; an event tells of it."""
    circuit_id = connection.scalar(
        sa.update(commands)
        .where(commands.c.command_id == command_id, commands.c.finished_at.is_(None))
        .values(
            finished_at=now,
            outcome=outcome,
            read_back_relay=None if read_back is None else read_back.value,
            read_back_at=None if read_back is None else now,
        )
        .returning(commands.c.circuit_id)
    )
    if circuit_id is not None:
        events.append(connection, kind="circuit", subject_id=circuit_id, now=now)


def interrupt_unfinished(connection: Connection, now: datetime) -> int:
    """Mark the commands that a gateway's end cut off; return how many there were.

    Each counts as a failure of its circuit: whether the relay has followed is not known.
    """
    found = connection.execute(
        sa.update(commands)
        .where(commands.c.finished_at.is_(None))
        .values(finished_at=now, outcome="interrupted")
        .returning(commands.c.circuit_id)
    ).scalars()
    circuit_ids = sorted(found)
    connection.execute(
        sa.update(control_points)
        .where(control_points.c.circuit_id.in_(circuit_ids))
        .values(failures=control_points.c.failures + 1)
    )
    return len(circuit_ids)


def closings_since(connection: Connection, circuit_ids: Sequence[str], since: datetime) -> dict[str, datetime]:
    """Return when circuits were last commanded to close, where that is not before `since`.

    One that was commanded to open after that, or is known to have opened, is left out.
    """
    last_closing, last_opening = (
        sa.func.max(sa.case((commands.c.relay == relay.value, commands.c.recorded_at)), type_=Instant)
        for relay in (Relay.CLOSED, Relay.OPEN)
    )
    found: dict[str, datetime] = {}
    for start in range(0, len(circuit_ids), _IDS_AT_ONCE):
        rows = connection.execute(
            sa.select(
                commands.c.circuit_id,
                last_closing.label("closing_at"),
                last_opening.label("opening_at"),
                control_points.c.opened_at,
            )
            .outerjoin(control_points, control_points.c.circuit_id == commands.c.circuit_id)
            .where(
                commands.c.circuit_id.in_(list(circuit_ids[start : start + _IDS_AT_ONCE])),
                commands.c.recorded_at >= since,
            )
            .group_by(commands.c.circuit_id, control_points.c.opened_at)
        )
        for row in rows:
            opened = [at for at in (row.opening_at, row.opened_at) if at is not None]
            if row.closing_at is not None and all(at <= row.closing_at for at in opened):
                found[row.circuit_id] = row.closing_at
    return found


def history(connection: Connection, circuit_id: str, *, limit: int = 50) -> list[Command]:
    """Return a circuit's commands, newest first."""
    rows = connection.execute(
        sa.select(commands)
        .where(commands.c.circuit_id == circuit_id)
        .order_by(commands.c.recorded_at.desc(), commands.c.command_id.desc())
        .limit(limit)
    )
    return [Command(**row) for row in rows.mappings()]
