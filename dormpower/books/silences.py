"""When modules and lines were silent, on record, and the cuts of a module's circuits."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import commands, holds, silences
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay
from dormpower.domain.silences import Cut, Silence


def begin(connection: Connection, *, subject_kind: str, subject_id: str, now: datetime) -> None:
    """Put on record that a module or line fell silent; one that is silent already stays as it is."""
    if connection.scalar(_open(subject_kind, subject_id)) is None:
        connection.execute(
            sa.insert(silences).values(subject_kind=subject_kind, subject_id=subject_id, from_at=now)
        )


def end(connection: Connection, *, subject_kind: str, subject_ids: Sequence[str], now: datetime) -> None:
    """Put on record that they answer again."""
    connection.execute(
        sa.update(silences)
        .where(
            silences.c.subject_kind == subject_kind,
            silences.c.subject_id.in_(list(subject_ids)),
            silences.c.to_at.is_(None),
        )
        .values(to_at=now)
    )


def since(connection: Connection, *, subject_kind: str, subject_id: str, at: datetime) -> list[Silence]:
    """Return the silences that began after an instant, oldest first."""
    rows = connection.execute(
        sa.select(silences.c.from_at, silences.c.to_at)
        .where(
            silences.c.subject_kind == subject_kind,
            silences.c.subject_id == subject_id,
            silences.c.from_at > at,
        )
        .order_by(silences.c.from_at)
    )
    return [Silence(from_at=row.from_at, to_at=row.to_at) for row in rows]


def lasting(connection: Connection, *, subject_kind: str, since: datetime) -> list[tuple[str, datetime]]:
    """Return who fell silent after an instant and still is, and when."""
    rows = connection.execute(
        sa.select(silences.c.subject_id, silences.c.from_at)
        .where(
            silences.c.subject_kind == subject_kind,
            silences.c.to_at.is_(None),
            silences.c.from_at > since,
        )
        .order_by(silences.c.subject_id)
    )
    return [(row.subject_id, row.from_at) for row in rows]


def cuts_of(connection: Connection, *, circuit_ids: Sequence[str], at: datetime) -> list[Cut]:
    """Return the cuts of circuits after an instant: holds that were placed, relays that were told to open.

    What the module itself did, or somebody at it, is no cut of ours.
    """
    held = sa.select(holds.c.circuit_id, holds.c.placed_at.label("at")).where(
        holds.c.circuit_id.in_(list(circuit_ids)),
        holds.c.placed_at > at,
        holds.c.shadow.is_(sa.false()),
        holds.c.reason.not_in([Reason.MODULE_TRIP.value, Reason.OPENED_LOCALLY.value]),
    )
    told = sa.select(commands.c.circuit_id, commands.c.recorded_at.label("at")).where(
        commands.c.circuit_id.in_(list(circuit_ids)),
        commands.c.relay == Relay.OPEN.value,
        commands.c.recorded_at > at,
    )
    return [Cut(circuit_id=row.circuit_id, at=row.at) for row in connection.execute(sa.union_all(held, told))]


def drop_before(connection: Connection, at: datetime) -> int:
    """Let silences that ended before an instant go; return how many went."""
    return int(connection.execute(sa.delete(silences).where(silences.c.to_at < at)).rowcount)


def _open(subject_kind: str, subject_id: str) -> sa.Select[tuple[int]]:
    return sa.select(silences.c.silence_id).where(
        silences.c.subject_kind == subject_kind,
        silences.c.subject_id == subject_id,
        silences.c.to_at.is_(None),
    )
