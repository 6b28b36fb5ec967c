"""Feeder shedding at work: each cycle takes the facts together, has the domain plan, and puts it on record.

The facts come from memory: what feeder meters and circuits said last. A plan is written by the gateway's one
writer, holds and state in the same transactions, a bounded number of holds in each; intents then lead the
reconciler to the relays. In shadow mode the same holds are placed as shadow ones, and no relay moves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Connection

from dormpower.books import commands, feeders, policies
from dormpower.books.database import Books
from dormpower.clock import Clock
from dormpower.domain.days import CampusDays
from dormpower.domain.feeder_facts import (
    Facts,
    Load,
    Plan,
    Restore,
    Shed,
    ShedAs,
    SheddingPolicy,
    ShedState,
)
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.shedding import RULE, plan_site
from dormpower.domain.site import Site
from gateway import shed_records
from gateway.control_memory import CircuitMemory
from gateway.feeder_readings import FeederReadings
from gateway.feeder_rooms import FeederRooms
from gateway.policies import described
from gateway.shed_records import StandingShed

log = structlog.get_logger()

HOLDS_AT_ONCE = 20  # in one transaction, so that intake never waits long


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What another policy would do at first: whom it lets go, and its plan (None: it makes none)."""

    let_go: tuple[StandingShed, ...]
    plan: Plan | None
    in_shadow: frozenset[str] = frozenset()  # circuits that it would shed in shadow


def _off_after(made: Plan, standing: Mapping[str, StandingShed]) -> set[str]:
    """Return the circuits that are shed once a plan is done."""
    back = {one.circuit_id for one in made.restores}
    return ({*standing} - back) | {one.circuit_id for one in made.sheds}


