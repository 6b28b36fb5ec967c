"""Emergency off for a building, in two steps: what it would cut is named first, then confirmed within a minute.

A proposal is bound to who asked, to the building and to the number of circuits that it named. Confirming gives
that number back; where the building has changed meanwhile, or the minute is over, nothing is cut and the
question is asked anew. The minute is real time: a person is waiting.

It goes off by commands to modules, and so it is no substitute for the main switch: `docs/emergency.md`.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, scoped_holds
from dormpower.books.database import Books
from dormpower.books.scoped_holds import ScopedHold, UnableToPlaceScopedHoldError
from dormpower.books.tables import emergency_proposals, meter_points, rooms
from dormpower.domain.holds import Reason
from dormpower.domain.scopes import Scope

VALID_S = 60


class UnableToConfirmEmergencyError(Exception):
    """Nothing was cut; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What an emergency off would cut. `reported_open` of the circuits are off already, as modules report."""

    token: str
    campus: str
    building: str
    circuits: int
    rooms: int
    keep_supply_rooms: int
    reported_open: int
    expires_at: datetime


def propose(
    connection: Connection,
    *,
    campus: str,
    building: str,
    note: str,
    actor: str,
    now: datetime,
    real_now: datetime,
) -> Proposal:
    """Name what an emergency off of a building would cut. Raises UnableToPlaceScopedHoldError.

    The token is told once; the books keep its digest.
    """
    if not note.strip():
        raise UnableToPlaceScopedHoldError("reason: expected why the building is switched off, got nothing")
    scope = Scope(campus=campus, building=building)
    circuits = scoped_holds.check_scope(connection, scope)
    counted = connection.execute(
        sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(sa.case((rooms.c.keep_supply, 1), else_=0)), 0)
        ).where(rooms.c.closed_at.is_(None), rooms.c.campus == campus, rooms.c.building == building)
    ).one()
    reported_open = connection.scalar(
        sa.select(sa.func.count())
        .select_from(meter_points)
        .where(meter_points.c.relay == "open", meter_points.c.circuit_id.in_(scoped_holds.circuits_in(scope)))
    )
    token = secrets.token_urlsafe(16)
    expires_at = real_now + timedelta(seconds=VALID_S)
    connection.execute(
        sa.delete(emergency_proposals).where(emergency_proposals.c.expires_at < real_now - timedelta(days=1))
    )
    connection.execute(
        sa.insert(emergency_proposals).values(
            token_sha256=_digest(token),
            asked_by=actor,
            note=note,
            campus=campus,
            building=building,
            circuits=circuits,
            expires_at=expires_at,
        )
    )
    audit_log.write(
        connection,
        actor=actor,
        action="emergency.proposed",
        subject_kind="building",
        subject_id=f"{campus}/{building}",
        detail={"circuits": circuits, "note": note},
        now=now,
    )
    return Proposal(
        token=token,
        campus=campus,
        building=building,
        circuits=circuits,
        rooms=int(counted[0]),
        keep_supply_rooms=int(counted[1]),
        reported_open=int(reported_open or 0),
        expires_at=expires_at,
    )


def confirm(
    *, books: Books, token: str, circuits: int, actor: str, now: datetime, real_now: datetime
) -> ScopedHold:
    """Switch the proposed building off. `circuits` is the number that the proposal named.

    Raises UnableToConfirmEmergencyError; then nothing was cut. A token works once.
    """
    with books.write() as connection:
        proposal = connection.execute(
            sa.select(emergency_proposals)
            .where(emergency_proposals.c.token_sha256 == _digest(token))
            .with_for_update()
        ).first()
        if proposal is None or proposal.asked_by != actor:
            raise UnableToConfirmEmergencyError("token: you made no such proposal; propose it anew")
        if proposal.used_at is not None:
            raise UnableToConfirmEmergencyError("token: used already; see the standing emergencies")
        if real_now >= proposal.expires_at:
            raise UnableToConfirmEmergencyError(f"token: older than {VALID_S} s; propose it anew")
        scope = Scope(campus=proposal.campus, building=proposal.building)
        present = scoped_holds.count_circuits(connection, scope)
        if circuits != proposal.circuits or present != proposal.circuits:
            raise UnableToConfirmEmergencyError(
                f"circuits: the proposal named {proposal.circuits}, you confirm {circuits}, and the "
                f"building has {present}; nothing was cut. Propose it anew"
            )
        connection.execute(
            sa.update(emergency_proposals)
            .where(emergency_proposals.c.token_sha256 == proposal.token_sha256)
            .values(used_at=real_now)
        )
        scoped = scoped_holds.record(
            connection,
            reason=Reason.EMERGENCY,
            scope=scope,
            holder=actor,
            note=proposal.note,
            placed_by=actor,
            now=now,
        )
    scoped_holds.mend(books, now)
    with books.read() as connection:
        return scoped_holds.get(connection, scoped.scoped_hold_id)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
