"""Quarantines in the books: opened and ended by the gateway, decided by a person.

The gateway owns the meter point, so a decision doesn't touch it: it is recorded here, with the register that
the person saw, and takes effect in the gateway's next batch (`decided`, then `close`). No other writer can
then overwrite it, and no energy is lost or charged twice between the two.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import alarms, audit_log, intents
from dormpower.books.tables import meter_points, quarantines
from dormpower.books.types import to_ms
from dormpower.domain.meter_state import ChannelLimits, Decision, MeterState, Reason
from dormpower.domain.spans import UnableToDecideError, accepted_step
from dormpower.domain.units import MAX_ENERGY_WH

ALARM_KIND = "register_quarantined"
INTENT_CAUSE = "quarantine_decided"


class UnableToDecideQuarantineError(Exception):
    """The decision can't be recorded; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision that waits for the gateway."""

    quarantine_id: int
    circuit_id: str
    decision: Decision
    register_wh: int
    at: datetime
    estimate_wh: int | None


def open_quarantine(
    connection: Connection,
    *,
    circuit_id: str,
    module_id: str,
    state: MeterState,
    reason: Reason,
    limits: ChannelLimits,
    now: datetime,
) -> None:
    """Record that a register is not believed, with its evidence, and raise the alarm that names it."""
    evidence = {
        "reason": reason.value,
        "accepted_register_wh": state.register_wh,
        "accepted_at_ms": None if state.register_at is None else to_ms(state.register_at),
        "register_wh": state.suspect_register_wh,
        "at_ms": None if state.suspect_at is None else to_ms(state.suspect_at),
        **asdict(limits),
    }
    quarantine_id = connection.execute(
        sa.insert(quarantines)
        .values(
            circuit_id=circuit_id,
            span_id=state.span_id,
            reason=reason.value,
            opened_at=state.quarantined_at,
            accepted_register_wh=state.register_wh,
            accepted_at=state.register_at,
            evidence=evidence,
        )
        .returning(quarantines.c.quarantine_id)
    ).scalar_one()
    alarms.raise_alarm(
        connection,
        kind=ALARM_KIND,
        priority="medium",
        subject_kind="circuit",
        subject_id=circuit_id,
        circuit_id=circuit_id,
        module_id=module_id,
        detail={"quarantine_id": quarantine_id, **evidence},
        now=now,
    )


def close(connection: Connection, *, circuit_id: str, decision: str, now: datetime) -> None:
    """Record that a quarantine is over ("returned", "replaced", or as decided) and clear its alarm."""
    connection.execute(
        sa.update(quarantines)
        .where(quarantines.c.circuit_id == circuit_id, quarantines.c.closed_at.is_(None))
        .values(closed_at=now, decision=decision)
    )
    alarms.clear_alarm(connection, kind=ALARM_KIND, subject_kind="circuit", subject_id=circuit_id, now=now)


def take_back(connection: Connection, decided: Decided, *, why: str, now: datetime) -> None:
    """Undo a decision that can't be carried out, so that a person decides anew; it stays in the audit log."""
    connection.execute(
        sa.update(quarantines)
        .where(quarantines.c.quarantine_id == decided.quarantine_id)
        .values(
            decision=None,
            decided_at=None,
            decided_by=None,
            decided_register_wh=None,
            decided_register_at=None,
            estimate_wh=None,
            note=None,
        )
    )
    audit_log.write(
        connection,
        actor="gateway",
        action="quarantine.decision_refused",
        subject_kind="circuit",
        subject_id=decided.circuit_id,
        detail={"quarantine_id": decided.quarantine_id, "decision": decided.decision.value, "why": why},
        now=now,
    )


def decided(connection: Connection) -> list[Decided]:
    """Return the decisions that wait for the gateway."""
    rows = connection.execute(
        sa.select(quarantines).where(quarantines.c.closed_at.is_(None), quarantines.c.decided_at.is_not(None))
    ).all()
    return [
        Decided(
            quarantine_id=row.quarantine_id,
            circuit_id=row.circuit_id,
            decision=Decision(row.decision),
            register_wh=row.decided_register_wh,
            at=row.decided_register_at,
            estimate_wh=row.estimate_wh,
        )
        for row in rows
    ]