class FeederControl:
    """The shedding of a site. `cycle` belongs to the event loop's thread."""

    def __init__(
        self,
        *,
        books: Books,
        clock: Clock,
        site: Site,
        readings: FeederReadings,
        rooms: FeederRooms,
        configured: SheddingPolicy | None = None,
        memory: Callable[[str], CircuitMemory],
        reachable: Callable[[CircuitMemory], bool],
        handle_intents: Callable[[], Awaitable[int]],
        kick: Callable[[str], None],
        executor: Executor,
        zone: ZoneInfo,
    ) -> None:
        self._configured = configured or rooms.policy
        self._books = books
        self._clock = clock
        self._site = site
        self._memory = memory
        self._reachable = reachable
        self._handle_intents = handle_intents
        self._executor = executor
        self._days = CampusDays(zone)
        self._state = ShedState()
        self._listening_since_at = clock.now()
        self._readings = readings
        self._rooms = rooms
        self._kick = kick

    @property
    def policy(self) -> SheddingPolicy:
        """What is in force, for closings too."""
        return self._rooms.policy

    @policy.setter
    def policy(self, policy: SheddingPolicy) -> None:
        self._rooms.adopt(policy)

    # --- deciding ------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take the state over from the books, and let go what is no longer ours to hold (mode, site)."""
        now = self._listening_since_at = self._clock.now()
        with self._books.write() as connection:
            feeders.keep_only(connection, [feeder.feeder_id for feeder in self._site.feeders])
            self._state = feeders.load(connection)
            since = now - timedelta(seconds=self.policy.pickup_s)
            closed_at = commands.closings_since(connection, sorted(self._readings.circuits), since)
            self._rooms.take_up(self._state.turns, closed_at, self._last_w())
            self.take_over(connection, self.policy, self._configured, now=now)
        self._forget_alarms()

    def _last_w(self) -> dict[str, int]:
        """Return what the circuits drew at their last sample of earlier runs."""
        earlier = {one: self._memory(one).earlier for one in self._readings.circuits}
        return {one: round(sample.power_w or 0) for one, sample in earlier.items() if sample is not None}

    def take_over(
        self,
        connection: Connection,
        policy: SheddingPolicy,
        configured: SheddingPolicy,
        *,
        now: datetime,
        actor: str = policies.ACTOR,
    ) -> None:
        """Put a policy on record and let go what is not held by it, in the caller's transaction.

        `configured` is the policy as the site has it, `policy` the same at this clock's speed and, for restored
        books that nobody has confirmed, in shadow.
        """
        policies.record(connection, rule=RULE, described=described(configured), actor=actor, now=now)
        let_go: dict[Enforcement, list[StandingShed]] = {}
        for hold in shed_records.standing(connection):
            mode = self._readings.mode_at(policy, hold.circuit_id)
            if not hold.is_of(mode):
                let_go.setdefault(mode, []).append(hold)
        for mode, found in let_go.items():
            self._release(connection, found, {"why": "not_in_force", "mode": mode.value}, now)
        off = self._left_off(policy)
        feeders.leave_off(connection, sorted(off))
        shed_records.end_alarms(connection, decided=self._readings.root_of.keys() - off, now=now)

    def _left_off(self, policy: SheddingPolicy) -> set[str]:
        roots = self._readings.root_of
        return {one for one in roots if policy.mode_of(roots[one]) is Enforcement.OFF}

    def _forget_alarms(self) -> None:
        """Let the state say that no alarm stands where nothing is decided: it is raised anew later."""
        off = self._left_off(self.policy)
        states = {
            one: replace(state, alarms=()) if one in off else state
            for one, state in self._state.feeders.items()
        }
        self._state = replace(self._state, feeders=states)

    async def run(self) -> None:
        """Decide once a cycle until cancelled."""
        while True:
            await asyncio.sleep(self.policy.cycle_s / self._clock.speed)
            if self.policy.sleeps or not self._site.feeders:
                continue
            try:
                await self.cycle()
            except Exception:
                # Supervised: the books may be away for a moment; the next cycle decides anew.
                log.exception("shedding.cycle_failed")

    async def cycle(self) -> Plan:
        """Make one decision and put it on record; the reconciler follows."""
        for circuit_id in self._rooms.waiting():
            if not self._reachable(self._memory(circuit_id)):
                self._rooms.step_aside(circuit_id)  # the plan keeps no room free for what can't close
        self._rooms.begin_plan()
        try:
            decided = None
            while decided is None:
                decided = await self._decide_by(self.policy)
            made, short = decided
        except BaseException:
            self._ask_again(self._rooms.drop_plan())
            raise
        self._ask_again(self._rooms.end_plan(made, short=short))
        if made.sheds or made.restores:
            log.info("shedding.decided", shed=len(made.sheds), restored=len(made.restores))
            while await self._handle_intents():
                pass
        return made

    async def _decide_by(self, policy: SheddingPolicy) -> tuple[Plan, frozenset[str]] | None:
        """Decide by what memory knows now; None where another policy was taken over meanwhile."""
        loads = self._loads(policy)
        return await asyncio.get_running_loop().run_in_executor(
            # What a load is, exempt or not, is the policy's word: a plan by another one would not keep to it.
            self._executor,
            lambda: self._decide(loads) if policy is self.policy else None,
        )

    async def preview(self, policy: SheddingPolicy) -> Preview:
        """Return what the first decision by another policy would be; nothing is written or remembered."""
        loads = self._loads(policy)
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: self._preview(policy, loads)
        )

    def _preview(self, policy: SheddingPolicy, loads: Sequence[Load]) -> Preview:
        with self._books.read() as connection:
            standing = shed_records.standing(connection)
        kept = {
            hold.circuit_id: hold
            for hold in standing
            if hold.is_of(self._readings.mode_at(policy, hold.circuit_id))
        }
        let_go = tuple(hold for hold in standing if hold.circuit_id not in kept)
        if policy.sleeps or not self._site.feeders:
            return Preview(let_go=let_go, plan=None)
        in_shadow = frozenset(
            circuit_id
            for circuit_id in self._readings.circuits
            if self._readings.mode_at(policy, circuit_id) is Enforcement.SHADOW
        )
        made = self._plan(policy, loads, kept, self._clock.now())
        return Preview(let_go=let_go, plan=made, in_shadow=in_shadow)

    def adopt(self, policy: SheddingPolicy, configured: SheddingPolicy) -> None:
        """Go by another policy from now on: on the writer thread, after the commit of its `take_over`."""
        self.policy, self._configured = policy, configured
        self._forget_alarms()

    def _ask_again(self, circuit_ids: Iterable[str]) -> None:
        for circuit_id in circuit_ids:
            self._kick(circuit_id)

    def _loads(self, policy: SheddingPolicy) -> list[Load]:
        """Return what memory knows of the circuits; our own holds are added from the books."""
        found, now = [], self._clock.now()
        for circuit_id, (room, circuit) in self._readings.circuits.items():
            memory = self._memory(circuit_id)
            shed_as = policy.shed_as(self._readings.where_of[circuit_id])
            shadow = self._readings.mode_at(policy, circuit_id) is Enforcement.SHADOW
            power_w, power_at = self._readings.power(circuit_id)
            fresh = power_at is not None and now - power_at <= timedelta(seconds=policy.power_stale_s)
            load = Load(
                circuit_id=circuit_id,
                room_id=room.room_id,
                feeder_id=str(room.feeder),
                kind=circuit.kind.value,
                power_w=power_w,
                power_at=power_at,
                sampling_period_s=self._readings.power_period_s(circuit_id),
                relay=memory.judged.relay,
                opened_at=memory.opened_at,
                held=any(not hold.shadow and hold.reason is not Reason.SHED for hold in memory.holds),
                exempt=memory.keep_supply or shed_as is ShedAs.NEVER,
                last=shed_as is ShedAs.LAST,
                switchable=memory.circuit.has_relay and memory.circuit.has_readback,
                online=memory.seen and fresh and self._reachable(memory),
                min_off_s=0.0 if shadow else memory.circuit.min_off_s,
                lately_w=self._readings.lately_w(circuit_id),
                carries_w=memory.circuit.carries_w,
            )
            found.append(self._rooms.with_closing(load))
        return found

    def _decide(self, loads: Sequence[Load]) -> tuple[Plan, frozenset[str]]:
        """Plan and write, on the writer thread; also the feeders for whose sake somebody is shed then."""
        now = self._clock.now()
        with self._books.read() as connection:
            standing = {hold.circuit_id: hold for hold in shed_records.standing(connection)}
        made = self._plan(self.policy, loads, standing, now)
        self._write(made, standing, now)
        off, turns = _off_after(made, standing), made.state.turns
        return made, frozenset(str(turns[circuit_id].feeder_id) for circuit_id in off & turns.keys())

    def _plan(
        self,
        policy: SheddingPolicy,
        loads: Sequence[Load],
        standing: Mapping[str, StandingShed],
        now: datetime,
    ) -> Plan:
        facts = Facts(
            feeders=self._readings.feeder_facts(),
            loads=tuple(
                replace(load, shed_at=standing[load.circuit_id].placed_at)
                if load.circuit_id in standing
                else load
                for load in loads
            ),
            today=self._days.day_of(now),
            listening_since_at=self._listening_since_at,
        )
        return plan_site(facts, self._state, policy, now=now)

    # --- on record -----------------------------------------------------------------------------------------

    def _write(self, made: Plan, standing: Mapping[str, StandingShed], now: datetime) -> None:
        """Write the plan in short transactions; the state in memory follows each commit."""
        steps: list[Shed | Restore] = [*made.sheds, *made.restores]
        for start in range(0, len(steps), HOLDS_AT_ONCE):
            chunk = steps[start : start + HOLDS_AT_ONCE]
            turns = {**self._state.turns, **{one.circuit_id: made.state.turns[one.circuit_id] for one in chunk}}
            after = replace(self._state, turns=turns)
            with self._books.write() as connection:
                for step in chunk:
                    if isinstance(step, Shed):
                        self._place(connection, step, made, now)
                    else:
                        self._give_back(connection, step, made, standing[step.circuit_id], now)
                feeders.save_turns(connection, self._state, after)
            self._state = after
        off = self._circuits_off(made, standing)
        with self._books.write() as connection:
            feeders.save_turns(connection, self._state, made.state)
            for demand in made.demands:
                feeders.save_feeder(
                    connection,
                    demand=demand,
                    parent=next(one.parent for one in self._site.feeders if one.feeder_id == demand.feeder_id),
                    mode=self.policy.mode_of(self._readings.root_of[demand.feeder_id]).value,
                    circuits_off=off.get(demand.feeder_id, 0),
                    state=made.state.feeders[demand.feeder_id],
                    now=now,
                )
            shed_records.tell(connection, made, before=self._state, now=now)
        self._state = made.state

    def _place(self, connection: Connection, shed: Shed, made: Plan, now: datetime) -> None:
        shed_records.place(
            connection,
            shed,
            shadow=self._readings.mode_at(self.policy, shed.circuit_id) is Enforcement.SHADOW,
            expected_release_at=now + timedelta(seconds=self.policy.max_off_s),
            evidence={
                **self._periods(made, shed.feeder_id),
                "power_sampling_period_s": self._readings.power_period_s(shed.circuit_id),
            },
            now=now,
        )

    def _give_back(
        self, connection: Connection, restore: Restore, made: Plan, hold: StandingShed, now: datetime
    ) -> None:
        feeder_id = made.state.turns[restore.circuit_id].feeder_id
        evidence = {
            "why": restore.why.value,
            "pickup_w": restore.pickup_w,
            "feeder_id": feeder_id,
            **self._periods(made, feeder_id),
        }
        self._release(connection, [hold], evidence, now)

    def _periods(self, made: Plan, feeder_id: str | None) -> dict[str, object]:
        """Return how often the demand that a decision went by was sampled, and how often one is made."""
        periods = {demand.feeder_id: demand.sampling_period_s for demand in made.demands}
        return {"sampling_period_s": periods.get(feeder_id or ""), "cycle_s": self.policy.cycle_s}

    def _release(
        self,
        connection: Connection,
        found: Sequence[StandingShed],
        evidence: Mapping[str, object],
        now: datetime,
    ) -> None:
        described_ones = ((one.circuit_id, self._readings.circuits.get(one.circuit_id)) for one in found)
        shed_records.release_all(
            connection,
            found,
            room_of={one: place[0].room_id for one, place in described_ones if place is not None},
            evidence=evidence,
            days=self._days,
            now=now,
        )

    def _circuits_off(self, made: Plan, standing: Mapping[str, StandingShed]) -> dict[str, int]:
        """Count what is shed below each feeder once the plan is done."""
        parents = {feeder.feeder_id: feeder.parent for feeder in self._site.feeders}
        counts: dict[str, int] = {}
        for circuit_id in _off_after(made, standing) & self._readings.circuits.keys():
            at: str | None = self._readings.circuits[circuit_id][0].feeder
            while at is not None and at in parents:
                counts[at] = counts.get(at, 0) + 1
                at = parents[at]
        return counts
