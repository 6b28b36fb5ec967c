"""Invariant 14 under any sequence of events: a relay is told to close only when its circuit has no hold.

What is put on record is not always told to the gateway at once (a step without `hint`), processes die in the
middle of a command, answers are lost, and holds are placed while a command is under way. The switch notes each
closing that the books forbid: an exception there would be taken for a failed command and pass.
"""

import asyncio
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dormpower.books import control as books_control
from dormpower.books import holds, outages, scoped_holds, trips
from dormpower.books.database import Books, open_books
from dormpower.domain import curfew, shedding
from dormpower.domain.curfew import CurfewPolicy
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Flag, Relay, Verdict
from dormpower.domain.scopes import Scope, Where
from dormpower.domain.spread import SpreadPolicy
from gateway.ports import SwitchOutcome, SwitchResult
from gateway.schedule_rule import ScheduleRule
from tests.gateway.control_world import NOON, ZONE, FakeSwitch, World, plug_in_a_kettle

CIRCUIT, NEIGHBOUR = "r-0-ac", "r-1-ac"
ROOM = Scope(room_id="r-0")
BUILDING = Scope(campus="south", building="01")


class CheckedSwitch(FakeSwitch):
    """Notes each closing of a circuit that has a hold on record; dies in the middle of a command when told to.

    `meanwhile` happens once, after the next command was sent and before it is answered.
    """

    def __init__(self, books: Books) -> None:
        super().__init__()
        self.books = books
        self.violations: list[str] = []
        self.dies: str | None = None
        self.dead = False
        self.meanwhile: Callable[[], None] | None = None

    async def switch(self, *, module_id: str, channel: int, relay: Relay, **rest: Any) -> SwitchResult:
        if self.dead:
            raise asyncio.CancelledError
        if relay is Relay.CLOSED:
            circuit_id = f"{module_id.replace('m', 'r')}-ac"
            with self.books.read() as connection:
                found = holds.standing(connection).get(circuit_id, ())
            self.violations += [f"{circuit_id}: {hold.reason}" for hold in found if not hold.shadow]
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        if self.dies is not None:
            if self.dies == "after":
                self.relays[module_id, channel] = relay
            self.dead = True
            raise asyncio.CancelledError  # nothing after this is ever put on record
        return await super().switch(module_id=module_id, channel=channel, relay=relay, **rest)


def start(world: World) -> None:
    """Start a gateway on what the books hold; the one before is gone."""
    world.switch.dies, world.switch.dead = None, False  # type: ignore[attr-defined]
    where = {
        circuit.circuit_id: Where(
            campus="south", building="01", floor="1", room_id=circuit.room_id, kind=circuit.kind
        )
        for circuit in world.circuits.values()
    }
    world.schedule = ScheduleRule(CurfewPolicy(zone=ZONE), where)
    world.spread = SpreadPolicy(circuits=1, every_s=10)
    world.control = world.start(min_off_s=300.0, self_restore_s=600.0)


def draw(world: World, power_w: float, **more: Any) -> None:
    closed = world.switch.relays.get(("m-0", 0), Relay.CLOSED) is Relay.CLOSED
    world.sample(power_w=power_w if closed else 0.0, only=CIRCUIT, **more)


def old_sample(world: World, relay: Relay) -> None:
    """A sample that a broker has kept for a while."""
    world.sample(relay=relay, only=CIRCUIT, after_s=1, on_its_way_s=20)


def overload(world: World) -> None:
    draw(world, 2500.0)
    draw(world, 2500.0)


def kettle(world: World) -> None:
    world.sample()
    plug_in_a_kettle(world)


def lock(world: World, holder: str = "wang") -> None:
    with world.books.write() as connection:
        holds.place_lockout(connection, circuit_id=CIRCUIT, holder=holder, reason="x", now=world.clock.now())


def lift(world: World) -> None:
    with world.books.write() as connection:
        for hold in holds.standing(connection).get(CIRCUIT, ()):
            if hold.reason is Reason.LOCKOUT and not hold.scoped_hold_id:
                holds.lift_lockout(
                    connection, lockout_id=hold.hold_id, actor=hold.holder, now=world.clock.now()
                )


