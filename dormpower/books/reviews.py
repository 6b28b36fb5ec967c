"""Whether a decision was right: what maintenance found, what residents asked, and the rate of false trips.

A decision is named by its hold, or by its alarm where there was no hold: who names the alarm of a hold means
the hold. A resident asks once for each ("was this right?"); the answer goes on record and is a review as well.
The rate of false trips of a building is the share of the prohibited-load decisions in a span (trips, and alarms
that tripped nobody) that were reviewed as false, told beside how many were reviewed at all: an unreviewed one
is neither right nor false.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, events
from dormpower.books.ids import new_id
from dormpower.books.residencies import Span, within
from dormpower.books.tables import alarms, circuits, disputes, holds, reviews, rooms
from dormpower.domain.alarms import AlarmKind
from dormpower.domain.holds import Reason

SubjectKind = Literal["hold", "alarm"]
Verdict = Literal["right", "false"]


class UnableToFindDecisionError(Exception):
    """There is no hold or alarm of a circuit of this id."""


class UnableToFindDisputeError(Exception):
    """There is no dispute of this id that waits for an answer."""


class UnableToDisputeError(Exception):
    """The question can't be taken as asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A resident's question, and the answer once there is one."""

    dispute_id: str
    subject_kind: str
    subject_id: str
    circuit_id: str
    question: str
    asked_by: str
    asked_at: datetime
    verdict: str | None = None
    answer: str | None = None
    answered_by: str | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision by its name, which circuit it is about, and since when."""

    subject_kind: SubjectKind
    subject_id: str
    circuit_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseTrips:
    """A building's prohibited-load decisions in a span: trips, and alarms alone; what of both was reviewed.

    `rate` is None while none was.
    """

    campus: str
    building: str
    trips: int
    alarms: int
    reviewed: int
    false: int

    @property
    def rate(self) -> float | None:
        """The share of the reviewed decisions that were false."""
        return self.false / self.reviewed if self.reviewed else None


def review(
    connection: Connection,
    *,
    subject_kind: SubjectKind,
    subject_id: str,
    verdict: Verdict,
    note: str,
    actor: str,
    now: datetime,
) -> None:
    """Put on record what a person found of a decision; the newest finding counts, all are in the audit log.

    Raises UnableToFindDecisionError.
    """
    decided = _decided(connection, subject_kind, subject_id)
    values = {
        "circuit_id": decided.circuit_id,
        "verdict": verdict,
        "note": note,
        "reviewed_by": actor,
        "reviewed_at": now,
    }
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(reviews)
        .values(subject_kind=decided.subject_kind, subject_id=decided.subject_id, **values)
        .on_conflict_do_update(index_elements=[reviews.c.subject_kind, reviews.c.subject_id], set_=values)
    )
    _tell(
        connection,
        f"{decided.subject_kind}.review",
        decided.circuit_id,
        actor=actor,
        detail={"subject_id": decided.subject_id, "verdict": verdict, "note": note},
        now=now,
    )


def find_decision(connection: Connection, *, subject_kind: SubjectKind, subject_id: str) -> Decided | None:
    """Return the decision that a hold's or an alarm's id names; None where there is none on a circuit."""
    if subject_kind == "alarm":
        alarm = connection.execute(
            sa.select(alarms.c.circuit_id, alarms.c.raised_at, alarms.c.detail).where(
                alarms.c.alarm_id == subject_id
            )
        ).first()
        if alarm is None or alarm.circuit_id is None:
            return None
        hold_id = alarm.detail.get("hold_id")
        if hold_id is None:
            return Decided(
                subject_kind="alarm", subject_id=subject_id, circuit_id=alarm.circuit_id, at=alarm.raised_at
            )
        subject_id = hold_id
    hold = connection.execute(
        sa.select(holds.c.circuit_id, holds.c.placed_at).where(holds.c.hold_id == subject_id)
    ).first()
    if hold is None:
        return None
    return Decided(subject_kind="hold", subject_id=subject_id, circuit_id=hold.circuit_id, at=hold.placed_at)


def dispute(
    connection: Connection,
    *,
    subject_kind: SubjectKind,
    subject_id: str,
    question: str,
    actor: str,
    now: datetime,
) -> Dispute:
    """Take a resident's question about a decision; asked again by the same person, the first one is returned.

    The caller has checked that the circuit is the resident's. Raises UnableToFindDecisionError and, for an
    empty question, UnableToDisputeError.
    """
    if not question.strip():
        raise UnableToDisputeError("question: expected what was not right, got nothing")
    decided = _decided(connection, subject_kind, subject_id)
    named = {"subject_kind": decided.subject_kind, "subject_id": decided.subject_id}
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    added = connection.scalar(
        insert(disputes)
        .values(
            dispute_id=new_id("dsp", now),
            **named,
            circuit_id=decided.circuit_id,
            question=question.strip(),
            asked_by=actor,
            asked_at=now,
        )
        .on_conflict_do_nothing()
        .returning(disputes.c.dispute_id)
    )
    if added is not None:
        _tell(
            connection,
            "dispute.ask",
            decided.circuit_id,
            actor=actor,
            detail={"dispute_id": added, **named},
            now=now,
        )
    row = (
        connection.execute(
            sa.select(disputes).where(
                disputes.c.subject_kind == decided.subject_kind,
                disputes.c.subject_id == decided.subject_id,
                disputes.c.asked_by == actor,
            )
        )
        .mappings()
        .one()
    )
    return Dispute(**row)


