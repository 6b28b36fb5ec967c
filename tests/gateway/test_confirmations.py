"""What a lock-out tells of its relay: confirmed by what was read back, withdrawn by what contradicts it."""

import sqlalchemy as sa

from dormpower.books import emergency, events, holds, scoped_holds
from dormpower.books.database import Books
from dormpower.books.scoped_holds import ScopedHold
from dormpower.books.tables import audit_log
from dormpower.domain.holds import Reason, explain
from dormpower.domain.samples import Flag, Relay, Verdict
from dormpower.domain.scopes import Scope
from gateway.ports import SwitchOutcome
from tests.gateway.control_world import World


def texts(world: World) -> list[str]:
    """The codes that people are shown of the circuit's holds."""
    with world.books.read() as connection:
        return [explain(hold).code for hold in holds.standing(connection)["r-0-ac"]]


def steps(world: World) -> list[str]:
    with world.books.read() as connection:
        return list(
            connection.scalars(
                sa.select(audit_log.c.action)
                .where(audit_log.c.action.in_(["hold.confirmed_open", "hold.confirmation_withdrawn"]))
                .order_by(audit_log.c.audit_id)
            )
        )


def test_a_second_holder_is_confirmed_by_the_next_sample(quick_world: World) -> None:
    world = quick_world
    world.sample()
    first = world.lock_out("wang")
    world.clock.advance(60)
    second = world.lock_out("li")
    assert world.confirmed_at(first) is not None
    assert world.confirmed_at(second) is None  # nothing was read since
    world.sample()
    assert world.confirmed_at(second) == world.clock.now()
    assert texts(world) == ["hold.lockout_reported_open"] * 2
    assert len(world.switch.sent) == 1


def test_a_lock_out_of_a_circuit_that_is_off_already_is_confirmed_by_the_next_sample(
    quick_world: World,
) -> None:
    world = quick_world
    world.into_arrears()
    world.clock.advance(1)
    lockout_id = world.lock_out()
    assert world.confirmed_at(lockout_id) is None
    world.sample()
    assert world.confirmed_at(lockout_id) is not None
    assert len(world.switch.sent) == 1


def test_a_lost_answer_is_made_up_by_the_next_sample(quick_world: World) -> None:
    world = quick_world
    world.sample()
    world.switch.next_outcomes = [SwitchOutcome.TIMED_OUT]
    lockout_id = world.lock_out()
    assert world.confirmed_at(lockout_id) is None
    world.sample(relay=Relay.OPEN, verdict=Verdict.NO_REGISTER)
    assert world.confirmed_at(lockout_id) is not None
    assert world.control.memory("r-0-ac").control == "settled"


def test_a_sample_from_before_the_lock_out_confirms_nothing(quick_world: World) -> None:
    world = quick_world
    world.sample(relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))
    world.clock.advance(60)
    lockout_id = world.lock_out()
    world.clock.advance(-30)  # a sample that was on its way meanwhile
    world.sample(after_s=0, relay=Relay.OPEN)
    assert world.confirmed_at(lockout_id) is None
    world.clock.advance(30)
    world.sample()
    assert world.confirmed_at(lockout_id) is not None


def test_a_confirmation_is_withdrawn_when_the_relay_is_reported_closed_and_given_anew(world: World) -> None:
    world.sample()
    lockout_id = world.lock_out()
    assert world.confirmed_at(lockout_id) is not None
    world.switch.next_outcomes = [SwitchOutcome.NOT_FOLLOWED]  # it is told to open again, and does not
    world.sample(relay=Relay.CLOSED)
    assert world.confirmed_at(lockout_id) is None
    assert texts(world) == ["hold.lockout"]
    assert world.active_alarms() == ["closed_against_hold"]
    world.clock.advance(2)
    world.tick()
    assert world.switch.sent[-1] == ("m-0", 0, Relay.OPEN)
    assert world.confirmed_at(lockout_id) is not None
    assert steps(world) == ["hold.confirmed_open", "hold.confirmation_withdrawn", "hold.confirmed_open"]


def test_a_confirmation_is_withdrawn_as_soon_as_current_flows_through_the_open_relay(
    quick_world: World,
) -> None:
    world = quick_world
    world.sample()
    lockout_id = world.lock_out()
    world.sample(power_w=900.0)
    assert world.confirmed_at(lockout_id) is None
    world.sample(power_w=900.0)
    assert world.active_alarms() == ["open_but_drawing"]
    other = world.lock_out("li")
    world.run(world.control.sweep())
    assert world.confirmed_at(other) is None
    world.sample()  # no current any more
    assert world.active_alarms() == []
    assert None not in (world.confirmed_at(lockout_id), world.confirmed_at(other))


def test_whoever_follows_the_circuit_hears_that_its_open_relay_lets_current_through(quick_world: World) -> None:
    world = quick_world
    world.into_arrears()
    for power_w in (900.0, 0.0):
        world.sample(power_w=power_w)
        with world.books.read() as connection:
            seen = events.latest_id(connection) or 0
        world.sample(power_w=power_w)
        world.sample(power_w=power_w)
        with world.books.read() as connection:
            told = {event.kind for event in events.after(connection, seen, 100)}
        assert told == ({"alarm", "circuit"} if power_w else set())


def test_every_circuit_of_an_emergency_is_confirmed_whatever_it_was_off_for(sqlite_books: Books) -> None:
    world = World(sqlite_books, rooms_count=3)
    world.sample()
    world.lock_out(circuit_id="r-1-ac")
    world.clock.advance(60)
    with world.books.write() as connection:
        proposal = emergency.propose(
            connection,
            campus="south",
            building="01",
            note="smoke",
            actor="li",
            now=world.clock.now(),
            real_now=world.clock.real_now(),
        )
    emergency.confirm(
        books=world.books,
        token=proposal.token,
        circuits=3,
        actor="li",
        now=world.clock.now(),
        real_now=world.clock.real_now(),
    )
    world.settle()

    def scoped() -> ScopedHold:
        with world.books.read() as connection:
            (found,) = scoped_holds.standing(connection, reason=Reason.EMERGENCY)
        return found

    assert (scoped().confirmed_open, scoped().confirmed_open_at) == (2, None)  # those that got a command
    world.sample()
    assert (scoped().confirmed_open, scoped().confirmed_open_at) == (3, world.clock.now())
    world.sample(only="r-2-ac", power_w=500.0)
    assert (scoped().confirmed_open, scoped().confirmed_open_at) == (2, None)
    world.close()


def test_a_vacancy_is_confirmed_and_a_shadow_one_never(quick_world: World) -> None:
    world = quick_world
    world.sample()
    for shadow, holder in ((False, "wang"), (True, "li")):
        scoped_holds.place(
            books=world.books,
            reason=Reason.VACANT,
            scope=Scope(room_id="r-0"),
            holder=holder,
            note="empty",
            placed_by=holder,
            shadow=shadow,
            now=world.clock.now(),
        )
    world.settle()
    world.sample()
    with world.books.read() as connection:
        found = {hold.shadow: hold.confirmed_open_at for hold in holds.standing(connection)["r-0-ac"]}
    assert found[False] is not None
    assert found[True] is None
