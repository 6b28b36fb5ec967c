"""Holds in the books: place, release, lock out, reset.

Each step writes, in the caller's transaction, the hold, an intent for the gateway, the change of state where
there is one, an event and an audit row. Nothing here switches a relay.

Who may release what (invariant 15): a rule's hold only the rule that placed it (`released_by` equals
`placed_by`), except that a maintenance `reset` releases latched trips and `opened_locally`; a lock-out only its
holder, or an admin with a recorded reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, hold_steps, load_off, openings, states
from dormpower.books.hold_steps import HoldStep
from dormpower.books.ids import new_id
from dormpower.books.tables import circuits, holds
from dormpower.domain.holds import RESETTABLE, AnyReason, Hold, Reason, reason_of

_COLUMNS = (
    holds.c.hold_id,
    holds.c.circuit_id,
    holds.c.reason,
    holds.c.placed_at,
    holds.c.placed_by,
    holds.c.holder,
    holds.c.shadow,
    holds.c.note,
    holds.c.evidence,
    holds.c.expected_release_at,
    holds.c.confirmed_open_at,
    holds.c.scoped_hold_id,
)
_STANDING = sa.select(*_COLUMNS).where(holds.c.released_at.is_(None)).order_by(holds.c.hold_id)
_STANDING_OF = _STANDING.where(holds.c.circuit_id.in_(sa.bindparam("circuit_ids", expanding=True)))
_MANY = 500  # circuit ids in one IN list


class UnableToReleaseHoldError(Exception):
    """The hold is not this one's to release; nothing was changed. The message says whose it is."""


class UnableToFindLockoutError(Exception):
    """There is no standing lock-out of this id."""


