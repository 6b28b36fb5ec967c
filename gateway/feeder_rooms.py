"""Room on the feeders for closings (invariant 23): who may close now, and what is kept free for whom.

Theory of operation. A closing that we command asks here first. Between two plans of shedding there is an answer
at once: the feeders on the circuit's path have room for its pickup beside what flowed at the last plan and what
was promised since, and nobody waits there who goes ahead. Then the pickup is promised: the next plans keep it
free until it shows in the demand or its time is over. Where there is no such answer the circuit waits, and the
plans let it close, among the shed ones and by the same rules, so that nobody waits for good while others are
on. Its place there is from when it first asked, and it keeps it while its module is out of reach: meanwhile it
holds nobody up and is given no room, and on its return it asks as the one that has waited longest. A closing
that was begun has used the turn up.

What is not known (a silent meter and too many silent circuits, or a start) gives no answer. A payment's closing
then goes at once, others once that has lasted, both by count alone as where there is no feeder; a closing after
a trip or a shed waits (DESIGN §3.5). Shedding in shadow or off holds nobody up.

Lives in the event loop's thread. What it knows need not outlast a restart: promises are made again from the
commands on record.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dormpower.clock import Clock
from dormpower.domain.demand import Tree, has_room
from dormpower.domain.fairness import closing_pickup_w
from dormpower.domain.feeder_facts import NO_TURN, Demand, Load, Plan, ShedAs, SheddingPolicy, Source, Turn
from dormpower.domain.holds import Enforcement
from dormpower.domain.reconcile import WaitsFor, WaitUntil
from dormpower.domain.spread import Spread, SpreadPolicy
from gateway.control_memory import CircuitMemory
from gateway.feeder_readings import FeederReadings

PLAN_LASTS_CYCLES = 3  # a plan that is older says nothing of the present demand


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    since_at: datetime
    urgent: bool
    after_trip: bool
    never_shed: bool
    lacks: str  # the feeder that has no room, the lowest one
    until_at: datetime | None = None  # when its turn comes at the latest; None while nothing is known


@dataclass(slots=True, kw_only=True)
class _Promise:
    at: datetime
    pickup_w: int
    is_new: bool


class FeederRooms:
    """Answers closings below the site's feeders; see the module's text."""

    def __init__(self, *, clock: Clock, readings: FeederReadings, policy: SheddingPolicy) -> None:
        self.adopt(policy)
        self._clock = clock
        self._readings = readings
        paths = Tree(readings.feeder_facts(), ()).paths
        self._paths = {
            circuit_id: paths[str(room.feeder)] for circuit_id, (room, _) in readings.circuits.items()
        }
        self._waiting: dict[str, _Wait] = {}
        self._since_at: dict[str, datetime] = {}  # the places of those that wait, or have stepped aside
        self._waiting_below: Counter[tuple[str, bool]] = Counter()  # by feeder, urgent ones apart
        self._promises: dict[str, _Promise] = {}
        self._turns: Mapping[str, Turn] = {}
        self._demands: Mapping[str, Demand] = {}
        self._decided_at: datetime | None = None
        self._known_at = dict.fromkeys(paths, clock.now())
        self._promised_w: dict[str, int] = {}  # since the last plan, by feeder
        self._short: frozenset[str] = frozenset()
        self._planning = False
        self._asked: set[str] = set()  # while a plan was in the making

    def adopt(self, policy: SheddingPolicy) -> None:
        """Go by another policy from now on."""
        self.policy = policy
        self._batches = Spread(SpreadPolicy(circuits=policy.restores_at_once, every_s=policy.cycle_s))

    # --- asked by the reconciler -----------------------------------------------------------------------------

    def ask(self, memory: CircuitMemory) -> bool:
        """Whether a circuit may close now; its pickup is promised then. Else it waits, until `step_aside`."""
        circuit_id, now = memory.circuit.circuit_id, self._clock.now()
        path = self._paths.get(circuit_id)
        if path is None or self.policy.mode_of(path[-1]) is not Enforcement.ENFORCE:
            return True
        if self._is_promised(circuit_id, now):
            return True
        wait = self._waiting.get(circuit_id) or self._wait(memory, now)
        if self._planning:
            self._asked.add(circuit_id)
            return False
        pickup_w = self._pickup_w(memory)
        if not self._is_known(path, now):
            lacks = None if self._without_demand(circuit_id, wait, path, now) else path[0]
            until_at = None
        else:
            lacks = next((one for one in path if not self._has_room(one, wait, pickup_w)), None)
            until_at = wait.since_at + timedelta(seconds=self.policy.max_off_s)
        if lacks is None:
            self._promise(circuit_id, pickup_w, now)
            self.leave(circuit_id)
        else:
            self._waiting[circuit_id] = replace(wait, lacks=lacks, until_at=until_at)
        return lacks is None

    def wait_of(self, circuit_id: str) -> WaitUntil:
        """Return what a circuit that may not close waits for, as it was last found."""
        wait, now = self._waiting[circuit_id], self._clock.now()
        until_at = wait.until_at if wait.until_at is not None and wait.until_at > now else None
        return WaitUntil(why=WaitsFor.FEEDER_ROOM, campus_at=until_at, feeder_id=wait.lacks)

    def step_aside(self, circuit_id: str) -> bool:
        """A circuit can't begin its closing at present, but keeps its place; True where it was waiting."""
        self._batches.forget(circuit_id)
        wait = self._waiting.pop(circuit_id, None)
        if wait is None:
            return False
        for feeder_id in self._paths[circuit_id]:
            self._waiting_below[feeder_id, wait.urgent] -= 1
        return True

    def leave(self, circuit_id: str) -> None:
        """A circuit has no closing to begin, or begins it now."""
        self.step_aside(circuit_id)
        self._since_at.pop(circuit_id, None)

    def withdraw(self, circuit_id: str) -> None:
        """A circuit is to be open: nothing is kept free for it."""
        self.leave(circuit_id)
        self._promises.pop(circuit_id, None)

    def _wait(self, memory: CircuitMemory, now: datetime) -> _Wait:
        circuit_id = memory.circuit.circuit_id
        shed_as = self.policy.shed_as(self._readings.where_of[circuit_id])
        wait = _Wait(
            since_at=self._since_at.setdefault(circuit_id, now),
            urgent=memory.closes_first,
            after_trip=memory.after_trip_or_shed,
            never_shed=shed_as is ShedAs.NEVER or memory.circuit.kind not in self.policy.priorities,
            lacks=self._paths[circuit_id][0],
        )
        self._waiting[circuit_id] = wait
        for feeder_id in self._paths[circuit_id]:
            self._waiting_below[feeder_id, wait.urgent] += 1
        return wait

    def _pickup_w(self, memory: CircuitMemory) -> int:
        circuit_id = memory.circuit.circuit_id
        room, circuit = self._readings.circuits[circuit_id]
        load = Load(
            circuit_id=circuit_id,
            room_id=room.room_id,
            feeder_id=str(room.feeder),
            kind=circuit.kind.value,
            lately_w=self._readings.lately_w(circuit_id),
            carries_w=memory.circuit.carries_w,
        )
        return closing_pickup_w(load, self._turns.get(circuit_id, NO_TURN), self.policy)

    def _is_promised(self, circuit_id: str, now: datetime) -> bool:
        """Whether room is kept free for a circuit already; each try to close keeps it for the full time."""
        lasts = timedelta(seconds=self.policy.pickup_s)
        turn = self._turns.get(circuit_id, NO_TURN)
        if turn.restored_at is not None and now - turn.restored_at <= lasts:
            pickup_w = turn.expected_w
        elif circuit_id in self._promises and now - self._promises[circuit_id].at <= lasts:
            pickup_w = self._promises[circuit_id].pickup_w
        else:
            return False
        is_new = circuit_id in self._promises and self._promises[circuit_id].is_new
        self._promises[circuit_id] = _Promise(at=now, pickup_w=pickup_w, is_new=is_new)
        self.leave(circuit_id)
        return True

    def _promise(self, circuit_id: str, pickup_w: int, now: datetime) -> None:
        self._promises[circuit_id] = _Promise(at=now, pickup_w=pickup_w, is_new=True)
        self._add_promised(circuit_id, pickup_w)

    def _add_promised(self, circuit_id: str, pickup_w: int) -> None:
        for feeder_id in self._paths.get(circuit_id, ()):
            self._promised_w[feeder_id] = self._promised_w.get(feeder_id, 0) + pickup_w

    def _is_known(self, path: tuple[str, ...], now: datetime) -> bool:
        lasts = timedelta(seconds=PLAN_LASTS_CYCLES * self.policy.cycle_s)
        if self._decided_at is None or now - self._decided_at > lasts:
            return False
        return all(one in self._demands and self._demands[one].source is not Source.UNKNOWN for one in path)

    def _without_demand(self, circuit_id: str, wait: _Wait, path: tuple[str, ...], now: datetime) -> bool:
        if wait.after_trip or wait.urgent:
            return not wait.after_trip
        if now - min(self._known_at[one] for one in path) <= timedelta(seconds=self.policy.silent_s):
            return False
        # Many may have waited for it: no more at once than a plan would let close.
        return self._batches.slot(circuit_id, group=path[0], now=now) <= now

    def _has_room(self, feeder_id: str, wait: _Wait, pickup_w: int) -> bool:
        """Whether a feeder has room for a pickup now, and nobody waits for it who comes first."""
        demand = self._demands[feeder_id]
        return (
            not self._goes_behind(wait, feeder_id)
            and has_room(demand, self._promised_w.get(feeder_id, 0), pickup_w, self.policy)
            and (demand.may_restore or not wait.after_trip)
        )

    def _goes_behind(self, wait: _Wait, feeder_id: str) -> bool:
        """Whether somebody who is off for a feeder's sake comes first."""
        if not (wait.urgent or wait.never_shed) and feeder_id in self._short:
            return True
        others = self._waiting_below[feeder_id, True]
        if not wait.urgent:
            others += self._waiting_below[feeder_id, False]
        return others > 1  # 1 is this one itself

    # --- told by shedding ------------------------------------------------------------------------------------

    def take_up(
        self, turns: Mapping[str, Turn], closed_at: Mapping[str, datetime], last_w: Mapping[str, int]
    ) -> None:
        """Begin with what the books hold: shedding's memory, and the closings that may still be picking up.

        `last_w` is what circuits were last seen to draw: one that opened just before the end is not among the
        turns yet.
        """
        self._turns = turns
        seen_w = {
            one: max(turns[one].before_w, turns[one].drew_w, last_w.get(one, 0))
            if one in turns
            else last_w.get(one, 0)
            for one in turns.keys() | last_w.keys()
        }
        self._readings.begin_with({one: power_w for one, power_w in seen_w.items() if power_w})
        self._known_at = dict.fromkeys(self._known_at, self._clock.now())
        for circuit_id in closed_at.keys() & self._paths.keys():
            room, circuit = self._readings.circuits[circuit_id]
            load = Load(
                circuit_id=circuit_id,
                room_id=room.room_id,
                feeder_id=str(room.feeder),
                kind=circuit.kind.value,
            )
            pickup_w = closing_pickup_w(load, turns.get(circuit_id, NO_TURN), self.policy)
            self._promises[circuit_id] = _Promise(at=closed_at[circuit_id], pickup_w=pickup_w, is_new=False)

    def waiting(self) -> tuple[str, ...]:
        """Return the circuits that wait for room."""
        return tuple(self._waiting)

    def begin_plan(self) -> None:
        """A plan is being made of what is known now: nothing is promised until it is there."""
        self._planning = True
        # A feeder that was sampled last before the closing shows nothing of it: until it counts as silent.
        lasts, now = timedelta(seconds=self.policy.pickup_s + self.policy.silent_s), self._clock.now()
        self._promises = {one: promise for one, promise in self._promises.items() if now - promise.at <= lasts}

    def with_closing(self, load: Load) -> Load:
        """Add to a circuit's facts that it waits for room, or that room is kept free for it."""
        wait, promise = self._waiting.get(load.circuit_id), self._promises.get(load.circuit_id)
        if wait is not None:
            load = replace(load, waits_since_at=wait.since_at, urgent=wait.urgent, after_trip=wait.after_trip)
        if promise is not None:
            load = replace(
                load, promised_at=promise.at, promised_w=promise.pickup_w, promise_is_new=promise.is_new
            )
        return load

    def drop_plan(self) -> set[str]:
        """A plan came to nothing; return who is to ask again now."""
        self._planning = False
        again, self._asked = self._asked, set()
        return again

    def end_plan(self, made: Plan, *, short: frozenset[str]) -> set[str]:
        """Take a plan over; return who is to ask again now.

        `short` are the feeders for whose sake somebody is shed.
        """
        again = self.drop_plan()
        for promise in self._promises.values():
            promise.is_new = False
        self._turns, self._short, self._decided_at = made.state.turns, short, made.at
        self._demands = {demand.feeder_id: demand for demand in made.demands}
        self._known_at |= {one.feeder_id: made.at for one in made.demands if one.source is not Source.UNKNOWN}
        self._promised_w = {}
        for restore in made.restores:
            self._add_promised(restore.circuit_id, restore.pickup_w)
        for grant in made.grants:
            self._add_promised(grant.circuit_id, grant.pickup_w)
            if self.step_aside(grant.circuit_id):
                self._promises[grant.circuit_id] = _Promise(at=made.at, pickup_w=grant.pickup_w, is_new=False)
                again.add(grant.circuit_id)
        return again | {one for one in self._waiting if not self._is_known(self._paths[one], made.at)}
