"""What control remembers of a circuit across restarts, and cuts that wait for approval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from dormpower.books import alarms, audit_log, events, intents, states
from dormpower.books.tables import control_points, meter_points, pending_cuts
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.arrears import NO_WARNINGS, Warnings
from dormpower.domain.holds import Enforcement, SupplyState
from dormpower.domain.reconcile import Control, Waiting, WaitsFor
from dormpower.domain.samples import Relay

# *Suggested*: time to find out what is wrong with the price, the readings or the policy.
REFUSED_S = 24 * 3600


class UnableToRefuseCutsError(Exception):
    """The cuts can't be refused as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPoint:
    """One circuit's memory. `commanded_relay` open: ours may be the reason why the relay is open."""

    control: Control = Control.SETTLED
    expected_change_at: datetime | None = None
    waiting: Waiting | None = None
    commanded_relay: Relay | None = None
    opened_at: datetime | None = None
    failures: int = 0
    warnings: Warnings = NO_WARNINGS
    state: SupplyState = SupplyState.OFFLINE


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCut:
    """A cut that the breaker put off until a person approves it (invariant 24); no hold.

    A refused one is not made, and keeps no other from passing; after `REFUSED_S` it waits anew.
    """

    circuit_id: str
    reason: str
    since_at: datetime
    approved_at: datetime | None
    approved_by: str | None
    evidence: Mapping[str, Any]
    refused_at: datetime | None
    refused_by: str | None
    refusal: str | None

    @property
    def waits(self) -> bool:
        """Whether nobody has decided on it."""
        return self.approved_at is None and self.refused_at is None


class ChosenCut(NamedTuple):
    """Which waiting cut a person decides on; without a reason every one that waits for the circuit now."""

    circuit_id: str
    reason: str | None = None


def points(connection: Connection, circuit_ids: Sequence[str] | None = None) -> dict[str, ControlPoint]:
    """Return the control points by circuit; all of them by default."""
    query = sa.select(control_points)
    if circuit_ids is not None:
        query = query.where(control_points.c.circuit_id.in_(list(circuit_ids)))
    return {
        row["circuit_id"]: ControlPoint(
            control=Control(row["control"]),
            expected_change_at=row["expected_change_at"],
            waiting=waiting_from(row["waits_for"], row["waits_for_feeder_id"]),
            commanded_relay=None if row["commanded_relay"] is None else Relay(row["commanded_relay"]),
            opened_at=row["opened_at"],
            failures=row["failures"],
            warnings=_warnings_from(row["arrears"]),
            state=_state_from(row["state"]),
        )
        for row in connection.execute(query).mappings()
    }


def _state_from(code: str) -> SupplyState:
    """Return a state on record; one that another version wrote is unknown until it is derived anew."""
    return SupplyState(code) if code in set(SupplyState) else SupplyState.OFFLINE


def save(connection: Connection, *, circuit_id: str, now: datetime, **values: Any) -> None:
    """Write some columns of a control point; an event is left where people see the change."""
    states.lock(connection, circuit_id)
    connection.execute(
        sa.update(control_points).where(control_points.c.circuit_id == circuit_id).values(**values)
    )
    if "control" in values or "arrears" in values:
        events.append(connection, kind="circuit", subject_id=circuit_id, now=now)


def save_wait(
    connection: Connection,
    *,
    circuit_id: str,
    control: Control,
    expected_change_at: datetime | None,
    waiting: Waiting | None,
    now: datetime,
) -> None:
    """Write how far a relay follows, and what it waits for."""
    save(
        connection,
        circuit_id=circuit_id,
        now=now,
        control=control.value,
        expected_change_at=expected_change_at,
        waits_for=None if waiting is None else waiting.why.value,
        waits_for_feeder_id=None if waiting is None else waiting.feeder_id,
    )


