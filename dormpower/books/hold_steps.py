"""What the placing and the release of holds write besides the holds, in the caller's transaction.

The change of state where there is one, an intent for the gateway, an event and an audit row. Many are written
set by set, not hold by hold: where a rule is switched off, a whole campus may be let go in one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from dormpower.books import audit_log, events, intents, states
from dormpower.books.audit_log import AuditRow
from dormpower.books.states import StateDue
from dormpower.domain.holds import Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldStep:
    """A hold of a circuit was placed or released; `detail` is what goes on record of it."""

    circuit_id: str
    cause: str
    actor: str
    detail: Mapping[str, Any]


def write_all(
    connection: Connection,
    steps: Sequence[HoldStep],
    *,
    standing: Mapping[str, tuple[Hold, ...]],
    now: datetime,
) -> None:
    """Write what follows from steps, at most one for each circuit; `standing` is what stands after them."""
    states.record(
        connection,
        [
            StateDue(
                circuit_id=step.circuit_id,
                holds=standing.get(step.circuit_id, ()),
                cause=step.cause,
                actor=step.actor,
                evidence=step.detail,
            )
            for step in steps
        ],
        now=now,
    )
    intents.leave_all(connection, [(step.circuit_id, step.cause) for step in steps], now=now)
    events.append_all(connection, kind="circuit", subject_ids=[step.circuit_id for step in steps], now=now)
    audit_log.write_all(
        connection,
        [
            AuditRow(
                actor=step.actor,
                action=step.cause,
                subject_kind="circuit",
                subject_id=step.circuit_id,
                detail=step.detail,
            )
            for step in steps
        ],
        now=now,
    )