class UnableToLockOutError(Exception):
    """The circuit can't be locked out as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockout:
    """A standing lock-out (CONTRACT): `confirmed_open_at` is None until the relay was read back open."""

    lockout_id: str
    circuit_id: str
    holder: str
    reason: str
    placed_at: datetime
    confirmed_open_at: datetime | None


def place(
    connection: Connection,
    *,
    circuit_id: str,
    reason: AnyReason,
    placed_by: str,
    evidence: Mapping[str, Any],
    now: datetime,
    holder: str = "",
    shadow: bool = False,
    expected_release_at: datetime | None = None,
    note: str | None = None,
    scoped_hold_id: str = "",
    counted: bool = False,
    alarmed: bool = True,
) -> str:
    """Place a hold and return its id; where the same one stands already, that one's id, and nothing is written.

    The same one: same circuit, reason, holder, shadow and scoped hold. `placed_by` is `rule:NAME` or a user.
    `counted`: it is one of those that the breaker counts (invariant 24). Not `alarmed`: the caller tells of it
    with others in the same transaction (`books.openings`).
    """
    states.lock(connection, circuit_id)
    standing_id = connection.scalar(
        sa.select(holds.c.hold_id).where(
            holds.c.circuit_id == circuit_id,
            holds.c.reason == reason.value,
            holds.c.holder == holder,
            holds.c.shadow == shadow,
            holds.c.scoped_hold_id == scoped_hold_id,
            holds.c.released_at.is_(None),
        )
    )
    if standing_id is not None:
        return str(standing_id)
    hold_id = new_id("hld", now)
    connection.execute(
        sa.insert(holds).values(
            hold_id=hold_id,
            circuit_id=circuit_id,
            reason=reason.value,
            holder=holder,
            shadow=shadow,
            placed_at=now,
            placed_by=placed_by,
            note=note,
            evidence=dict(evidence),
            expected_release_at=expected_release_at,
            scoped_hold_id=scoped_hold_id,
            counted=counted,
        )
    )
    step = HoldStep(
        circuit_id=circuit_id,
        cause=f"hold.{reason.value}.placed",
        actor=placed_by,
        detail={"hold_id": hold_id, "shadow": shadow, "holder": holder, "note": note, **dict(evidence)},
    )
    hold_steps.write_all(connection, [step], standing=standing(connection, [circuit_id]), now=now)
    if alarmed and load_off.is_alarmed(reason, shadow=shadow):
        load_off.tell(
            connection, circuit_id=circuit_id, reason=reason, hold_id=hold_id, evidence=evidence, now=now
        )
    return hold_id


def release(
    connection: Connection,
    *,
    released_by: str,
    evidence: Mapping[str, Any],
    now: datetime,
    hold_id: str | None = None,
    circuit_id: str | None = None,
    reason: Reason | None = None,
) -> int:
    """Release a rule's own hold, named by its id or by circuit and reason; return how many were released.

    Raises UnableToReleaseHoldError where `released_by` is not who placed it. Lock-outs have `lift_lockout`,
    latched trips have `reset` besides.
    """
    found = _find(connection, hold_id=hold_id, circuit_id=circuit_id, reason=reason)
    return _release_own(connection, found, released_by=released_by, evidence=evidence, now=now)


def release_all(
    connection: Connection,
    hold_ids: Sequence[str],
    *,
    released_by: str,
    evidence: Mapping[str, Any],
    now: datetime,
) -> int:
    """Release a rule's own holds on the same grounds, of many circuits at once; return how many were released.

    Raises UnableToReleaseHoldError, and releases none, where `released_by` is not who placed one of them.
    """
    found: dict[str, list[Hold]] = {}
    for start in range(0, len(hold_ids), _MANY):
        chunk = list(hold_ids[start : start + _MANY])
        query = sa.select(*_COLUMNS).where(holds.c.released_at.is_(None), holds.c.hold_id.in_(chunk))
        _gather(connection.execute(query.order_by(holds.c.hold_id)), found)
    standing_ones = [hold for members in found.values() for hold in members]
    return _release_own(connection, standing_ones, released_by=released_by, evidence=evidence, now=now)


def _release_own(
    connection: Connection,
    found: Sequence[Hold],
    *,
    released_by: str,
    evidence: Mapping[str, Any],
    now: datetime,
) -> int:
    for hold in found:
        if hold.placed_by != released_by:
            raise UnableToReleaseHoldError(
                f"hold {hold.hold_id} ({hold.reason}) of {hold.circuit_id}: placed by {hold.placed_by}, "
                f"which alone releases it; asked by {released_by}"
            )
    return _release_all(connection, found, actor=released_by, evidence=evidence, now=now)


def reset(connection: Connection, circuit_id: str, actor: str, now: datetime) -> list[Hold]:
    """Release latched trips and `opened_locally`, nothing else (CONTRACT); return what was released."""
    states.lock(connection, circuit_id)
    found = [
        hold
        for hold in standing(connection, [circuit_id]).get(circuit_id, ())
        if hold.reason in RESETTABLE and not hold.shadow
    ]
    _release_all(connection, found, actor=actor, evidence={"reset_by": actor}, now=now)
    audit_log.write(
        connection,
        actor=actor,
        action="circuit.reset",
        subject_kind="circuit",
        subject_id=circuit_id,
        detail={"released": [hold.hold_id for hold in found]},
        now=now,
    )
    return found


def standing(connection: Connection, circuit_ids: Sequence[str] | None = None) -> dict[str, tuple[Hold, ...]]:
    """Return the standing holds by circuit, oldest first, shadow ones among them; all circuits by default."""
    found: dict[str, list[Hold]] = {}
    if circuit_ids is None:
        _gather(connection.execute(_STANDING), found)
    else:
        ids = list(circuit_ids)
        for start in range(0, len(ids), _MANY):
            chunk = ids[start : start + _MANY]
            _gather(connection.execute(_STANDING_OF, {"circuit_ids": chunk}), found)
    return {circuit_id: tuple(members) for circuit_id, members in found.items()}


def last_released(connection: Connection, circuit_ids: Sequence[str]) -> dict[str, frozenset[AnyReason]]:
    """Return the reasons of the enforced holds that went last, by circuit."""
    found: dict[str, frozenset[AnyReason]] = {}
    for start in range(0, len(circuit_ids), _MANY):
        enforced = sa.and_(
            holds.c.circuit_id.in_(list(circuit_ids[start : start + _MANY])), holds.c.shadow.is_(sa.false())
        )
        last = (
            sa.select(holds.c.circuit_id, sa.func.max(holds.c.released_at).label("at"))
            .where(enforced)
            .group_by(holds.c.circuit_id)
            .subquery()
        )
        rows = connection.execute(
            sa.select(holds.c.circuit_id, holds.c.reason)
            .join(last, sa.and_(last.c.circuit_id == holds.c.circuit_id, last.c.at == holds.c.released_at))
            .where(enforced)
        )
        for row in rows:
            found[row.circuit_id] = found.get(row.circuit_id, frozenset()) | {reason_of(row.reason)}
    return found


def place_lockout(
    connection: Connection, *, circuit_id: str, holder: str, reason: str, now: datetime
) -> Lockout:
    """Lock a circuit out in the name of `holder`; a repeat by the same holder returns the standing lock-out.

    Raises UnableToLockOutError for an unknown circuit or an empty reason.
    """
    if not reason.strip():
        raise UnableToLockOutError("reason: expected why the circuit is locked out, got nothing")
    known = connection.scalar(sa.select(circuits.c.circuit_id).where(circuits.c.circuit_id == circuit_id))
    if known is None:
        raise UnableToLockOutError(f"circuit {circuit_id}: there is none of this id")
    hold_id = place(
        connection,
        circuit_id=circuit_id,
        reason=Reason.LOCKOUT,
        placed_by=holder,
        holder=holder,
        note=reason,
        evidence={},
        now=now,
    )
    return get_lockout(connection, hold_id)


def get_lockout(connection: Connection, lockout_id: str) -> Lockout:
    """Return a standing lock-out. Raises UnableToFindLockoutError."""
    found = [hold for hold in _find(connection, hold_id=lockout_id) if hold.reason is Reason.LOCKOUT]
    if not found:
        raise UnableToFindLockoutError(f"lock-out {lockout_id}: there is no standing one of this id")
    hold = found[0]
    return Lockout(
        lockout_id=hold.hold_id,
        circuit_id=hold.circuit_id,
        holder=hold.holder,
        reason=hold.note or "",
        placed_at=hold.placed_at,
        confirmed_open_at=hold.confirmed_open_at,
    )


def lift_lockout(
    connection: Connection,
    *,
    lockout_id: str,
    actor: str,
    now: datetime,
    admin_reason: str | None = None,
) -> Lockout:
    """Lift the own lock-out; an admin lifts another's with `admin_reason`, which goes on record.

    The caller has checked that who gives an `admin_reason` is an admin. Raises UnableToFindLockoutError, and
    UnableToReleaseHoldError for somebody else's lock-out without a reason.
    """
    lockout = get_lockout(connection, lockout_id)
    found = _find(connection, hold_id=lockout_id)
    if found[0].scoped_hold_id:
        raise UnableToReleaseHoldError(
            f"lock-out {lockout_id} of {lockout.circuit_id}: part of {found[0].scoped_hold_id}, "
            "which ends as a whole"
        )
    if lockout.holder != actor and not (admin_reason or "").strip():
        raise UnableToReleaseHoldError(
            f"lock-out {lockout_id} of {lockout.circuit_id}: held by {lockout.holder}, who alone removes it; "
            "an admin may with a recorded reason"
        )
    _release_all(connection, found, actor=actor, evidence={"admin_reason": admin_reason}, now=now)
    return lockout


def release_members(
    connection: Connection, found: Sequence[Hold], *, actor: str, evidence: Mapping[str, Any], now: datetime
) -> int:
    """Release holds of a scoped one that has ended; `books.scoped_holds` alone calls this."""
    for hold in found:
        if not hold.scoped_hold_id:
            raise UnableToReleaseHoldError(
                f"hold {hold.hold_id} of {hold.circuit_id}: not part of a scoped hold"
            )
    return _release_all(connection, found, actor=actor, evidence=evidence, now=now)


def members(connection: Connection, scoped_hold_id: str, *, limit: int) -> list[Hold]:
    """Return standing holds that are part of a scoped one, at most `limit`."""
    found: dict[str, list[Hold]] = {}
    query = sa.select(*_COLUMNS).where(holds.c.released_at.is_(None), holds.c.scoped_hold_id == scoped_hold_id)
    _gather(connection.execute(query.order_by(holds.c.hold_id).limit(limit)), found)
    return [hold for held in found.values() for hold in held]


def counted_times(connection: Connection, *, since: datetime) -> list[datetime]:
    """Return when the holds that the breaker counts were placed after `since`, oldest first."""
    query = sa.select(holds.c.placed_at).where(holds.c.counted.is_(sa.true()), holds.c.placed_at > since)
    return list(connection.scalars(query.order_by(holds.c.placed_at)))


def _find(
    connection: Connection,
    *,
    hold_id: str | None = None,
    circuit_id: str | None = None,
    reason: Reason | None = None,
) -> list[Hold]:
    query = sa.select(*_COLUMNS).where(holds.c.released_at.is_(None))
    if hold_id is not None:
        query = query.where(holds.c.hold_id == hold_id)
    elif circuit_id is not None and reason is not None:
        query = query.where(holds.c.circuit_id == circuit_id, holds.c.reason == reason.value)
    else:
        raise ValueError("expected hold_id, or circuit_id and reason")
    found: dict[str, list[Hold]] = {}
    _gather(connection.execute(query), found)
    return [hold for members in found.values() for hold in members]


def _gather(rows: sa.CursorResult[Any], found: dict[str, list[Hold]]) -> None:
    for row in rows.mappings():
        hold = Hold(**{**row, "reason": reason_of(row["reason"])})
        found.setdefault(hold.circuit_id, []).append(hold)


def _release_all(
    connection: Connection, found: Sequence[Hold], *, actor: str, evidence: Mapping[str, Any], now: datetime
) -> int:
    """Release holds on the same grounds, a set of circuits at a time; return how many stood until now.

    Set after set goes by circuit, as whoever locks several circuits in one transaction does.
    """
    released, waiting = 0, sorted(found, key=lambda hold: hold.circuit_id)
    while waiting:
        first: dict[str, Hold] = {}
        for hold in waiting:
            first.setdefault(hold.circuit_id, hold)
        batch = list(first.values())[:_MANY]
        in_batch = {hold.hold_id for hold in batch}
        waiting = [hold for hold in waiting if hold.hold_id not in in_batch]
        released += _release_of_circuits(connection, batch, actor=actor, evidence=evidence, now=now)
    return released


def _release_of_circuits(
    connection: Connection, found: Sequence[Hold], *, actor: str, evidence: Mapping[str, Any], now: datetime
) -> int:
    """Release one hold of each of some circuits."""
    states.lock_all(connection, [hold.circuit_id for hold in found])
    stood = set(
        connection.scalars(
            sa.update(holds)
            .where(holds.c.hold_id.in_([hold.hold_id for hold in found]), holds.c.released_at.is_(None))
            .values(released_at=now, released_by=actor, release_evidence=dict(evidence))
            .returning(holds.c.hold_id)
        )
    )
    released = [hold for hold in found if hold.hold_id in stood]
    remaining = standing(connection, [hold.circuit_id for hold in released])
    steps = [
        HoldStep(
            circuit_id=hold.circuit_id,
            cause=f"hold.{hold.reason.value}.released",
            actor=actor,
            detail={"hold_id": hold.hold_id, "shadow": hold.shadow, **evidence},
        )
        for hold in released
    ]
    hold_steps.write_all(connection, steps, standing=remaining, now=now)
    load_off.clear_if_over(connection, [hold.circuit_id for hold in released], now=now)
    for hold in released:
        if hold.reason is Reason.OPENED_LOCALLY:
            openings.clear_if_over(connection, hold.hold_id, now=now)
    return len(released)
