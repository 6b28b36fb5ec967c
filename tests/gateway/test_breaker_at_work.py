"""The breaker at work: which holds it counts, and what a person's no does (invariant 24)."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import control as books_control
from dormpower.books import keep_supply, outages
from dormpower.books.control import ChosenCut
from dormpower.books.database import Books
from dormpower.books.tables import audit_log, pending_cuts
from dormpower.domain.calendars import Hours
from dormpower.domain.curfew import CurfewPolicy, CurfewRule
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.samples import Relay
from dormpower.domain.scopes import Scope, Where
from gateway.schedule_rule import ScheduleRule
from tests.gateway.control_world import NOON, ZONE, World

BUILDING = Scope(campus="south", building="01")
ALL = 25
LAST = f"r-{ALL}-ac"


def start(books: Books, *curfews: CurfewRule) -> World:
    """A site whose circuits but the last are all out of energy at the next sample, and were warned long ago."""
    world = World(books, rooms_count=ALL + 1)
    where = {
        one.circuit_id: Where(campus="south", building="01", floor="1", room_id=one.room_id, kind="ac")
        for one in world.circuits.values()
    }
    world.schedule = ScheduleRule(CurfewPolicy(zone=ZONE, curfews=curfews), where)
    world.control = world.start()
    world.sample()
    return world


def out_of_energy(world: World, circuit_ids: Iterable[str]) -> None:
    two_days_ago = (NOON - timedelta(days=2)).isoformat()
    for circuit_id in circuit_ids:
        world.sample(wh=97_000, only=circuit_id, after_s=0.001)
        with world.books.write() as connection:
            books_control.save(
                connection,
                circuit_id=circuit_id,
                now=world.clock.now(),
                arrears={"first_at": two_days_ago, "second_at": two_days_ago, "mode": "enforce"},
            )
    world.run(world.control.sweep())
    for circuit_id in circuit_ids:
        world.sample(wh=4_000, only=circuit_id, after_s=0.001)


def cut(world: World) -> list[str]:
    return [one for one in world.circuits if Reason.ARREARS in world.standing(one)]


def refuse(world: World, chosen: list[ChosenCut] | None = None) -> int:
    with world.books.write() as connection:
        return books_control.refuse_cuts(
            connection, chosen=chosen, actor="admin", reason="wrong price", now=world.clock.now()
        )


def approve(world: World, *chosen: ChosenCut) -> int:
    with world.books.write() as connection:
        approved = books_control.approve_cuts(connection, chosen=chosen, actor="admin", now=world.clock.now())
    world.settle()
    return approved


def announce(world: World, *, from_at: datetime, to_at: datetime) -> None:
    with world.books.write() as connection:
        outages.announce(
            connection,
            scope=BUILDING,
            from_at=from_at,
            to_at=to_at,
            note="transformer",
            actor="li",
            now=world.clock.now(),
        )
    world.settle()


def look_due_at(world: World, at: datetime) -> None:
    world.clock.advance((at - world.clock.now()).total_seconds())
    world.run(world.control.look_due())
    world.settle()


def test_an_announced_outage_of_a_building_is_not_counted(books: Books) -> None:
    world = start(books)
    now = world.clock.now()
    announce(world, from_at=now + timedelta(seconds=10), to_at=now + timedelta(hours=1))
    look_due_at(world, now + timedelta(seconds=20))
    assert all(world.standing(one) == [Reason.CURFEW] for one in world.circuits)
    out_of_energy(world, [LAST])
    assert cut(world) == [LAST]
    assert world.active_alarms() == []
    world.close()


def test_a_new_curfew_is_counted_also_where_it_goes_on_from_an_announced_outage(sqlite_books: Books) -> None:
    new_rule = CurfewRule(
        name="curfew[0]", hours=Hours(from_minute=13 * 60, to_minute=23 * 60), mode=Enforcement.ENFORCE
    )
    world = start(sqlite_books, new_rule)
    one_pm = NOON + timedelta(hours=1)
    announce(world, from_at=one_pm - timedelta(minutes=10), to_at=one_pm + timedelta(minutes=10))
    look_due_at(world, one_pm - timedelta(minutes=10))
    assert all(world.standing(one) == [Reason.CURFEW] for one in world.circuits)
    look_due_at(world, one_pm)
    world.control = world.start()  # what is exempt until when is on record
    world.sample(after_s=1)
    assert all(world.standing(one) == [Reason.CURFEW] for one in world.circuits)
    assert world.active_alarms() == []
    look_due_at(world, one_pm + timedelta(minutes=10))
    held = [one for one in world.circuits if world.standing(one) == [Reason.CURFEW]]
    assert len(held) == 20
    assert world.active_alarms() == ["cuts_pending_approval"]
    supplied = set(world.circuits) - set(held)
    relays = world.switch.relays
    assert {world.circuits[one].module_id for one in supplied} == {
        module_id for (module_id, _), relay in relays.items() if relay is Relay.CLOSED
    }
    world.close()


def test_who_refuses_cuts_lets_others_pass_and_is_asked_again_after_a_day(books: Books) -> None:
    world = start(books)
    out_of_energy(world, [one for one in world.circuits if one != LAST])
    assert len(cut(world)) == 20
    assert world.active_alarms() == ["cuts_pending_approval"]
    assert refuse(world) == ALL - 20
    assert world.active_alarms() == []
    world.sample(after_s=600)
    assert len(cut(world)) == 20
    out_of_energy(world, [LAST])
    assert LAST in cut(world)  # the breaker is closed again
    world.sample(after_s=23 * 3600)
    world.run(world.control.sweep())
    assert (len(cut(world)), world.active_alarms()) == (21, [])
    world.sample(after_s=3600)
    world.run(world.control.sweep())
    world.sample()
    assert (len(cut(world)), world.active_alarms()) == (21, ["cuts_pending_approval"])
    with world.books.write() as connection:
        approved = books_control.approve_cuts(connection, chosen=None, actor="admin", now=world.clock.now())
        refusals = connection.scalar(sa.select(sa.func.count()).where(audit_log.c.action == "cut.refuse"))
    assert (approved, refusals) == (5, 5)
    world.settle()
    assert len(cut(world)) == ALL + 1
    world.close()


def test_a_refused_cut_is_forgotten_when_its_cause_is_gone_and_approved_by_name_alone(
    sqlite_books: Books,
) -> None:
    world = start(sqlite_books)
    out_of_energy(world, [one for one in world.circuits if one != LAST])
    refuse(world)
    waiting = sorted(set(world.circuits) - set(cut(world)) - {LAST})
    with world.books.write() as connection:
        now = world.clock.now()
        assert books_control.approve_cuts(connection, chosen=None, actor="admin", now=now) == 0
        assert (
            books_control.approve_cuts(connection, chosen=[ChosenCut(waiting[0])], actor="admin", now=now) == 1
        )
    world.settle()
    assert waiting[0] in cut(world)
    world.pay(waiting[1], 50_000)
    with world.books.write() as connection:
        keep_supply.set_keep_supply(
            connection,
            room_id=world.circuits[waiting[2]].room_id,
            keep=True,
            reason="an oxygen concentrator",
            actor="admin",
            now=world.clock.now(),
        )
    world.settle()
    world.sample(after_s=0.001)
    with world.books.read() as connection:
        left = set(connection.scalars(sa.select(pending_cuts.c.circuit_id)))
    assert left == set(waiting[3:])
    world.close()


def two_reasons_wait(books: Books) -> tuple[World, str, str, str]:
    """A world in which the breaker is open and two cuts of some circuits wait; return three of these."""
    new_rule = CurfewRule(
        name="curfew[0]", hours=Hours(from_minute=13 * 60, to_minute=23 * 60), mode=Enforcement.ENFORCE
    )
    world = start(books, new_rule)
    out_of_energy(world, [one for one in world.circuits if one != LAST])
    assert len(cut(world)) == 20
    first, second, third, *_ = sorted(set(world.circuits) - set(cut(world)) - {LAST})
    assert waiting_for(world, first) == ["arrears"]
    world.sample(after_s=2 * 3600)  # the new curfew is on probation: all of it waits behind what waits
    assert waiting_for(world, first) == ["arrears", "curfew"]
    return world, first, second, third


def test_two_cuts_of_a_circuit_that_wait_are_decided_on_apart(sqlite_books: Books) -> None:
    world, first, second, _ = two_reasons_wait(sqlite_books)
    assert refuse(world) == 5 + ALL  # five for arrears, and the curfew of all that were looked at since
    world.sample(after_s=600)
    world.run(world.control.sweep())
    world.sample()
    assert len(cut(world)) == 20
    assert world.standing(first) == []
    world.pay(first, 50_000)
    assert waiting_for(world, first) == ["curfew"]
    assert approve(world, ChosenCut(second)) == 2
    assert sorted(world.standing(second)) == [Reason.ARREARS, Reason.CURFEW]
    world.close()


def test_a_cut_is_approved_or_refused_by_circuit_and_reason_and_each_is_on_record(sqlite_books: Books) -> None:
    world, first, second, third = two_reasons_wait(sqlite_books)
    assert approve(world, ChosenCut(first, "curfew"), ChosenCut(second, "arrears")) == 2
    assert refuse(world, [ChosenCut(second, "curfew")]) == 1
    assert (world.standing(first), waiting_for(world, first)) == ([Reason.CURFEW], ["arrears"])
    assert world.standing(second) == [Reason.ARREARS]
    assert (world.standing(third), waiting_for(world, third)) == ([], ["arrears", "curfew"])
    assert world.active_alarms() == ["cuts_pending_approval"]
    with world.books.read() as connection:
        decided = connection.execute(
            sa.select(audit_log.c.action, audit_log.c.subject_id, audit_log.c.detail)
            .where(audit_log.c.action.in_(["cut.approve", "cut.refuse"]))
            .order_by(audit_log.c.audit_id)
        ).all()
    assert [(row.action, row.subject_id, row.detail["cut"]) for row in decided] == [
        ("cut.approve", first, "curfew"),
        ("cut.approve", second, "arrears"),
        ("cut.refuse", second, "curfew"),
    ]
    world.close()


def test_a_reason_that_comes_later_does_not_ride_on_an_earlier_approval(sqlite_books: Books) -> None:
    new_rule = CurfewRule(
        name="curfew[0]", hours=Hours(from_minute=13 * 60, to_minute=23 * 60), mode=Enforcement.ENFORCE
    )
    world = start(sqlite_books, new_rule)
    out_of_energy(world, [one for one in world.circuits if one != LAST])
    first, *_ = sorted(set(world.circuits) - set(cut(world)) - {LAST})
    assert approve(world, ChosenCut(first)) == 1
    assert world.standing(first) == [Reason.ARREARS]
    world.sample(after_s=2 * 3600)
    assert (world.standing(first), waiting_for(world, first)) == ([Reason.ARREARS], ["curfew"])
    world.close()


def waiting_for(world: World, circuit_id: str) -> list[str]:
    with world.books.read() as connection:
        return sorted(one.reason for one in books_control.pending(connection) if one.circuit_id == circuit_id)


def test_a_refusal_has_a_reason(sqlite_books: Books) -> None:
    world = World(sqlite_books)
    with world.books.write() as connection, pytest.raises(books_control.UnableToRefuseCutsError):
        books_control.refuse_cuts(connection, chosen=None, actor="admin", reason=" ", now=world.clock.now())
    world.close()