def reset(world: World) -> None:
    with world.books.write() as connection:
        holds.reset(connection, CIRCUIT, "maintenance", world.clock.now())


def hold_scope(reason: Reason, scope: Scope) -> Callable[[World], None]:
    def step(world: World) -> None:
        scoped_holds.place(
            books=world.books,
            reason=reason,
            scope=scope,
            holder="li",
            note="x",
            placed_by="li",
            now=world.clock.now(),
        )

    return step


def let_scopes_go(world: World) -> None:
    with world.books.read() as connection:
        found = scoped_holds.standing(connection)
    for one in found:
        scoped_holds.release(
            books=world.books, scoped_hold_id=one.scoped_hold_id, actor="li", note="", now=world.clock.now()
        )


def shed(world: World) -> None:
    for circuit_id in world.circuits:
        with world.books.write() as connection:
            holds.place(
                connection,
                circuit_id=circuit_id,
                reason=Reason.SHED,
                placed_by=shedding.RULE,
                evidence={},
                now=world.clock.now(),
            )


def restore(world: World) -> None:
    for circuit_id in world.circuits:
        with world.books.write() as connection:
            holds.release(
                connection,
                circuit_id=circuit_id,
                reason=Reason.SHED,
                released_by=shedding.RULE,
                evidence={},
                now=world.clock.now(),
            )


def announce(world: World) -> None:
    now = world.clock.now()
    with world.books.write() as connection:
        outages.announce(
            connection,
            scope=BUILDING,
            from_at=now + timedelta(seconds=20),
            to_at=now + timedelta(hours=1),
            note="riser",
            actor="li",
            now=now,
        )


def call_off(world: World) -> None:
    now = world.clock.now()
    with world.books.write() as connection:
        for one in outages.coming(connection, now=now):
            outages.call_off(connection, outage_id=one.outage.outage_id, actor="li", note="done", now=now)


def doubt(world: World) -> None:
    """A mass of cuts elsewhere waits: from now on the breaker lets no cut pass unapproved."""
    with world.books.write() as connection:
        books_control.pend_cut(
            connection, circuit_id=NEIGHBOUR, reason="prohibited", evidence={}, now=world.clock.now()
        )


def approve(world: World) -> None:
    with world.books.write() as connection:
        books_control.approve_cuts(connection, chosen=None, actor="admin", now=world.clock.now())


def fail(world: World) -> None:
    world.switch.next_outcomes = [SwitchOutcome.TIMED_OUT, SwitchOutcome.NOT_FOLLOWED]


def die(when: str) -> Callable[[World], None]:
    def step(world: World) -> None:
        world.switch.dies = when  # type: ignore[attr-defined]

    return step


def lock_meanwhile(world: World) -> None:
    world.switch.meanwhile = lambda: lock(world, "zhao")  # type: ignore[attr-defined]


def look_due(world: World) -> None:
    world.clock.advance(30)
    world.run(world.control.look_due())
    world.tick()


def wait(world: World) -> None:
    world.sample(after_s=50_000)
    world.run(world.control.sweep())


