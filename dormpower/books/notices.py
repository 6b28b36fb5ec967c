"""Notices to residents, queued in the transaction that causes them: one row a channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import notices


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message that waits to be sent; the text comes from the catalogue by `code` and `params`."""

    notice_id: int
    circuit_id: str
    channel: str
    code: str
    params: Mapping[str, Any]
    queued_at: datetime
    sent_at: datetime | None


def queue(
    connection: Connection,
    *,
    circuit_id: str,
    channels: Sequence[str],
    code: str,
    params: Mapping[str, Any],
    now: datetime,
) -> None:
    """Queue a message to every channel."""
    for channel in channels:
        connection.execute(
            sa.insert(notices).values(
                circuit_id=circuit_id, channel=channel, code=code, params=dict(params), queued_at=now
            )
        )


def unsent(connection: Connection, limit: int) -> list[Notice]:
    """Return notices that wait to be sent, oldest first."""
    rows = connection.execute(
        sa.select(notices).where(notices.c.sent_at.is_(None)).order_by(notices.c.notice_id).limit(limit)
    )
    return [Notice(**row) for row in rows.mappings()]


def mark_sent(connection: Connection, notice_id: int, now: datetime) -> None:
    """Put on record that a notice went out."""
    connection.execute(sa.update(notices).where(notices.c.notice_id == notice_id).values(sent_at=now))
