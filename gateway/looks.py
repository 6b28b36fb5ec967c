"""Looks: what memory knows of every circuit, and what the rules in force say when one is looked at.

A look asks the rules in the caller's transaction (`gateway.decisions`); memory takes the outcome over after its
commit. When to look, and who looks at a time, is `gateway.control`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from math import inf
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from dormpower.books import alarms, openings, shadow, shadow_alarms
from dormpower.clock import Clock
from dormpower.domain import trips
from dormpower.domain.openings import OpeningsPolicy
from dormpower.domain.samples import Observation
from gateway import circuit_alarms
from gateway.control_memory import AccountMemory, CircuitMemory, ControlledCircuit, build
from gateway.decisions import Decider, PaymentPending
from gateway.looking import (
    Look,
    Outcome,
    newly_opened,
    outcome_at_start,
    take_over,
    watch,
    watched_at_start,
    watched_by_rule,
)
from gateway.memory_fill import fill
from gateway.policies import CircuitFacts, Policy, Timed, Watching
from gateway.steady_rows import SteadyRows

FILLED_AT_ONCE = 100  # circuits in one query


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLooks:
    """What a batch of observations brought: the circuits that were in it, and what the looks came to."""

    touched: Sequence[CircuitMemory]
    outcomes: Sequence[tuple[CircuitMemory, Outcome]]


class Looks:
    """See the module's text. Looking belongs to the writer thread, taking over to the event loop's."""

    def __init__(
        self,
        *,
        clock: Clock,
        circuits: Mapping[str, ControlledCircuit],
        policies: Sequence[Policy],
        zone: ZoneInfo,
        stale_after_s: float,
        warning_channels: Sequence[str],
        payment_pending: PaymentPending | None,
        openings_policy: OpeningsPolicy,
        steady: SteadyRows,
    ) -> None:
        self._clock = clock
        self._zone = zone
        self._stale_after_s = stale_after_s
        self._openings_policy = openings_policy
        self._steady = steady
        self.memories = build(circuits.values(), steady)
        self.due_at: dict[str, datetime] = {}  # when a schedule wants a circuit looked at
        self._accounts: dict[str, AccountMemory] = {}
        self._by_module: dict[str, list[str]] = {}
        for circuit in circuits.values():
            self._by_module.setdefault(circuit.module_id, []).append(circuit.circuit_id)
        self._decider_of = partial(
            Decider,
            rooms=len({circuit.room_id for circuit in circuits.values()}),
            stale_after_s=stale_after_s,
            zone=zone,
            payment_pending=payment_pending,
        )
        self._go_by(policies, warning_channels)

    def of_module(self, module_id: str) -> Sequence[str]:
        """Return the circuits that a module serves."""
        return self._by_module.get(module_id, ())

    def _go_by(self, policies: Sequence[Policy], warning_channels: Sequence[str]) -> None:
        self.policies = policies
        self._watchers = [policy for policy in policies if isinstance(policy, Watching)]
        self._quiet_above_wh = max(
            (policy.quiet_above_wh for policy in policies if policy.quiet_above_wh is not None), default=-inf
        )
        self._steady.go_by(self._watchers, quiet_above_wh=self._quiet_above_wh)
        self._timed = [policy for policy in policies if isinstance(policy, Timed)]
        self._decider = self._decider_of(policies=policies, channels=warning_channels)

    def adopt(
        self,
        policies: Sequence[Policy],
        *,
        warning_channels: Sequence[str],
        circuits: Mapping[str, ControlledCircuit],
    ) -> None:
        """Go by other policies from now on; what rules make of the samples goes on as far as it can."""
        shadow_only, watchers_before = self._decider.shadow_only, self._watchers
        before = {policy.rule: policy.described() for policy in self.policies}
        lately = {circuit_id: memory.lately for circuit_id, memory in self.memories.items()}
        self._go_by(policies, warning_channels)
        self._decider.shadow_only = shadow_only
        changed = {policy.rule for policy in self._watchers if policy.described() != before.get(policy.rule)}
        for circuit_id, memory in self.memories.items():
            known = watched_by_rule(watchers_before, lately[circuit_id].watched)
            watched = tuple(
                policy.carried_over(known.get(policy.rule)) if policy.rule in changed else known[policy.rule]
                for policy in self._watchers
            )
            memory.lately = replace(lately[circuit_id], watched=watched)
            memory.circuit = circuits[circuit_id]

    def facts_now(self, connection: Connection, circuit_id: str, policy: Policy) -> CircuitFacts:
        """Return what a policy would look at now, without a new sample: for trying one out. Under `turn`."""
        memory = self.memories[circuit_id]
        look = self._without_sample(memory)
        facts = self._decider.facts(connection, memory, policy, look, outcome_at_start(memory, look))
        return replace(facts, sample=memory.lately.sample, watched=policy.carried_over(facts.watched))

    # --- start ---------------------------------------------------------------------------------------------

    def begin(self, connection: Connection, now: datetime) -> None:
        """Take over everything that the books hold."""
        everything = list(self.memories.values())
        for start in range(0, len(everything), FILLED_AT_ONCE):
            self._fill(connection, everything[start : start + FILLED_AT_ONCE], now, first=True)
        for memory in everything:
            memory.lately = replace(memory.lately, watched=watched_at_start(self._watchers, memory))
        for alarm in alarms.active(connection):
            of_module = self.of_module(alarm.subject_id) if alarm.subject_kind == "module" else []
            for circuit_id in [alarm.subject_id] if alarm.subject_kind == "circuit" else of_module:
                known = self.memories.get(circuit_id)
                if known is not None and circuit_alarms.knows(alarm):
                    known.active_alarms |= {alarm.kind}
        for circuit_id, kinds in shadow_alarms.standing(connection).items():
            if circuit_id in self.memories:
                self.memories[circuit_id].shadow_alarms = kinds
        if self._timed:
            self._load_due(now)

    def _load_due(self, now: datetime) -> None:
        """Note what schedules want of each circuit, so that a boundary passed while nobody ran is made up."""
        for circuit_id, memory in self.memories.items():
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
                self.due_at[circuit_id] = min(found)

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

    # --- looking -------------------------------------------------------------------------------------------

    def at_batch(
        self, connection: Connection, observations: Sequence[Observation], now: datetime
    ) -> BatchLooks:
        """Look at the circuits of a batch. An unchanged observation of a quiet circuit costs no query."""
        token = object()
        touched: list[CircuitMemory] = []
        outcomes: list[tuple[CircuitMemory, Outcome]] = []
        latest: dict[
            str, Outcome
        ] = {}  # a circuit may be in a batch twice: the second look starts from the first
        memories, watchers, quiet_above_wh = self.memories, self._watchers, self._quiet_above_wh
        for observation in observations:
            circuit_id, sample = observation.circuit_id, observation.sample
            memory = memories.get(circuit_id)
            if memory is None:
                continue
            if memory.token is not token:
                memory.begin_batch(token)
                touched.append(memory)
            available_wh = memory.observe(observation)
            wants_look = watch(watchers, memory, sample, observation.at)
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
            look = self._with_sample(memory, observation, available_wh)
            outcome = self._decider.look(connection, memory, look, now, before=before)
            memory.next_judged = outcome.judged
            latest[circuit_id] = outcome
            outcomes.append((memory, outcome))
        self._decider.record_states(connection, latest, now=now)
        opened = newly_opened((memories[one], outcome) for one, outcome in latest.items())
        if opened:
            openings.tell(connection, opened, policy=self._openings_policy, now=now)
        return BatchLooks(touched=touched, outcomes=outcomes)

    def again(
        self, connection: Connection, circuit_ids: set[str], now: datetime
    ) -> list[tuple[CircuitMemory, Outcome]]:
        """Look at circuits anew, with what the books hold now and without a new sample."""
        memories = [self.memories[one] for one in sorted(circuit_ids) if one in self.memories]
        if not memories:
            return []
        self._fill(connection, memories, now)
        found = {
            memory.circuit.circuit_id: self._decider.look(connection, memory, self._without_sample(memory), now)
            for memory in memories
        }
        self._decider.record_states(connection, found, now=now)
        return [(memory, found[memory.circuit.circuit_id]) for memory in memories]

    def _with_sample(self, memory: CircuitMemory, observation: Observation, available_wh: int | None) -> Look:
        fresh_at = observation.at if observation.fresh else memory.before.fresh_at
        return Look(
            available_wh=available_wh,
            fresh=self._is_fresh(fresh_at) if not observation.fresh else True,
            sample=observation.sample,
            observed_at=observation.at,
            sampled_at=fresh_at,
            sampling_period_s=memory.next_sampling_period_s,
            judged=memory.next_judged,
            believed=memory.next_believed,
            watched=watched_by_rule(self._watchers, memory.next_watched),
            # A sample from before a command's end, or while one is under way, says nothing of what it did.
            judges_relay=not memory.outstanding
            and (memory.command_ended_at is None or observation.at > memory.command_ended_at),
        )

    def _without_sample(self, memory: CircuitMemory) -> Look:
        account, seen = memory.account, memory.lately
        return Look(
            available_wh=None if account is None else account.base_wh - account.metered_wh,
            fresh=self._is_fresh(seen.fresh_at),
            sampled_at=seen.fresh_at,
            sampling_period_s=seen.sampling_period_s,
            judged=memory.judged,
            watched=watched_by_rule(self._watchers, seen.watched),
        )

    def is_fresh(self, memory: CircuitMemory) -> bool:
        """Whether an accepted reading of a circuit is within the stale limit."""
        return self._is_fresh(memory.fresh_at)

    def _is_fresh(self, at: datetime | None) -> bool:
        return at is not None and self._clock.now() - at <= timedelta(seconds=self._stale_after_s)

    # --- taking over ---------------------------------------------------------------------------------------

    def take_over(self, memory: CircuitMemory, outcome: Outcome, *, judged: bool) -> None:
        """Let memory know of an outcome that is committed; `judged`: a sample was looked at."""
        take_over(memory, outcome, judged=judged, now=self._clock.now())
        if outcome.look_again_at is None:
            self.due_at.pop(memory.circuit.circuit_id, None)
        else:
            self.due_at[memory.circuit.circuit_id] = outcome.look_again_at
        self.settle(memory.circuit.circuit_id)

    def settle(self, circuit_id: str) -> None:
        """Work out how a circuit's next samples are judged. Under `turn`."""
        memory = self.memories[circuit_id]
        memory.settle_quiet()
        memory.settle_calm()

    def end_batch(self, touched: Sequence[CircuitMemory]) -> list[str]:
        """Let memory know of a batch that is committed; return the circuits that were seen first in it."""
        first_seen = []
        for memory in touched:
            memory.end_batch()
            if memory.next_seen and not memory.seen:
                memory.seen = True
                first_seen.append(memory.circuit.circuit_id)
            memory.settle_calm()
        return first_seen