def waiting_from(why: str | None, feeder_id: str | None) -> Waiting | None:
    """Return what a relay waits for, of a control point's columns; what another version wrote is not told."""
    if why is None or why not in set(WaitsFor):
        return None
    return Waiting(why=WaitsFor(why), feeder_id=feeder_id)


def save_warnings(connection: Connection, *, circuit_id: str, warnings: Warnings, now: datetime) -> None:
    """Write which warnings stand: this is what the room's status shows."""
    save(connection, circuit_id=circuit_id, now=now, arrears=_warnings_to(warnings))


def save_relay(connection: Connection, *, circuit_id: str, relay: Relay, now: datetime) -> None:
    """Write what a command read back, so that people see it before the next poll."""
    connection.execute(
        sa.update(meter_points)
        .where(meter_points.c.circuit_id == circuit_id)
        .values(relay=relay.value, relay_at=now)
    )


def pend_cut(
    connection: Connection, *, circuit_id: str, reason: str, evidence: Mapping[str, Any], now: datetime
) -> bool:
    """Put a cut on the list of those that wait, with one alarm for the site; False if it is there already."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    added = connection.scalar(
        insert(pending_cuts)
        .values(circuit_id=circuit_id, reason=reason, since_at=now, evidence=dict(evidence))
        .on_conflict_do_nothing()
        .returning(pending_cuts.c.circuit_id)
    )
    _tell_of_waiting(connection, circuit_id=circuit_id, detail={"reason": reason}, now=now)
    return added is not None


def drop_pending(connection: Connection, *, circuit_id: str, reason: str, now: datetime) -> None:
    """Take a cut off the list: made, or no longer due. The alarm ends with the last one that waits."""
    connection.execute(
        sa.delete(pending_cuts).where(pending_cuts.c.circuit_id == circuit_id, pending_cuts.c.reason == reason)
    )
    _clear_when_none_waits(connection, now)


def pending(connection: Connection) -> list[PendingCut]:
    """Return the cuts on the list, oldest first; approved ones stay until they are made."""
    rows = connection.execute(
        sa.select(pending_cuts).order_by(pending_cuts.c.since_at, pending_cuts.c.circuit_id)
    )
    return [PendingCut(**row) for row in rows.mappings()]


def approve_cuts(
    connection: Connection, *, chosen: Sequence[ChosenCut] | None, actor: str, now: datetime
) -> int:
    """Let cuts through, all that wait for None; each is judged anew before it is made. Return how many.

    One that was refused may still be approved, by its name. What comes to wait later for the same circuit is
    another cut, with a decision of its own.
    """
    values = {"approved_at": now, "approved_by": actor, "refused_at": None, "refused_by": None, "refusal": None}
    open_to = _WAITS if chosen is None else pending_cuts.c.approved_at.is_(None)
    found = _decide_on(connection, chosen, open_to, values)
    for circuit_id in sorted({cut.circuit_id for cut in found}):
        intents.leave(connection, circuit_id=circuit_id, cause="cut.approved", now=now)
    _after_decision(connection, found, action="cut.approve", actor=actor, detail={}, now=now)
    return len(found)


def refuse_cuts(
    connection: Connection, *, chosen: Sequence[ChosenCut] | None, actor: str, reason: str, now: datetime
) -> int:
    """Say no to cuts that wait (all of them for None): they are not made for `REFUSED_S`. Return how many.

    Raises UnableToRefuseCutsError without a reason.
    """
    if not reason.strip():
        raise UnableToRefuseCutsError("reason: expected why these cuts are wrong, got nothing")
    values = {"refused_at": now, "refused_by": actor, "refusal": reason}
    found = _decide_on(connection, chosen, _WAITS, values)
    _after_decision(connection, found, action="cut.refuse", actor=actor, detail={"reason": reason}, now=now)
    return len(found)


def ask_again(connection: Connection, now: datetime) -> int:
    """Let refused cuts that are still due after `REFUSED_S` wait for a person again; return how many.

    They don't pass by themselves: what was wrong with them has not been put right.
    """
    since = now - timedelta(seconds=REFUSED_S)
    values = {"refused_at": None, "refused_by": None, "refusal": None}
    found = _decide_on(connection, None, pending_cuts.c.refused_at <= since, values)
    if found:
        first = found[0].circuit_id
        _tell_of_waiting(connection, circuit_id=first, detail={"asked_again": len(found)}, now=now)
    return len(found)


_WAITS = sa.and_(pending_cuts.c.approved_at.is_(None), pending_cuts.c.refused_at.is_(None))


def _decide_on(
    connection: Connection,
    chosen: Sequence[ChosenCut] | None,
    condition: sa.ColumnElement[bool],
    values: Mapping[str, Any],
) -> list[ChosenCut]:
    """Write a decision on the chosen cuts that a condition leaves open; return them by circuit and reason."""
    query = sa.update(pending_cuts).where(condition)
    if chosen is not None:
        whole = [one.circuit_id for one in chosen if one.reason is None]
        named = [(one.circuit_id, one.reason) for one in chosen if one.reason is not None]
        cut = sa.tuple_(pending_cuts.c.circuit_id, pending_cuts.c.reason)
        query = query.where(sa.or_(pending_cuts.c.circuit_id.in_(whole), cut.in_(named)))
    found = connection.execute(
        query.values(**values).returning(pending_cuts.c.circuit_id, pending_cuts.c.reason)
    )
    return sorted(ChosenCut(row.circuit_id, row.reason) for row in found)


def _after_decision(
    connection: Connection,
    cuts: Sequence[ChosenCut],
    *,
    action: str,
    actor: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    for cut in cuts:
        audit_log.write(
            connection,
            actor=actor,
            action=action,
            subject_kind="circuit",
            subject_id=cut.circuit_id,
            detail={"cut": cut.reason, **detail},
            now=now,
        )
    _clear_when_none_waits(connection, now)


def _tell_of_waiting(
    connection: Connection, *, circuit_id: str, detail: Mapping[str, Any], now: datetime
) -> None:
    alarms.raise_alarm(
        connection,
        kind=AlarmKind.CUTS_PENDING_APPROVAL,
        priority=PRIORITIES[AlarmKind.CUTS_PENDING_APPROVAL],
        subject_kind="site",
        subject_id="cuts",
        detail={"first_circuit_id": circuit_id, **detail},
        now=now,
    )


def _clear_when_none_waits(connection: Connection, now: datetime) -> None:
    waiting = connection.scalar(sa.select(sa.func.count()).select_from(pending_cuts).where(_WAITS))
    if not waiting:
        alarms.clear_alarm(
            connection,
            kind=AlarmKind.CUTS_PENDING_APPROVAL,
            subject_kind="site",
            subject_id="cuts",
            now=now,
        )


def _warnings_to(warnings: Warnings) -> dict[str, Any] | None:
    if warnings == NO_WARNINGS:
        return None
    return {
        "first_at": warnings.first_at.isoformat() if warnings.first_at else None,
        "second_at": warnings.second_at.isoformat() if warnings.second_at else None,
        "mode": warnings.mode.value,
        "deferred": warnings.deferred,
    }


def given_warnings(written: Mapping[str, Any] | None) -> Warnings:
    """Return the warnings that people were given, of a control point's column: in shadow nobody was told."""
    warnings = _warnings_from(written)
    return warnings if warnings.mode is Enforcement.ENFORCE else NO_WARNINGS


def _warnings_from(written: Mapping[str, Any] | None) -> Warnings:
    if not written:
        return NO_WARNINGS

    def instant(key: str) -> datetime | None:
        return datetime.fromisoformat(written[key]) if written.get(key) else None

    return Warnings(
        first_at=instant("first_at"),
        second_at=instant("second_at"),
        mode=Enforcement(written.get("mode", "enforce")),
        deferred=bool(written.get("deferred", False)),
    )
