"""Control: looks at what intake took in and at what the books want, decides, and has the reconciler act.

Three ways lead to a look at a circuit: an observation (in intake's transaction), an intent (somebody committed
something that can change a wanted relay), and the sweep once a minute. All three ask the same rules with the
same facts, so that a lost hint or a restart costs time, never a decision. Decisions are made on the gateway's
one writer thread; relays are switched from the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import TypeVar
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Connection

from dormpower.books import (
    alarms,
    commands,
    intents,
    meter_changes,
    openings,
    quarantines,
    shadow,
    shadow_alarms,
    states,
)
from dormpower.books import control as books_control
from dormpower.books.database import Books
from dormpower.books.intents import Intent
from dormpower.clock import Clock
from dormpower.domain import trips
from dormpower.domain.holds import SupplyState
from dormpower.domain.openings import OpeningsPolicy
from dormpower.domain.samples import Observation
from dormpower.domain.silences import Cut
from dormpower.domain.spread import SpreadPolicy
from dormpower.wake import WakeListener
from gateway import circuit_alarms, policy_changes
from gateway.closing_room import Room
from gateway.contacts import Contacts
from gateway.control_memory import AccountMemory, CircuitMemory, ControlledCircuit, build, fill
from gateway.decisions import Decider, PaymentPending
from gateway.looking import (
    Look,
    Outcome,
    newly_opened,
    outcome_at_start,
    take_over,
    watch,
    watched_at_start,
)
from gateway.policies import CircuitFacts, Policy, Timed, WatchesNothing
from gateway.ports import Switch
from gateway.reconciler import Reconciler

log = structlog.get_logger()

INTENTS_AT_ONCE = 200
SWEEP_CHUNK = 100  # some 10 ms of the writer, which commands and intents share
DUE_CHUNK = 20  # at a boundary every look writes: the transactions stay short
SWEEP_S = 60.0
TICK_S = 1.0
METERING_CAUSES = frozenset({meter_changes.INTENT_CAUSE, quarantines.INTENT_CAUSE})

Result = TypeVar("Result")


class Control:
    """The gateway's control part; see the module's text."""

    def __init__(
        self,
        *,
        books: Books,
        clock: Clock,
        switch: Switch,
        circuits: Mapping[str, ControlledCircuit],
        policies: Sequence[Policy],
        executor: Executor,
        zone: ZoneInfo,
        stale_after_s: float,
        warning_channels: Sequence[str] = (),
        payment_pending: PaymentPending | None = None,
        reload: Callable[[str], None] = lambda _: None,
        wake: WakeListener | None = None,
        spread: SpreadPolicy | None = None,
        room: Room | None = None,
        line_of: Mapping[str, str] | None = None,
        openings_policy: OpeningsPolicy | None = None,
    ) -> None:
        self._books = books
        self._openings_policy = openings_policy or OpeningsPolicy()
        self._clock = clock
        self._executor = executor
        self._zone = zone
        self._stale_after_s = stale_after_s
        self._reload = reload  # of a circuit whose metering a person changed: intake reads it anew
        self._wake = wake
        # Held from the start of a look until memory knows its outcome: the next look starts from there. Intake
        # holds it around each batch, since `decide_batch` looks too.
        self.turn = asyncio.Lock()
        self._memories = build(circuits.values())
        self._accounts: dict[str, AccountMemory] = {}
        self._due_at: dict[str, datetime] = {}  # when a schedule wants a circuit looked at
        self._decider_of = partial(
            Decider,
            rooms=len({circuit.room_id for circuit in circuits.values()}),
            stale_after_s=stale_after_s,
            zone=zone,
            payment_pending=payment_pending,
        )
        self._go_by(policies, warning_channels)
        self._contacts = Contacts(
            books=books,
            clock=clock,
            circuits=circuits,
            run=self.run_on_writer,
            kick=self._kick_module,
            zone=zone,
            line_of=line_of,
        )
        self._by_module: dict[str, list[str]] = {}
        for circuit in circuits.values():
            self._by_module.setdefault(circuit.module_id, []).append(circuit.circuit_id)
        self.reconciler = Reconciler(
            books=books,
            clock=clock,
            switch=switch,
            memories=self._memories,
            run=self.run_on_writer,
            reachable=self._contacts.reachable,
            stale_after_s=stale_after_s,
            spread=spread,
            room=room,
        )

    def _go_by(self, policies: Sequence[Policy], warning_channels: Sequence[str]) -> None:
        self._policies = policies
        self._watchers = [policy for policy in policies if not isinstance(policy, WatchesNothing)]
        self._quiet_above_wh = max(
            (policy.quiet_above_wh for policy in policies if policy.quiet_above_wh is not None), default=-inf
        )
        self._timed = [policy for policy in policies if isinstance(policy, Timed)]
        self._decider = self._decider_of(policies=policies, channels=warning_channels)

    def adopt(
        self,
        policies: Sequence[Policy],
        *,
        spread: SpreadPolicy,
        warning_channels: Sequence[str],
        circuits: Mapping[str, ControlledCircuit],
    ) -> None:
        """Go by other policies from now on: under `turn`, after the commit that put them on record.

        What rules make of the samples goes on as far as the new ones can take it over. A sweep then looks at
        everything with them.
        """
        shadow_only = self._decider.shadow_only
        before = {policy.rule: policy.described() for policy in self._policies}
        self._go_by(policies, warning_channels)
        self._decider.shadow_only = shadow_only
        self.reconciler.adopt(spread)
        changed = [policy for policy in self._watchers if policy.described() != before.get(policy.rule)]
        for memory in self._memories.values():
            taken_over = {
                policy.rule: policy.carried_over(memory.watched.get(policy.rule)) for policy in changed
            }
            memory.watched = {**memory.watched, **taken_over}
            memory.circuit = circuits[memory.circuit.circuit_id]

    def facts_now(self, connection: Connection, circuit_id: str, policy: Policy) -> CircuitFacts:
        """Return what a policy would look at now, without a new sample: for trying one out. Under `turn`."""
        memory = self._memories[circuit_id]
        look = self._look_without_sample(memory)
        facts = self._decider.facts(connection, memory, policy, look, outcome_at_start(memory, look))
        return replace(facts, sample=memory.sample, watched=policy.carried_over(facts.watched))

    def memory(self, circuit_id: str) -> CircuitMemory:
        """Return what is in memory of a circuit: for figures and tests, not for changing."""
        return self._memories[circuit_id]

    # --- start ---------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over everything from the books; commands that a gateway's end cut off are put to rest."""
        now = self._clock.now()
        with self._books.write() as connection:
            commands.interrupt_unfinished(connection, now)
            states.set_stale_after_s(connection, self._stale_after_s)
            in_shadow = shadow.awaits_confirmation(connection)
            policy_changes.take_over(connection, self._policies, shadow_only=in_shadow, now=now)
        with self._books.read() as connection:
            everything = list(self._memories.values())
            for start in range(0, len(everything), SWEEP_CHUNK):
                self._fill(connection, everything[start : start + SWEEP_CHUNK], now, first=True)
            for memory in everything:
                memory.watched = watched_at_start(self._watchers, memory)
            for alarm in alarms.active(connection):
                of_module = self._by_module.get(alarm.subject_id, []) if alarm.subject_kind == "module" else []
                for circuit_id in [alarm.subject_id] if alarm.subject_kind == "circuit" else of_module:
                    known = self._memories.get(circuit_id)
                    if known is not None and circuit_alarms.knows(alarm):
                        known.active_alarms |= {alarm.kind}
            for circuit_id, kinds in shadow_alarms.standing(connection).items():
                if circuit_id in self._memories:
                    self._memories[circuit_id].shadow_alarms = kinds
            self._contacts.load(connection)
            if self._timed:
                self._load_due(now)

    def _load_due(self, now: datetime) -> None:
        """Note what schedules want of each circuit, so that a boundary passed while nobody ran is made up."""
        for circuit_id, memory in self._memories.items():
            wanted = [
                policy.next_look_at(
                    circuit_id,
                    holds=memory.holds,
                    keep_supply=memory.keep_supply,
                    shadow_only=self._decider.shadow_only,
                    now=now,
                )
                for policy in self._timed
            ]
            found = [at for at in wanted if at is not None]
            if found:
                self._due_at[circuit_id] = min(found)

    def _fill(
        self, connection: Connection, memories: Sequence[CircuitMemory], now: datetime, *, first: bool = False
    ) -> None:
        self._decider.shadow_only = shadow.awaits_confirmation(connection)
        for policy in self._timed:
            policy.refresh(connection, now=now)
        fill(
            connection,
            memories,
            self._accounts,
            today=now.astimezone(self._zone).date(),
            now=now,
            first=first,
        )

    # --- observations --------------------------------------------------------------------------------------

    def decide_batch(
        self, connection: Connection, observations: Sequence[Observation], now: datetime
    ) -> Callable[[], None]:
        """Judge a batch in intake's transaction; return what to do to memory after its commit.

        An unchanged observation of a quiet circuit costs no query. Runs on the writer thread; what it returns
        runs on the event loop.
        """
        token = object()
        touched: list[CircuitMemory] = []
        outcomes: list[tuple[CircuitMemory, Outcome]] = []
        latest: dict[
            str, Outcome
        ] = {}  # a circuit may be in a batch twice: the second look starts from the first
        memories, watchers, quiet_above_wh = self._memories, self._watchers, self._quiet_above_wh
        for observation in observations:
            circuit_id, sample = observation.circuit_id, observation.sample
            memory = memories.get(circuit_id)
            if memory is None:
                continue
            if memory.token is not token:
                memory.begin_batch(token)
                touched.append(memory)
            memory.observe(observation)
            wants_look = watch(watchers, memory, sample, observation.at)
            available_wh = memory.available_after(observation)
            before = latest.get(circuit_id)
            if (
                before is None
                and memory.quiet
                and not wants_look
                and (available_wh is None or available_wh > quiet_above_wh)
                and trips.unchanged(memory.next_judged, sample, memory.wanted)
                and not memory.kept
            ):
                continue
            if before is not None and before.state_due is not None:
                self._decider.record_states(connection, latest, now=now)
            look = self._look_at(memory, observation, available_wh)
            outcome = self._decider.look(connection, memory, look, now, before=before)
            memory.next_judged = outcome.judged
            latest[circuit_id] = outcome
            outcomes.append((memory, outcome))
        self._decider.record_states(connection, latest, now=now)
        opened = newly_opened((memories[one], outcome) for one, outcome in latest.items())
        if opened:
            openings.tell(connection, opened, policy=self._openings_policy, now=now)
        return lambda: self._take_over_batch(touched, outcomes)

    def _look_at(self, memory: CircuitMemory, observation: Observation, available_wh: int | None) -> Look:
        fresh_at = observation.at if observation.fresh else memory.fresh_at
        return Look(
            available_wh=available_wh,
            fresh=self._is_fresh(fresh_at) if not observation.fresh else True,
            sample=observation.sample,
            observed_at=observation.at,
            sampled_at=fresh_at,
            sampling_period_s=memory.next_sampling_period_s,
            judged=memory.next_judged,
            believed=memory.next_believed,
            watched=memory.next_watched,
            # A sample from before a command's end, or while one is under way, says nothing of what it did.
            judges_relay=not memory.outstanding
            and (memory.command_ended_at is None or observation.at > memory.command_ended_at),
        )

    def is_fresh(self, memory: CircuitMemory) -> bool:
        """Whether an accepted reading of a circuit is within the stale limit."""
        return self._is_fresh(memory.fresh_at)

    def _is_fresh(self, at: datetime | None) -> bool:
        return at is not None and self._clock.now() - at <= timedelta(seconds=self._stale_after_s)

    def _take_over_batch(
        self, touched: Sequence[CircuitMemory], outcomes: Sequence[tuple[CircuitMemory, Outcome]]
    ) -> None:
        first_seen = []
        for memory in touched:
            memory.end_batch()
            if memory.next_seen and not memory.seen:
                memory.seen = True
                first_seen.append(memory.circuit.circuit_id)
        for memory, outcome in outcomes:
            self._take_over(memory, outcome)
        for circuit_id in first_seen:
            self._memories[circuit_id].settle_quiet()
            self.reconciler.kick(circuit_id)

    def _take_over(self, memory: CircuitMemory, outcome: Outcome, *, judged: bool = True) -> None:
        """Take an outcome over into memory and look at the relay where it is not as wanted."""
        take_over(memory, outcome, judged=judged, now=self._clock.now())
        if outcome.look_again_at is None:
            self._due_at.pop(memory.circuit.circuit_id, None)
        else:
            self._due_at[memory.circuit.circuit_id] = outcome.look_again_at
        memory.settle_quiet()
        if memory.seen and memory.circuit.has_relay:
            self.reconciler.kick(memory.circuit.circuit_id)

    # --- intents and sweep ---------------------------------------------------------------------------------

    async def handle_intents(self) -> int:
        """Take what is unhandled, decide anew, and reconcile these circuits at once; return how many."""
        async with self.turn:
            handled, found = await self.run_on_writer(self._handle)
            self._take_over_looks(found)
        for circuit_id in sorted({one.circuit_id for one in handled if one.cause in METERING_CAUSES}):
            self._reload(circuit_id)
        return len(handled)

    def _handle(self) -> tuple[list[Intent], list[tuple[CircuitMemory, Outcome]]]:
        now = self._clock.now()
        with self._books.read() as connection:
            if not intents.unhandled(connection, 1):
                return [], []
        with self._books.write() as connection:
            taken = intents.unhandled(connection, INTENTS_AT_ONCE)
            found = self._look_again(connection, {intent.circuit_id for intent in taken}, now)
            openings.keep_up(connection, now=now)
            intents.mark_handled(connection, [intent.intent_id for intent in taken], now)
        return taken, found

    def _look_again(
        self, connection: Connection, circuit_ids: set[str], now: datetime
    ) -> list[tuple[CircuitMemory, Outcome]]:
        memories = [self._memories[one] for one in sorted(circuit_ids) if one in self._memories]
        if not memories:
            return []
        self._fill(connection, memories, now)
        found = {
            memory.circuit.circuit_id: self._decider.look(
                connection, memory, self._look_without_sample(memory), now
            )
            for memory in memories
        }
        self._decider.record_states(connection, found, now=now)
        return [(memory, found[memory.circuit.circuit_id]) for memory in memories]

    def _look_without_sample(self, memory: CircuitMemory) -> Look:
        account = memory.account
        return Look(
            available_wh=None if account is None else account.base_wh - account.metered_wh,
            fresh=self._is_fresh(memory.fresh_at),
            sampled_at=memory.fresh_at,
            sampling_period_s=memory.sampling_period_s,
            judged=memory.judged,
            watched=memory.watched,
        )

    async def look_due(self) -> int:
        """Look at the circuits at which a schedule's boundary has come; return how many."""
        now = self._clock.now()
        due = sorted(circuit_id for circuit_id, at in self._due_at.items() if at <= now)
        for start in range(0, len(due), DUE_CHUNK):
            chunk = set(due[start : start + DUE_CHUNK])
            await self._look_at_chunk(chunk)
        return len(due)

    async def sweep(self) -> None:
        """Look at everything: what a lost hint, a missed timer or a silent module left undone.

        Intents are taken between the chunks: who has just paid waits for one of them, not for a whole campus.
        """
        ids = sorted(self._memories)
        for start in range(0, len(ids), SWEEP_CHUNK):
            chunk = set(ids[start : start + SWEEP_CHUNK])
            await self._look_at_chunk(chunk)
            while await self.handle_intents():
                pass
        await self.run_on_writer(self._ask_again)
        await self._contacts.sweep(
            [
                Cut(circuit_id=circuit_id, at=memory.cut_due_at)
                for circuit_id, memory in self._memories.items()
                if memory.cut_due_at is not None
            ]
        )

    def _ask_again(self) -> None:
        now = self._clock.now()
        with self._books.write() as connection:
            books_control.ask_again(connection, now)

    async def _look_at_chunk(self, circuit_ids: set[str]) -> None:
        async with self.turn:
            self._take_over_looks(await self.run_on_writer(lambda: self._sweep_chunk(circuit_ids)))

    def _take_over_looks(self, found: Sequence[tuple[CircuitMemory, Outcome]]) -> None:
        for memory, outcome in found:
            self._take_over(memory, outcome, judged=False)

    def _sweep_chunk(self, circuit_ids: set[str]) -> list[tuple[CircuitMemory, Outcome]]:
        with self._books.write() as connection:
            return self._look_again(connection, circuit_ids, self._clock.now())

    # --- contact with the field ----------------------------------------------------------------------------

    def reachable(self, memory: CircuitMemory) -> bool:
        """Whether a circuit's module and line are in contact."""
        return self._contacts.reachable(memory)

    def note_module(self, module_id: str, *, online: bool, detail: str = "") -> None:
        """Take note that a module answers again, or no longer; call on transitions."""
        self._contacts.note_module(module_id, online=online, detail=detail)

    def note_line(self, line_id: str, *, online: bool, detail: str = "") -> None:
        """Take note that a line is up again, or down: one alarm, whatever hangs on it."""
        self._contacts.note_line(line_id, online=online, detail=detail)

    def _kick_module(self, module_id: str) -> None:
        for circuit_id in self._by_module.get(module_id, ()):
            if self._memories[circuit_id].seen:
                self.reconciler.kick(circuit_id)

    # --- running -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve wake-ups, intents, timers and the sweep until cancelled."""
        swept_at = self._clock.monotonic()
        while True:
            if self._wake is not None:
                await self._wake.wait(TICK_S)
            else:
                await asyncio.sleep(TICK_S)
            try:
                while await self.handle_intents():
                    pass
                await self.look_due()
                self.reconciler.kick_due()
                if self._clock.monotonic() - swept_at >= SWEEP_S:
                    swept_at = self._clock.monotonic()
                    await self.sweep()
            except Exception:
                # Supervised: the books may be away for a moment; the next tick tries again.
                log.exception("control.tick_failed")

    async def settle(self) -> None:
        """Wait until notes are written and no command is under way."""
        await self._contacts.settle()
        await self.reconciler.settle()

    def run_on_writer(self, function: Callable[[], Result]) -> Awaitable[Result]:
        """Run a function on the one thread that writes the gateway's part of the books."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    def figures(self) -> dict[str, int]:
        """Return how many circuits are in each supply state."""
        counts = dict.fromkeys((state.value for state in SupplyState), 0)
        for memory in self._memories.values():
            counts[memory.state.value] += 1
        return counts