def answer(
    connection: Connection, *, dispute_id: str, verdict: Verdict, text: str, actor: str, now: datetime
) -> Dispute:
    """Answer a question, once; the verdict is a review too. Raises UnableToFindDisputeError."""
    row = (
        connection.execute(
            sa.update(disputes)
            .where(disputes.c.dispute_id == dispute_id, disputes.c.answered_at.is_(None))
            .values(verdict=verdict, answer=text, answered_by=actor, answered_at=now)
            .returning(disputes)
        )
        .mappings()
        .first()
    )
    if row is None:
        raise UnableToFindDisputeError(f"dispute {dispute_id}: none of this id waits for an answer")
    answered = Dispute(**row)
    subject_kind: SubjectKind = "hold" if answered.subject_kind == "hold" else "alarm"
    review(
        connection,
        subject_kind=subject_kind,
        subject_id=answered.subject_id,
        verdict=verdict,
        note=text,
        actor=actor,
        now=now,
    )
    return answered


def listing(
    connection: Connection,
    *,
    circuit_id: str | None = None,
    answered: bool | None = None,
    spans: Sequence[Span] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[Dispute], str | None]:
    """Return a page of disputes asked within `spans` (None: ever), newest first, and the next page's cursor.

    `answered` chooses those that have their answer, or those that wait for it.
    """
    query = sa.select(disputes).where(within(spans, disputes.c.asked_at)).order_by(disputes.c.dispute_id.desc())
    if circuit_id is not None:
        query = query.where(disputes.c.circuit_id == circuit_id)
    if answered is not None:
        is_open = disputes.c.answered_at.is_(None)
        query = query.where(sa.not_(is_open) if answered else is_open)
    if cursor is not None:
        query = query.where(disputes.c.dispute_id < cursor)
    page = [Dispute(**row) for row in connection.execute(query.limit(limit + 1)).mappings()]
    return (page[:limit], page[limit - 1].dispute_id) if len(page) > limit else (page, None)


def false_trips(connection: Connection, *, since: datetime, until: datetime) -> list[FalseTrips]:
    """Return each building's enforced prohibited-load decisions of `[since, until)`, with the reviews."""
    trips = _reviewed(
        connection,
        key=holds.c.hold_id,
        subject_kind="hold",
        where=(
            holds.c.reason == Reason.PROHIBITED.value,
            holds.c.shadow.is_(sa.false()),
            holds.c.placed_at >= since,
            holds.c.placed_at < until,
        ),
    )
    # A trip has a load_off alarm: this kind is raised where the rule alarms instead.
    suspected = _reviewed(
        connection,
        key=alarms.c.alarm_id,
        subject_kind="alarm",
        where=(
            alarms.c.kind == AlarmKind.PROHIBITED_LOAD.value,
            alarms.c.raised_at >= since,
            alarms.c.raised_at < until,
        ),
    )
    nothing = (0, 0, 0)
    return [
        FalseTrips(
            campus=place[0],
            building=place[1],
            trips=trips.get(place, nothing)[0],
            alarms=suspected.get(place, nothing)[0],
            reviewed=trips.get(place, nothing)[1] + suspected.get(place, nothing)[1],
            false=trips.get(place, nothing)[2] + suspected.get(place, nothing)[2],
        )
        for place in sorted(trips.keys() | suspected.keys())
    ]


def _reviewed(
    connection: Connection,
    *,
    key: sa.Column[str],
    subject_kind: SubjectKind,
    where: Sequence[sa.ColumnElement[bool]],
) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Return by campus and building how many there are, how many were reviewed, and how many as false."""
    rows = connection.execute(
        sa.select(
            rooms.c.campus,
            rooms.c.building,
            sa.func.count(key),
            sa.func.count(reviews.c.verdict),
            sa.func.sum(sa.case((reviews.c.verdict == "false", 1), else_=0)),
        )
        .select_from(key.table)
        .join(circuits, circuits.c.circuit_id == key.table.c.circuit_id)
        .join(rooms, rooms.c.room_id == circuits.c.room_id)
        .outerjoin(reviews, sa.and_(reviews.c.subject_kind == subject_kind, reviews.c.subject_id == key))
        .where(*where)
        .group_by(rooms.c.campus, rooms.c.building)
    )
    return {(row[0], row[1]): (int(row[2]), int(row[3]), int(row[4])) for row in rows}


def _decided(connection: Connection, subject_kind: SubjectKind, subject_id: str) -> Decided:
    found = find_decision(connection, subject_kind=subject_kind, subject_id=subject_id)
    if found is None:
        raise UnableToFindDecisionError(f"{subject_kind} {subject_id}: there is none of this id on a circuit")
    return found


def _tell(
    connection: Connection, action: str, circuit_id: str, *, actor: str, detail: dict[str, str], now: datetime
) -> None:
    events.append(connection, kind="circuit", subject_id=circuit_id, now=now)
    audit_log.write(
        connection,
        actor=actor,
        action=action,
        subject_kind="circuit",
        subject_id=circuit_id,
        detail=detail,
        now=now,
    )
