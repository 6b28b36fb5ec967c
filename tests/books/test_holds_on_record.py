"""Holds, lock-outs, alarms, intents and events in the books: what each step leaves, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, commands, events, holds, intents, states
from dormpower.books import control as books_control
from dormpower.books.database import Books
from dormpower.books.tables import audit_log, circuits, modules, rooms
from dormpower.domain.arrears import Warnings
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def site(books: Books) -> Books:
    with books.write() as connection:
        for number in ("1", "2"):
            connection.execute(
                sa.insert(rooms).values(
                    room_id=f"r-{number}",
                    campus="south",
                    building=f"0{number}",
                    floor="1",
                    name="x",
                    rated_current_a=40,
                )
            )
            connection.execute(
                sa.insert(circuits).values(circuit_id=f"r-{number}-ac", room_id=f"r-{number}", kind="ac")
            )
        connection.execute(sa.insert(modules).values(module_id="m-1", profile="x"))
    return books


def test_placing_a_hold_leaves_an_intent_a_state_change_an_event_and_an_audit_row(site: Books) -> None:
    with site.write() as connection:
        hold_id = holds.place(
            connection,
            circuit_id="r-1-ac",
            reason=Reason.ARREARS,
            placed_by="rule:arrears",
            evidence={"available_wh": -1},
            now=NOW,
        )
        again = holds.place(
            connection,
            circuit_id="r-1-ac",
            reason=Reason.ARREARS,
            placed_by="rule:arrears",
            evidence={},
            now=LATER,
        )
    with site.read() as connection:
        assert again == hold_id
        (hold,) = holds.standing(connection)["r-1-ac"]
        assert (hold.evidence, hold.placed_at) == ({"available_wh": -1}, NOW)
        assert [one.cause for one in intents.unhandled(connection, 9)] == ["hold.arrears.placed"]
        (change,) = states.history(connection, "r-1-ac")
        assert (change.from_state, change.to_state, change.actor) == ("offline", "arrears", "rule:arrears")
        assert {one.subject_id for one in events.after(connection, 0, 9)} == {"r-1-ac"}
        assert list(connection.scalars(sa.select(audit_log.c.action))) == ["hold.arrears.placed"]


def test_only_who_placed_a_hold_releases_it(site: Books) -> None:
    with site.write() as connection:
        holds.place(
            connection,
            circuit_id="r-1-ac",
            reason=Reason.ARREARS,
            placed_by="rule:arrears",
            evidence={},
            now=NOW,
        )
        with pytest.raises(holds.UnableToReleaseHoldError, match="rule:arrears, which alone"):
            holds.release(
                connection,
                circuit_id="r-1-ac",
                reason=Reason.ARREARS,
                released_by="rule:trips",
                evidence={},
                now=LATER,
            )
        assert holds.reset(connection, "r-1-ac", "maintenance", LATER) == []
        assert len(holds.standing(connection)["r-1-ac"]) == 1
        assert (
            holds.release(
                connection,
                circuit_id="r-1-ac",
                reason=Reason.ARREARS,
                released_by="rule:arrears",
                evidence={},
                now=LATER,
            )
            == 1
        )
        assert holds.standing(connection) == {}


def test_several_lock_outs_stand_and_each_holder_removes_the_own(site: Books) -> None:
    with site.write() as connection:
        first = holds.place_lockout(connection, circuit_id="r-1-ac", holder="wang", reason="socket", now=NOW)
        second = holds.place_lockout(connection, circuit_id="r-1-ac", holder="li", reason="lamp", now=NOW)
        assert first.lockout_id != second.lockout_id
        with pytest.raises(holds.UnableToReleaseHoldError, match="held by li"):
            holds.lift_lockout(connection, lockout_id=second.lockout_id, actor="wang", now=LATER)
        holds.lift_lockout(connection, lockout_id=first.lockout_id, actor="wang", now=LATER)
        with pytest.raises(holds.UnableToFindLockoutError):
            holds.lift_lockout(connection, lockout_id=first.lockout_id, actor="wang", now=LATER)
        assert [hold.holder for hold in holds.standing(connection)["r-1-ac"]] == ["li"]
        holds.lift_lockout(
            connection, lockout_id=second.lockout_id, actor="admin", admin_reason="li has left", now=LATER
        )
        assert holds.standing(connection) == {}
        with pytest.raises(holds.UnableToLockOutError, match="none of this id"):
            holds.place_lockout(connection, circuit_id="no", holder="wang", reason="x", now=NOW)
        with pytest.raises(holds.UnableToLockOutError, match="got nothing"):
            holds.place_lockout(connection, circuit_id="r-1-ac", holder="wang", reason=" ", now=NOW)


def test_a_reset_releases_trips_and_local_openings_and_ends_their_alarm(site: Books) -> None:
    with site.write() as connection:
        for reason, by in (
            (Reason.MODULE_TRIP, "rule:trips"),
            (Reason.OPENED_LOCALLY, "rule:trips"),
            (Reason.ARREARS, "rule:arrears"),
            (Reason.SHED, "rule:shedding"),
        ):
            holds.place(connection, circuit_id="r-1-ac", reason=reason, placed_by=by, evidence={}, now=NOW)
        assert len(alarms.active(connection)) == 1  # one condition, one alarm
        released = holds.reset(connection, "r-1-ac", "maintenance", LATER)
        assert {hold.reason for hold in released} == {Reason.MODULE_TRIP, Reason.OPENED_LOCALLY}
        assert alarms.active(connection) == []  # a shed is its feeder's alarm, not the circuit's
        standing = holds.standing(connection, ["r-1-ac"])["r-1-ac"]
        assert {hold.reason for hold in standing} == {Reason.ARREARS, Reason.SHED}


def test_one_active_alarm_for_one_condition_and_pages_of_them(site: Books) -> None:
    def raise_one(subject: str, at: datetime) -> str | None:
        return alarms.raise_alarm(
            connection,
            kind="load_off",
            priority="medium",
            subject_kind="circuit",
            subject_id=subject,
            circuit_id=subject,
            detail={},
            now=at,
        )

    with site.write() as connection:
        first = raise_one("r-1-ac", NOW)
        assert raise_one("r-1-ac", LATER) is None
        second = raise_one("r-2-ac", LATER)
        page, cursor = alarms.listing(connection, limit=1)
        assert [one.alarm_id for one in page] == [second]
        page, cursor = alarms.listing(connection, limit=1, cursor=cursor)
        assert ([one.alarm_id for one in page], cursor) == ([first], None)
        assert [one.alarm_id for one in alarms.listing(connection, building="02")[0]] == [second]
        noted = alarms.acknowledge(connection, alarm_id=str(first), actor="wang", now=LATER)
        assert noted.acknowledged_by == "wang"
        assert alarms.acknowledge(connection, alarm_id=str(first), actor="li", now=LATER) == noted
        assert [one.alarm_id for one in alarms.listing(connection, acknowledged=False)[0]] == [second]
        assert (
            alarms.clear_alarm(
                connection, kind="load_off", subject_kind="circuit", subject_id="r-1-ac", now=LATER
            )
            == first
        )
        assert [one.alarm_id for one in alarms.listing(connection, state="cleared")[0]] == [first]
        assert raise_one("r-1-ac", LATER + timedelta(seconds=1)) not in {None, first}
        with pytest.raises(alarms.UnableToFindAlarmError):
            alarms.acknowledge(connection, alarm_id="alm_no", actor="li", now=LATER)


def test_events_only_grow_and_old_ones_go_but_for_the_newest(site: Books) -> None:
    with site.write() as connection:
        for number in range(3):
            events.append(connection, kind="circuit", subject_id="r-1-ac", now=NOW + timedelta(hours=number))
        latest = events.latest_id(connection)
        assert events.drop_before(connection, NOW + timedelta(days=1)) == 2
        assert events.oldest_id(connection) == events.latest_id(connection) == latest
        events.append(connection, kind="alarm", subject_id="alm_1", now=LATER)
        assert [one.subject_id for one in events.after(connection, latest or 0, 9)] == ["alm_1"]


def test_intents_are_handled_once(site: Books) -> None:
    with site.write() as connection:
        intents.leave(connection, circuit_id="r-1-ac", cause="recharge", now=NOW)
        found = intents.unhandled(connection, 9)
        intents.mark_handled(connection, [one.intent_id for one in found], LATER)
        assert intents.unhandled(connection, 9) == []
        assert intents.drop_handled_before(connection, LATER + timedelta(seconds=1)) == 1


def test_commands_cut_off_by_a_restart_are_marked_and_finished_ones_are_left(site: Books) -> None:
    with site.write() as connection:
        ids = [
            commands.record(
                connection,
                circuit_id="r-1-ac",
                module_id="m-1",
                channel=0,
                relay=Relay.OPEN,
                cause={},
                attempt=attempt,
                now=NOW + timedelta(seconds=attempt),
                expires_at=LATER,
            )
            for attempt in (1, 2)
        ]
        commands.finish(connection, command_id=ids[0], outcome="confirmed", read_back=Relay.OPEN, now=LATER)
        assert commands.interrupt_unfinished(connection, LATER) == 1
        commands.finish(connection, command_id=ids[1], outcome="confirmed", read_back=None, now=LATER)
        made = commands.history(connection, "r-1-ac")
        assert [one.outcome for one in made] == ["interrupted", "confirmed"]
        assert made[1].read_back_relay == "open"


def test_warnings_and_timers_are_read_back_as_they_were_written(site: Books) -> None:
    warnings = Warnings(first_at=NOW, second_at=LATER, deferred=True)
    with site.write() as connection:
        books_control.save_warnings(connection, circuit_id="r-1-ac", warnings=warnings, now=NOW)
        books_control.save(
            connection, circuit_id="r-1-ac", now=NOW, opened_at=LATER, commanded_relay="open", failures=2
        )
        point = books_control.points(connection)["r-1-ac"]
    assert point.warnings == warnings
    assert (point.opened_at, point.commanded_relay, point.failures) == (LATER, Relay.OPEN, 2)
