"""A reset over a part of the site: what a reset of each circuit in it would release, nothing else (CONTRACT).

After a return of supply a building may have hundreds of relays that came up open; each is a hold of its own. A
few circuits go in each transaction, so that nobody waits for the books meanwhile; a reset that is cut off is
asked for again: what is done is done.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, holds
from dormpower.books.database import Books
from dormpower.books.scoped_holds import AT_ONCE, check_scope, circuits_in, describe
from dormpower.books.tables import holds as holds_table
from dormpower.domain.holds import RESETTABLE
from dormpower.domain.scopes import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedReset:
    """How many circuits of a scope had something to reset, and how many holds went."""

    circuits: int
    released: int


def reset(*, books: Books, scope: Scope, actor: str, now: datetime) -> ScopedReset:
    """Reset every circuit of a scope. Raises UnableToPlaceScopedHoldError for a scope that names too little."""
    with books.write() as connection:
        check_scope(connection, scope)
        waiting = _resettable(connection, scope)
        audit_log.write(
            connection,
            actor=actor,
            action="scope.reset",
            subject_kind="scope",
            subject_id=describe(scope),
            detail={"circuits": len(waiting)},
            now=now,
        )
    released = 0
    for start in range(0, len(waiting), AT_ONCE):
        with books.write() as connection:
            for circuit_id in waiting[start : start + AT_ONCE]:
                released += len(holds.reset(connection, circuit_id, actor, now))
    return ScopedReset(circuits=len(waiting), released=released)


def _resettable(connection: Connection, scope: Scope) -> list[str]:
    query = (
        sa.select(holds_table.c.circuit_id)
        .distinct()
        .where(
            holds_table.c.circuit_id.in_(circuits_in(scope)),
            holds_table.c.reason.in_(sorted(reason.value for reason in RESETTABLE)),
            holds_table.c.shadow.is_(sa.false()),
            holds_table.c.released_at.is_(None),
        )
        .order_by(holds_table.c.circuit_id)
    )
    return list(connection.scalars(query))
