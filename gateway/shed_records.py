"""Sheds on record: their holds, their minutes off, and the alarms of feeders, in the caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import alarms, feeders, holds
from dormpower.books.feeders import EndedTurn
from dormpower.books.tables import holds as holds_table
from dormpower.domain.alarms import PRIORITIES
from dormpower.domain.days import CampusDays
from dormpower.domain.feeder_facts import NO_FEEDER_STATE, FeederAlarm, Plan, Shed, ShedState
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.shedding import RULE


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingShed:
    """A standing hold of ours."""

    hold_id: str
    circuit_id: str
    placed_at: datetime
    shadow: bool

    def is_of(self, mode: Enforcement) -> bool:
        """Whether a mode has such a hold."""
        return mode is (Enforcement.SHADOW if self.shadow else Enforcement.ENFORCE)


def standing(connection: Connection) -> list[StandingShed]:
    """Return the standing sheds, in shadow or not."""
    rows = connection.execute(
        sa.select(
            holds_table.c.hold_id,
            holds_table.c.circuit_id,
            holds_table.c.placed_at,
            holds_table.c.shadow,
        ).where(
            holds_table.c.released_at.is_(None),
            holds_table.c.reason == Reason.SHED.value,
            holds_table.c.placed_by == RULE,
        )
    )
    return [StandingShed(**row) for row in rows.mappings()]


def place(
    connection: Connection,
    shed: Shed,
    *,
    shadow: bool,
    expected_release_at: datetime,
    evidence: Mapping[str, object],
    now: datetime,
) -> None:
    """Hold a circuit off. `evidence` is added to the shed's own figures."""
    holds.place(
        connection,
        circuit_id=shed.circuit_id,
        reason=Reason.SHED,
        placed_by=RULE,
        shadow=shadow,
        expected_release_at=expected_release_at,
        evidence={
            "feeder_id": shed.feeder_id,
            "why": shed.why.value,
            "demand_w": shed.demand_w,
            "limit_w": shed.limit_w,
            "power_w": shed.power_w,
            "turn": shed.turn,
            "swapped_for": shed.for_circuit_id,
            **evidence,
        },
        now=now,
    )


def release_all(
    connection: Connection,
    found: Sequence[StandingShed],
    *,
    room_of: Mapping[str, str],
    evidence: Mapping[str, object],
    days: CampusDays,
    now: datetime,
) -> None:
    """Let circuits go and count their minutes off, as far as the site describes their rooms still."""
    hold_ids = [hold.hold_id for hold in found]
    holds.release_all(connection, hold_ids, released_by=RULE, evidence=evidence, now=now)
    turns = [
        EndedTurn(
            circuit_id=hold.circuit_id,
            room_id=room_of[hold.circuit_id],
            from_at=hold.placed_at,
            to_at=now,
            shadow=hold.shadow,
        )
        for hold in found
        if hold.circuit_id in room_of
    ]
    feeders.note_turns(connection, turns, days=days)


def end_alarms(connection: Connection, *, decided: Collection[str], now: datetime) -> None:
    """Clear the alarms of feeders that nothing is decided for any more."""
    for alarm in alarms.active(connection):
        if alarm.subject_kind == "feeder" and alarm.subject_id not in decided:
            alarms.clear_alarm(
                connection, kind=alarm.kind, subject_kind="feeder", subject_id=alarm.subject_id, now=now
            )


def tell(connection: Connection, made: Plan, *, before: ShedState, now: datetime) -> None:
    """Raise and clear the feeders' alarms where they changed."""
    now_standing = {(alarm.kind, alarm.feeder_id): alarm for alarm in made.alarms}
    for feeder_id, state in made.state.feeders.items():
        stood = set(before.feeders.get(feeder_id, NO_FEEDER_STATE).alarms)
        stand = set(state.alarms)
        for kind in sorted(stand - stood):
            _raise(connection, now_standing[kind, feeder_id], now)
        for kind in sorted(stood - stand):
            alarms.clear_alarm(connection, kind=kind, subject_kind="feeder", subject_id=feeder_id, now=now)


def _raise(connection: Connection, alarm: FeederAlarm, now: datetime) -> None:
    alarms.raise_alarm(
        connection,
        kind=alarm.kind,
        priority=PRIORITIES[alarm.kind],
        subject_kind="feeder",
        subject_id=alarm.feeder_id,
        detail={
            "demand_w": alarm.demand_w,
            "limit_w": alarm.limit_w,
            "source": alarm.source.value,
            "circuits_off": alarm.circuits_off,
        },
        now=now,
    )
