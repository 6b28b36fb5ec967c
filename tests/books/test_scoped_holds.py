"""Lock-outs, emergencies and vacancies over a part of the site, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import confirmations, emergency, holds, intents, keep_supply, outages, scoped_holds
from dormpower.books.database import Books
from dormpower.books.emergency import UnableToConfirmEmergencyError
from dormpower.books.outages import UnableToAnnounceOutageError, UnableToFindOutageError
from dormpower.books.scoped_holds import UnableToFindScopedHoldError, UnableToPlaceScopedHoldError
from dormpower.books.tables import audit_log, circuits, rooms
from dormpower.domain.confirming import ReadBack
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay
from dormpower.domain.scopes import Scope

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
FLOOR = Scope(campus="south", building="01", floor="2")
BUILDING = Scope(campus="south", building="01")


def describe_room(connection, room_id, *, building="01", floor="1", campus="south"):
    connection.execute(
        sa.insert(rooms).values(
            room_id=room_id, campus=campus, building=building, floor=floor, name="x", rated_current_a=40
        )
    )
    for kind in ("lighting", "ac"):
        connection.execute(
            sa.insert(circuits).values(circuit_id=f"{room_id}-{kind}", room_id=room_id, kind=kind)
        )


@pytest.fixture
def site(books: Books) -> Books:
    with books.write() as connection:
        for number in range(1, 13):
            describe_room(connection, f"s1-{number:02}", floor=str(1 + number % 2))
        describe_room(connection, "s2-01", building="02")
        describe_room(connection, "n1-01", campus="north")
    return books


def lock_out(site, scope, holder="wang", *, now=NOW):
    return scoped_holds.place(
        books=site, reason=Reason.LOCKOUT, scope=scope, holder=holder, note="riser", placed_by=holder, now=now
    )


def held(site):
    with site.read() as connection:
        return {circuit_id: list(found) for circuit_id, found in holds.standing(connection).items()}


def test_a_floor_is_locked_out_circuit_by_circuit_and_confirmed_when_all_are_read_back(site):
    scoped = lock_out(site, FLOOR)
    assert (scoped.circuits, scoped.confirmed_open, scoped.confirmed_open_at) == (12, 0, None)
    standing = held(site)
    assert sorted(standing) == sorted(f"s1-{n:02}-{k}" for n in range(1, 13, 2) for k in ("ac", "lighting"))
    assert {hold.scoped_hold_id for found in standing.values() for hold in found} == {scoped.scoped_hold_id}
    with site.write() as connection:
        for at, circuit_id in enumerate(sorted(standing)):
            now = NOW + timedelta(seconds=at)
            read_back = ReadBack(relay=Relay.OPEN, drawing=False, read_at=now)
            confirmations.note(connection, circuit_id=circuit_id, read_back=read_back, evidence={}, now=now)
            found = scoped_holds.get(connection, scoped.scoped_hold_id)
            assert found.confirmed_open == at + 1
            assert (found.confirmed_open_at is not None) is (at == 11)
    with site.read() as connection:
        assert len(intents.unhandled(connection, 100)) == 12


def test_two_holders_over_the_same_rooms_each_remove_only_the_own(site):
    floor = lock_out(site, FLOOR, "wang")
    building = lock_out(site, BUILDING, "li")
    with site.write() as connection:
        own = holds.place_lockout(connection, circuit_id="s1-01-ac", holder="wang", reason="socket", now=NOW)
    assert len(held(site)["s1-01-ac"]) == 3
    scoped_holds.release(books=site, scoped_hold_id=floor.scoped_hold_id, actor="wang", note="done", now=LATER)
    assert sorted(hold.holder for hold in held(site)["s1-01-ac"]) == ["li", "wang"]
    assert [hold.holder for hold in held(site)["s1-03-ac"]] == ["li"]
    with site.write() as connection:
        holds.lift_lockout(connection, lockout_id=own.lockout_id, actor="wang", now=LATER)
    scoped_holds.release(books=site, scoped_hold_id=building.scoped_hold_id, actor="li", note="done", now=LATER)
    assert held(site) == {}
    with pytest.raises(UnableToFindScopedHoldError, match="no standing hold"):
        scoped_holds.release(books=site, scoped_hold_id=floor.scoped_hold_id, actor="wang", note="x", now=LATER)


def test_a_member_never_ends_alone(site):
    scoped = lock_out(site, FLOOR)
    member = held(site)["s1-01-ac"][0]
    with pytest.raises(holds.UnableToReleaseHoldError, match=scoped.scoped_hold_id), site.write() as connection:
        holds.lift_lockout(
            connection, lockout_id=member.hold_id, actor="wang", now=LATER, admin_reason="because"
        )
    assert len(held(site)) == 12


def test_a_repeat_by_the_same_holder_is_the_standing_one(site):
    assert lock_out(site, FLOOR).scoped_hold_id == lock_out(site, FLOOR, now=LATER).scoped_hold_id
    with site.read() as connection:
        actions = list(connection.scalars(sa.select(audit_log.c.action)))
    assert actions.count("scope.lockout.placed") == 1


def test_what_is_described_later_or_left_undone_by_a_crash_is_made_up(site):
    scoped = lock_out(site, FLOOR)
    with site.write() as connection:
        describe_room(connection, "s1-99", floor="2")
    assert scoped_holds.mend(site, LATER) == 2
    assert held(site)["s1-99-ac"][0].scoped_hold_id == scoped.scoped_hold_id
    assert scoped_holds.mend(site, LATER) == 0
    # The end is on record, the members are not released yet: a kill came in between.
    with site.write() as connection:
        connection.execute(sa.text("UPDATE scoped_holds SET released_at = 1, released_by = 'wang'"))
    assert scoped_holds.mend(site, LATER) == 14
    assert held(site) == {}


@pytest.mark.parametrize(
    ("scope", "fault"),
    [
        (Scope(), "expected a room_id, or a campus"),
        (Scope(building="01"), "expected a room_id, or a campus"),
        (Scope(campus="south", floor="2"), "expected the building of floor 2"),
        (Scope(campus="south", building="09"), "no circuit of this site lies in campus south, building 09"),
        (Scope(room_id="nowhere"), "no circuit of this site lies in room nowhere"),
    ],
)
def test_a_scope_that_names_too_little_or_nothing_is_refused(site, scope, fault):
    with pytest.raises(UnableToPlaceScopedHoldError, match=fault):
        lock_out(site, scope)
    assert held(site) == {}


def propose(site, *, actor="wang", building="01"):
    with site.write() as connection:
        return emergency.propose(
            connection,
            campus="south",
            building=building,
            note="smoke in the riser",
            actor=actor,
            now=NOW,
            real_now=NOW,
        )


def confirm(site, token, circuits, *, actor="wang", after_s=10):
    return emergency.confirm(
        books=site,
        token=token,
        circuits=circuits,
        actor=actor,
        now=NOW,
        real_now=NOW + timedelta(seconds=after_s),
    )


def test_an_emergency_names_what_it_cuts_before_it_cuts(site):
    with site.write() as connection:
        keep_supply.set_keep_supply(
            connection, room_id="s1-01", keep=True, reason="oxygen", actor="admin", now=NOW
        )
    proposal = propose(site)
    assert (proposal.circuits, proposal.rooms, proposal.keep_supply_rooms) == (24, 12, 1)
    assert held(site) == {}
    scoped = confirm(site, proposal.token, 24)
    assert scoped.circuits == 24
    assert {hold.reason for found in held(site).values() for hold in found} == {Reason.EMERGENCY}
    assert len(held(site)) == 24
    with pytest.raises(UnableToConfirmEmergencyError, match="used already"):
        confirm(site, proposal.token, 24)
    scoped_holds.release(
        books=site, scoped_hold_id=scoped.scoped_hold_id, actor="admin", note="all clear", now=LATER
    )
    assert held(site) == {}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"circuits": 23}, "named 24, you confirm 23"),
        ({"actor": "li"}, "you made no such proposal"),
        ({"token": "guessed"}, "you made no such proposal"),
        ({"after_s": 60}, "older than 60 s"),
    ],
)
def test_a_confirmation_that_does_not_fit_cuts_nothing(site, answer, fault):
    given = {"token": propose(site).token, "circuits": 24, **answer}
    with pytest.raises(UnableToConfirmEmergencyError, match=fault):
        confirm(site, given.pop("token"), given.pop("circuits"), **given)
    assert held(site) == {}


def test_a_building_that_changed_meanwhile_is_asked_of_anew(site):
    proposal = propose(site)
    with site.write() as connection:
        describe_room(connection, "s1-99")
    with pytest.raises(UnableToConfirmEmergencyError, match="the building has 26"):
        confirm(site, proposal.token, 24)
    assert held(site) == {}


def announce(site, *, scope=BUILDING, start_s=3600, length_s=3600, note="transformer"):
    from_at = NOW + timedelta(seconds=start_s)
    with site.write() as connection:
        return outages.announce(
            connection,
            scope=scope,
            from_at=from_at,
            to_at=from_at + timedelta(seconds=length_s),
            note=note,
            actor="wang",
            now=NOW,
        )


def test_an_outage_is_announced_ahead_to_the_rooms_that_it_touches_and_wakes_the_gateway(site):
    announced = announce(site)
    with site.read() as connection:
        told = outages.of_rooms(connection, room_ids=["s1-01", "s2-01", "n1-01"], now=NOW)
        assert {room_id for room_id, found in told.items() if found} == {"s1-01"}
        assert told["s1-01"][0].outage.note == "transformer"
        assert len(intents.unhandled(connection, 100)) == 24
        assert outages.coming(connection, now=announced.outage.to_at) == []
    with site.write() as connection:
        outages.call_off(
            connection, outage_id=announced.outage.outage_id, actor="li", note="postponed", now=LATER
        )
        assert outages.coming(connection, now=LATER) == []
        with pytest.raises(UnableToFindOutageError):
            outages.call_off(
                connection, outage_id=announced.outage.outage_id, actor="li", note="again", now=LATER
            )


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"start_s": -1}, "from_at: expected an instant from now on"),
        ({"length_s": 0}, "to_at: expected after from_at"),
        ({"length_s": 32 * 86400}, "to_at: expected after from_at and at most 31 days"),
        ({"note": " "}, "note: expected what residents should know"),
        ({"scope": Scope(campus="west")}, "no circuit of this site lies in campus west"),
    ],
)
def test_an_outage_that_makes_no_sense_is_refused(site, asked, fault):
    with pytest.raises(UnableToAnnounceOutageError, match=fault):
        announce(site, **asked)


def test_the_keep_supply_list_changes_with_a_reason_on_record(site):
    with site.write() as connection:
        change = {"room_id": "s1-01", "reason": "oxygen", "actor": "admin", "now": NOW}
        assert keep_supply.set_keep_supply(connection, keep=True, **change)
        assert not keep_supply.set_keep_supply(connection, keep=True, **change)
        assert [room.room_id for room in keep_supply.kept(connection)] == ["s1-01"]
        assert len(intents.unhandled(connection, 10)) == 2
        with pytest.raises(keep_supply.UnableToKeepSupplyError, match="not a room"):
            keep_supply.set_keep_supply(connection, keep=True, **{**change, "room_id": "nowhere"})
        with pytest.raises(keep_supply.UnableToKeepSupplyError, match="reason"):
            keep_supply.set_keep_supply(connection, keep=False, **{**change, "reason": " "})
        rows = connection.execute(
            sa.select(audit_log.c.action, audit_log.c.detail).where(audit_log.c.subject_kind == "room")
        ).all()
        assert [(row.action, row.detail) for row in rows] == [("keep_supply.added", {"reason": "oxygen"})]
