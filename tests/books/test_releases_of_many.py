"""Many holds released in one transaction: each on record as if alone, with statements set by set."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, events, feeders, holds, intents, states
from dormpower.books.database import Books
from dormpower.books.feeders import EndedTurn
from dormpower.books.tables import audit_log, circuits, rooms, shed_minutes
from dormpower.domain.days import CampusDays
from dormpower.domain.holds import Reason
from tests.books.statements import statements

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
RULE = "rule:overload"
MANY = 60


def describe(books: Books, count: int) -> list[str]:
    names = [f"r-{number:03}" for number in range(count)]
    room = {"campus": "south", "building": "01", "floor": "1", "name": "x", "rated_current_a": 40}
    with books.write() as connection:
        connection.execute(sa.insert(rooms), [{"room_id": name, **room} for name in names])
        connection.execute(
            sa.insert(circuits),
            [{"circuit_id": f"{name}-ac", "room_id": name, "kind": "ac"} for name in names],
        )
    return [f"{name}-ac" for name in names]


def trip(books: Books, circuit_ids: list[str], **more: Any) -> list[str]:
    found = {"reason": Reason.OVERLOAD, "placed_by": RULE, "evidence": {"limit_w": 2000}, "now": NOW, **more}
    with books.write() as connection:
        return [holds.place(connection, circuit_id=one, **found) for one in circuit_ids]


def release(books: Books, hold_ids: list[str]) -> int:
    with books.write() as connection:
        return holds.release_all(
            connection, hold_ids, released_by=RULE, evidence={"cause": "policy_off"}, now=LATER
        )


def test_each_is_on_record_as_if_it_had_been_released_alone(books: Books) -> None:
    free, arrears, in_shadow = describe(books, 3)
    hold_ids = trip(books, [free, arrears]) + trip(books, [in_shadow, free], shadow=True)
    trip(books, [arrears], reason=Reason.ARREARS, placed_by="rule:arrears")
    with books.read() as connection:
        before = events.latest_id(connection) or 0
        intent_ids = [one.intent_id for one in intents.unhandled(connection, 99)]
    with books.write() as connection:
        intents.mark_handled(connection, intent_ids, NOW)
    assert release(books, hold_ids) == 4
    with books.read() as connection:
        standing = holds.standing(connection)
        assert {one: [hold.reason for hold in found] for one, found in standing.items()} == {
            arrears: [Reason.ARREARS]
        }
        changes = {one: states.history(connection, one)[0] for one in (free, arrears)}
        assert {one: (change.from_state, change.to_state) for one, change in changes.items()} == {
            free: ("load_off", "offline"),
            arrears: ("load_off", "arrears"),
        }
        assert {(change.cause, change.actor, change.changed_at) for change in changes.values()} == {
            ("hold.overload.released", RULE, LATER)
        }
        released = connection.execute(
            sa.select(audit_log.c.subject_id, audit_log.c.actor, audit_log.c.detail).where(
                audit_log.c.action == "hold.overload.released"
            )
        ).all()
        assert sorted(
            (row.subject_id, row.detail["hold_id"], row.detail["shadow"]) for row in released
        ) == sorted(zip([free, arrears, in_shadow, free], hold_ids, [False, False, True, True], strict=True))
        assert {(row.actor, row.detail["cause"]) for row in released} == {(RULE, "policy_off")}
        assert {one.circuit_id for one in intents.unhandled(connection, 99)} == {free, arrears, in_shadow}
        assert {one.subject_id for one in events.after(connection, before, 99) if one.kind == "circuit"} == {
            free,
            arrears,
            in_shadow,
        }
        ended = connection.execute(
            sa.text(
                "SELECT COUNT(*) FROM holds WHERE released_by = 'rule:overload' AND released_at IS NOT NULL"
            )
        ).scalar_one()
        assert ended == 4


def test_a_load_off_alarm_goes_with_the_last_hold_that_raises_one(books: Books) -> None:
    free, tripped = describe(books, 2)
    hold_ids = trip(books, [free, tripped])
    trip(books, [tripped], reason=Reason.PROHIBITED, placed_by="rule:prohibited")
    release(books, hold_ids)
    with books.read() as connection:
        assert [alarm.subject_id for alarm in alarms.active(connection)] == [tripped]
        gone, _ = alarms.listing(connection, state="cleared")
    assert [(alarm.subject_id, alarm.cleared_at) for alarm in gone] == [(free, LATER)]


def test_one_that_somebody_else_placed_stops_all(books: Books) -> None:
    circuit_ids = describe(books, 3)
    hold_ids = trip(books, circuit_ids[:2]) + trip(books, circuit_ids[2:], placed_by="rule:other")
    with pytest.raises(holds.UnableToReleaseHoldError, match="rule:other, which alone"):
        release(books, hold_ids)
    with books.read() as connection:
        assert sorted(holds.standing(connection)) == circuit_ids


def test_a_release_again_writes_nothing(books: Books) -> None:
    hold_ids = trip(books, describe(books, 2))
    assert release(books, hold_ids) == 2
    with books.read() as connection:
        rows = connection.scalar(sa.select(sa.func.count()).select_from(audit_log))
    assert release(books, hold_ids) == 0
    with books.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(audit_log)) == rows


def test_the_statements_of_a_release_do_not_grow_with_the_circuits(books: Books) -> None:
    hold_ids = trip(books, describe(books, MANY))
    with statements(books) as of_two:
        release(books, hold_ids[:2])
    with statements(books) as of_the_others:
        assert release(books, hold_ids[2:]) == MANY - 2
    assert len(of_the_others) == len(of_two)


def test_sets_go_by_circuit_so_that_two_who_lock_several_do_not_wait_for_each_other(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "_MANY", 2)
    circuit_ids = describe(books, 5)
    hold_ids = trip(books, circuit_ids[::-1]) + trip(books, [circuit_ids[1]], shadow=True)
    assert release(books, hold_ids) == 6
    with books.read() as connection:
        released = connection.scalars(
            sa.select(audit_log.c.subject_id)
            .where(audit_log.c.action == "hold.overload.released")
            .order_by(audit_log.c.audit_id)
        ).all()
    assert list(dict.fromkeys(released)) == circuit_ids


def test_ended_turns_add_up_over_days_and_rooms(books: Books) -> None:
    days = CampusDays(NOW.tzinfo or UTC)
    midnight = days.end_of(days.day_of(NOW))
    first, second = describe(books, 2)
    turns = [
        EndedTurn(
            circuit_id=circuit_id,
            room_id=circuit_id.removesuffix("-ac"),
            from_at=midnight - timedelta(minutes=minutes),
            to_at=midnight + timedelta(minutes=1),
            shadow=False,
        )
        for circuit_id, minutes in ((first, 2), (second, 3), (first, 5))
    ]
    with books.write() as connection:
        feeders.note_turns(connection, turns, days=days)
        found = connection.execute(sa.select(shed_minutes).order_by(shed_minutes.c.off_ms)).all()
    minutes = sorted((row.circuit_id, row.off_ms // 60_000, row.turns) for row in found)
    assert minutes == [(first, 2, 0), (first, 7, 2), (second, 1, 0), (second, 3, 1)]
