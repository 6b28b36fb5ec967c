"""The audit log: who did what, written in the transaction that it tells of (append-only, invariant 38)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import audit_log


def write(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject_kind: str,
    subject_id: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    """Append one row."""
    connection.execute(
        sa.insert(audit_log).values(
            written_at=now,
            actor=actor,
            action=action,
            subject_kind=subject_kind,
            subject_id=subject_id,
            detail=dict(detail),
        )
    )