def accept(
    connection: Connection, *, quarantine_id: int, actor: str, now: datetime, note: str | None = None
) -> None:
    """Decide that the register is right: the step to it is charged.

    Raises UnableToDecideQuarantineError where the quarantine isn't open or is decided already, or where the
    register fell and no rollover that the circuit can have drawn explains it (invariant 30).
    """
    _decide(connection, quarantine_id, Decision.ACCEPTED, actor=actor, note=note, now=now)


def dismiss(
    connection: Connection, *, quarantine_id: int, actor: str, now: datetime, note: str | None = None
) -> None:
    """Decide that the step charges nothing; metering goes on from the register that is there now.

    Raises UnableToDecideQuarantineError where the quarantine isn't open or is decided already.
    """
    _decide(connection, quarantine_id, Decision.DISMISSED, actor=actor, note=note, now=now)


def estimate(
    connection: Connection,
    *,
    quarantine_id: int,
    energy_wh: int,
    actor: str,
    now: datetime,
    note: str | None = None,
) -> None:
    """Decide that `energy_wh` is charged in place of the step, marked as an estimate.

    Raises UnableToDecideQuarantineError where the quarantine isn't open or is decided already, or the energy is
    not within 0 to the largest amount.
    """
    if not 0 <= energy_wh <= MAX_ENERGY_WH:
        raise UnableToDecideQuarantineError(f"energy_wh: expected 0 to {MAX_ENERGY_WH} Wh, got {energy_wh}")
    _decide(
        connection,
        quarantine_id,
        Decision.ESTIMATED,
        actor=actor,
        note=note,
        now=now,
        estimate_wh=energy_wh,
    )


def _decide(
    connection: Connection,
    quarantine_id: int,
    decision: Decision,
    *,
    actor: str,
    note: str | None,
    now: datetime,
    estimate_wh: int | None = None,
) -> None:
    row = connection.execute(
        sa.select(quarantines, meter_points.c.suspect_register_wh, meter_points.c.suspect_at)
        .join(meter_points, meter_points.c.circuit_id == quarantines.c.circuit_id)
        .where(quarantines.c.quarantine_id == quarantine_id)
        .with_for_update(of=quarantines)
    ).first()
    if row is None:
        raise UnableToDecideQuarantineError(f"quarantine {quarantine_id}: not found")
    if row.closed_at is not None or row.decided_at is not None:
        raise UnableToDecideQuarantineError(f"quarantine {quarantine_id}: already {row.decision}")
    if row.suspect_register_wh is None:
        raise UnableToDecideQuarantineError(f"quarantine {quarantine_id}: its register has no sample on record")
    if decision is Decision.ACCEPTED:
        try:
            accepted_step(
                from_wh=row.accepted_register_wh,
                to_wh=row.suspect_register_wh,
                elapsed=row.suspect_at - row.accepted_at,
                limits=_limits(row.evidence),
            )
        except UnableToDecideError as refusal:
            raise UnableToDecideQuarantineError(f"quarantine {quarantine_id}: {refusal}") from refusal
    connection.execute(
        sa.update(quarantines)
        .where(quarantines.c.quarantine_id == quarantine_id)
        .values(
            decision=decision.value,
            decided_at=now,
            decided_by=actor,
            decided_register_wh=row.suspect_register_wh,
            decided_register_at=row.suspect_at,
            estimate_wh=estimate_wh,
            note=note,
        )
    )
    audit_log.write(
        connection,
        actor=actor,
        action=f"quarantine.{decision.value}",
        subject_kind="circuit",
        subject_id=row.circuit_id,
        detail={
            "quarantine_id": quarantine_id,
            "accepted_register_wh": row.accepted_register_wh,
            "register_wh": row.suspect_register_wh,
            "estimate_wh": estimate_wh,
            "note": note,
        },
        now=now,
    )
    intents.leave(connection, circuit_id=row.circuit_id, cause=INTENT_CAUSE, now=now)


def _limits(evidence: Mapping[str, Any]) -> ChannelLimits:
    """Return the limits that the register was judged by; what old evidence lacks is taken strictly."""
    return ChannelLimits(
        rated_current_a=evidence["rated_current_a"],
        resolution_wh=evidence.get("resolution_wh", 0),
        modulus_wh=evidence.get("modulus_wh"),
        phases=evidence.get("phases", 1),
        slack_ms=evidence.get("slack_ms", 0),
    )