STEPS: dict[str, Callable[[World], None]] = {
    "sample": lambda world: world.sample(),
    "later": lambda world: world.sample(after_s=310),
    "doubtful sample": lambda world: world.sample(after_s=310, verdict=Verdict.QUARANTINED),
    "use": lambda world: world.sample(wh=40_000),
    "pay": lambda world: world.post(CIRCUIT, 60_000),
    "overload": overload,
    "kettle": kettle,
    "trip": lambda world: world.sample(relay=Relay.OPEN, flags=frozenset({Flag.PROHIBITED_TRIP}), only=CIRCUIT),
    "opened by hand": lambda world: world.sample(relay=Relay.OPEN, only=CIRCUIT),
    "closed long ago": lambda world: old_sample(world, Relay.CLOSED),
    "open long ago": lambda world: old_sample(world, Relay.OPEN),
    "closed by hand": lambda world: world.sample(relay=Relay.CLOSED, only=CIRCUIT),
    "reset": reset,
    "lock": lock,
    "lift": lift,
    "lock meanwhile": lock_meanwhile,
    "lock the room": hold_scope(Reason.LOCKOUT, ROOM),
    "vacate": hold_scope(Reason.VACANT, ROOM),
    "emergency": hold_scope(Reason.EMERGENCY, BUILDING),
    "let scopes go": let_scopes_go,
    "shed": shed,
    "restore": restore,
    "announce": announce,
    "call off": call_off,
    "doubt": doubt,
    "approve": approve,
    "hint": lambda world: world.settle(),
    "look due": look_due,
    "fail": fail,
    "die before": die("before"),
    "die after": die("after"),
    "restart": start,
    "wait": wait,
}
RELEASED_BY = {
    "arrears": {"rule:arrears"},
    "lockout": {"wang", "zhao", "li"},
    "emergency": {"li"},
    "vacant": {"li"},
    "overload": {"rule:overload", "maintenance"},
    "prohibited": {"rule:prohibited", "maintenance"},
    "module_trip": {"rule:trips", "maintenance"},
    "opened_locally": {"rule:trips", "maintenance"},
    "shed": {shedding.RULE},
    "curfew": {curfew.RULE},
}
# Waiting for its minimum off time, a circuit is held again, and nobody has told the gateway.
HELD_WHILE_WAITING = ["sample", "shed", "hint", "restore", "hint", "lock", "later"]
# The gateway dies before the answer to a closing; a hold is placed before the next one runs.
HELD_AFTER_A_DEATH = ["sample", "shed", "hint", "restore", "die after", "later", "lock", "restart", "sample"]
HELD_DURING_A_CLOSING = ["sample", "shed", "hint", "restore", "hint", "lock meanwhile", "later", "sample"]


def all_is_over(world: World) -> None:
    """Let everything that fails be over, and every timer run out."""
    if world.switch.dead:  # type: ignore[attr-defined]
        start(world)
    world.switch.next_outcomes = []
    world.switch.dies = world.switch.meanwhile = None  # type: ignore[attr-defined]
    for _ in range(4):
        world.sample(after_s=700)
        world.run(world.control.look_due())
        world.tick()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=25))
@example(steps=HELD_WHILE_WAITING)
@example(steps=HELD_AFTER_A_DEATH)
@example(steps=HELD_DURING_A_CLOSING)
def test_no_sequence_of_events_energises_a_circuit_with_a_hold(
    _sqlite_template: Path,  # noqa: PT019 - its value is copied for each example
    tmp_path: Path,
    steps: list[str],
) -> None:
    path = tmp_path / f"{uuid4().hex}.db"
    shutil.copyfile(_sqlite_template, path)
    world = World(open_books(f"sqlite:///{path}"), rooms_count=2)
    world.switch = switch = CheckedSwitch(world.books)
    start(world)
    try:
        with structlog.testing.capture_logs() as logged:
            for step in steps:
                if switch.dead:
                    start(world)
                STEPS[step](world)
            all_is_over(world)
        assert switch.violations == []
        assert [line for line in logged if line["event"] == "control.reconcile_failed"] == []
        for circuit_id, circuit in world.circuits.items():
            wanted = Relay.OPEN if world.standing(circuit_id) else Relay.CLOSED
            assert switch.relays[circuit.module_id, 0] is wanted
            assert world.control.memory(circuit_id).control == "settled"
        with world.books.read() as connection:
            ended = connection.execute(
                sa.text("SELECT reason, released_by FROM holds WHERE released_by IS NOT NULL")
            ).all()
            closings = trips.restores(connection, circuit_ids=[CIRCUIT], since=NOON).get(CIRCUIT, ())
        assert [row for row in ended if row.released_by not in RELEASED_BY[row.reason]] == []
        own = [
            one.at.astimezone(ZONE).date()
            for one in closings
            if one.reason in (Reason.OVERLOAD, Reason.PROHIBITED)
        ]
        assert all(own.count(day) <= 2 for day in own)
    finally:
        world.close()
        world.books.close()
