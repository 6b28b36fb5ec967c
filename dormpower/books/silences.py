"""When modules and lines were silent, on record, and the cuts of a module's circuits."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import commands, silences
from dormpower.domain.samples import Relay
from dormpower.domain.silences import Silence


def begin(connection: Connection, *, subject_kind: str, subject_id: str, now: datetime) -> None:
    """Put on record that a module or line fell silent; one that is silent already stays as it is."""
    if connection.scalar(_open(subject_kind, subject_id)) is None:
        connection.execute(
            sa.insert(silences).values(subject_kind=subject_kind, subject_id=subject_id, from_at=now)
        )


def end(connection: Connection, *, subject_kind: str, subject_id: str, now: datetime) -> None:
    """Put on record that it answers again."""
    connection.execute(
        sa.update(silences)
        .where(
            silences.c.subject_kind == subject_kind,
            silences.c.subject_id == subject_id,
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


def cuts_of(connection: Connection, *, module_id: str, at: datetime) -> list[datetime]:
    """Return when relays of a module were told to open after an instant, oldest first."""
    return list(
        connection.scalars(
            sa.select(commands.c.recorded_at)
            .where(
                commands.c.module_id == module_id,
                commands.c.relay == Relay.OPEN.value,
                commands.c.recorded_at > at,
            )
            .order_by(commands.c.recorded_at)
        )
    )


def drop_before(connection: Connection, at: datetime) -> int:
    """Let silences that ended before an instant go; return how many went."""
    return int(connection.execute(sa.delete(silences).where(silences.c.to_at < at)).rowcount)


def _open(subject_kind: str, subject_id: str) -> sa.Select[tuple[int]]:
    return sa.select(silences.c.silence_id).where(
        silences.c.subject_kind == subject_kind,
        silences.c.subject_id == subject_id,
        silences.c.to_at.is_(None),
    )
