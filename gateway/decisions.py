"""Decisions about one circuit, written in the caller's transaction: trips, timers, policies, supply state.

Nothing in memory is changed here. What came of a look is returned as an `Outcome`, which the caller takes over
after its commit, so that a rolled back transaction leaves no trace.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from dormpower.books import control as books_control
from dormpower.books import holds, notices, states
from dormpower.books import trips as books_trips
from dormpower.domain import restoring, trips
from dormpower.domain.arrears import KEPT_SUPPLIED, NO_FRESH_READING, Remember, Warn
from dormpower.domain.holds import RESETTABLE, Enforcement, Reason, supply_state
from dormpower.domain.policy import ClearAlarm, Latch, LetGo, LookAgain, Place, RaiseAlarm, Wait
from dormpower.domain.restoring import Restore, RestorePolicy
from dormpower.domain.units import format_kwh
from gateway import circuit_alarms
from gateway.admission import Admission, base_moved
from gateway.control_memory import CircuitMemory
from gateway.looking import (
    Look,
    Outcome,
    judge_relay,
    keep_watched,
    note_confirmations,
    note_relay,
    outcome_at_start,
    restoring_of,
)
from gateway.policies import CircuitFacts, Decision, Policy

MAX_STEPS = 8  # a policy that has not come to rest after so many is broken

PaymentPending = Callable[[Connection, str], datetime | None]


class Decider:
    """Asks the rules about one circuit and writes what they decide."""

    def __init__(
        self,
        *,
        policies: Sequence[Policy],
        rooms: int,
        stale_after_s: float,
        zone: ZoneInfo,
        channels: Sequence[str] = (),
        payment_pending: PaymentPending | None = None,
    ) -> None:
        self._policies = policies
        self._admission = Admission(policies=policies, rooms=rooms)
        self._stale_after_s = stale_after_s
        self._zone = zone
        self._channels = channels
        self._payment_pending = payment_pending
        self.shadow_only = False  # restored books: kept up by control

    def look(
        self,
        connection: Connection,
        memory: CircuitMemory,
        look: Look,
        now: datetime,
        *,
        before: Outcome | None = None,
    ) -> Outcome:
        """Judge trips, then timers, then each policy until it rests, then the supply state.

        The state is written by `record_states`. `before` is the circuit's outcome of an earlier look in the
        same transaction, its state on record.
        """
        outcome = outcome_at_start(memory, look, before)
        if look.sample is not None and look.judges_relay:
            for finding in judge_relay(memory, look, outcome, zone=self._zone, now=now):
                self._apply(connection, memory, None, finding, outcome, now=now)
            note_relay(connection, memory, look, outcome, now=now)
            note_confirmations(connection, memory, look, outcome, now=now)
        self._let_timers_go(connection, memory, look, outcome, now=now)
        for policy in self._policies:
            self._ask(connection, memory, policy, look, outcome, now=now)
            keep_watched(connection, memory, policy, look, outcome)
        self._note_state(memory, look, outcome, now=now)
        return outcome

    @staticmethod
    def record_states(connection: Connection, outcomes: Mapping[str, Outcome], *, now: datetime) -> None:
        """Put on record the states that looks left due, all at once, and tell the outcomes, by circuit."""
        due = [outcome.state_due for outcome in outcomes.values() if outcome.state_due is not None]
        if not due:
            return
        for circuit_id, state in states.record(connection, due, now=now).items():
            outcomes[circuit_id].state, outcomes[circuit_id].state_due = state, None

    def _let_timers_go(
        self, connection: Connection, memory: CircuitMemory, look: Look, outcome: Outcome, *, now: datetime
    ) -> None:
        """End the module's own trips whose time is over (invariant 21); policies see to theirs."""
        for hold in outcome.holds:
            if hold.placed_by != trips.RULE or hold.shadow or hold.expected_release_at is None:
                continue
            ended = restoring.release(
                hold,
                restoring_of(memory, self._zone) or RestorePolicy(zone=self._zone, delay_s=None, times_a_day=0),
                outcome.restores,
                mode=Enforcement.ENFORCE,
                fresh=look.permits_closing,
                now=now,
            )
            if ended is not None:
                self._apply(connection, memory, None, ended, outcome, now=now)

    def _ask(
        self,
        connection: Connection,
        memory: CircuitMemory,
        policy: Policy,
        look: Look,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> None:
        for _ in range(MAX_STEPS):
            decisions = list(policy.decide(self.facts(connection, memory, policy, look, outcome), now=now))
            acted = [
                self._apply(connection, memory, policy, decision, outcome, now=now) for decision in decisions
            ]
            if not any(acted):
                break
        if policy.reason in outcome.pending_cuts and not any(_is_due(decision) for decision in decisions):
            self._drop_pending(connection, memory.circuit.circuit_id, policy.reason, outcome, now=now)
            outcome.changed = True

    @staticmethod
    def _drop_pending(
        connection: Connection, circuit_id: str, reason: Reason, outcome: Outcome, *, now: datetime
    ) -> None:
        books_control.drop_pending(connection, circuit_id=circuit_id, reason=reason, now=now)
        outcome.pending_cuts = {one: then for one, then in outcome.pending_cuts.items() if one != reason}

    def facts(
        self, connection: Connection, memory: CircuitMemory, policy: Policy, look: Look, outcome: Outcome
    ) -> CircuitFacts:
        """Return what a policy looks at."""
        circuit = memory.circuit
        pending_since = None
        if self._payment_pending is not None and memory.account is not None:
            pending_since = self._payment_pending(connection, memory.account.account_id)
        available_wh = look.available_wh
        if outcome.base_wh is not None and memory.account is not None and available_wh is not None:
            available_wh += outcome.base_wh - memory.account.base_wh
        return CircuitFacts(
            circuit_id=circuit.circuit_id,
            kind=circuit.kind,
            available_wh=available_wh,
            fresh=look.fresh,
            sampled_at=look.sampled_at,
            sampling_period_s=look.sampling_period_s,
            sample=look.sample,
            holds=outcome.holds,
            keep_supply=memory.keep_supply,
            payment_pending_since=pending_since,
            warnings=outcome.warnings,
            sample_is_new=look.sample is not None and look.judges_relay,
            sample_is_believed=look.permits_closing,
            watched=look.watched.get(policy.rule),
            restores=outcome.restores,
            permits=memory.permits,
            alarms=outcome.active_alarms,
            shadow_alarms=outcome.shadow_alarms,
            shadow_only=self.shadow_only,
        )

    def _apply(
        self,
        connection: Connection,
        memory: CircuitMemory,
        policy: Policy | None,
        decision: Decision,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> bool:
        """Write one decision (None: of what the module itself did); True where the policy should look again.

        Each states the sampling period that it had.
        """
        circuit_id = memory.circuit.circuit_id
        match decision:
            case Place():
                return self._place(connection, memory, policy, decision, outcome, now=now)
            case LetGo() | Latch():
                rule = trips.RULE if policy is None else policy.rule
                self._end(connection, circuit_id, rule, decision, outcome, now=now)
            case Warn():
                self._warn(connection, circuit_id, decision, outcome, now=now)
            case Remember():
                books_control.save_warnings(
                    connection, circuit_id=circuit_id, warnings=decision.warnings, now=now
                )
                outcome.warnings = decision.warnings
            case RaiseAlarm() | ClearAlarm():
                circuit_alarms.tell(connection, memory, decision, outcome, now=now)
                return False
            case LookAgain():
                outcome.look_again_at = min(decision.at, outcome.look_again_at or decision.at)
                return False
            case Wait():
                outcome.waits_for_reading |= decision.why == NO_FRESH_READING and self._enforces(
                    policy, circuit_id
                )
                return False
        outcome.changed = True
        return True

    def _enforces(self, policy: Policy | None, circuit_id: str) -> bool:
        return policy is not None and not self.shadow_only and policy.mode_of(circuit_id) is Enforcement.ENFORCE

    def _place(
        self,
        connection: Connection,
        memory: CircuitMemory,
        policy: Policy | None,
        decision: Place,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> bool:
        circuit_id = memory.circuit.circuit_id
        if not memory.circuit.has_relay:
            return False  # metered and never cut
        counted = not decision.shadow and self._admission.counts(connection, decision, policy, now=now)
        if counted:
            if base_moved(connection, memory, outcome):
                return True  # the books know of a payment that memory does not: look again
            if not self._admission.admits(connection, circuit_id, decision, outcome, now=now):
                return False
        holds.place(
            connection,
            circuit_id=circuit_id,
            reason=decision.reason,
            placed_by=trips.RULE if policy is None else policy.rule,
            evidence={"sampling_period_s": outcome.sampling_period_s, **decision.evidence},
            shadow=decision.shadow,
            expected_release_at=decision.expected_release_at,
            counted=counted,
            alarmed=decision.reason is not Reason.OPENED_LOCALLY,  # told of with the others of the batch
            now=now,
        )
        if decision.reason in outcome.pending_cuts:
            self._drop_pending(connection, circuit_id, decision.reason, outcome, now=now)
        outcome.holds = holds.standing(connection, [circuit_id]).get(circuit_id, ())
        outcome.changed = True
        return True

    def _end(
        self,
        connection: Connection,
        circuit_id: str,
        rule: str,
        decision: LetGo | Latch,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> None:
        for hold in outcome.holds:
            if (hold.reason, hold.shadow, hold.placed_by) != (decision.reason, decision.shadow, rule):
                continue
            evidence = {"sampling_period_s": outcome.sampling_period_s, **decision.evidence}
            if isinstance(decision, Latch):
                books_trips.latch(connection, hold=hold, actor=rule, evidence=evidence, now=now)
                continue
            holds.release(connection, hold_id=hold.hold_id, released_by=rule, evidence=evidence, now=now)
            if hold.reason in RESETTABLE and hold.expected_release_at is not None:
                outcome.restores += (Restore(at=now, reason=hold.reason, shadow=hold.shadow),)
        outcome.holds = holds.standing(connection, [circuit_id]).get(circuit_id, ())

    def _warn(
        self, connection: Connection, circuit_id: str, decision: Warn, outcome: Outcome, *, now: datetime
    ) -> None:
        books_control.save_warnings(connection, circuit_id=circuit_id, warnings=decision.warnings, now=now)
        if decision.warnings.mode is Enforcement.ENFORCE:
            notices.queue(
                connection,
                circuit_id=circuit_id,
                channels=self._channels,
                code=f"warning.{decision.level.value}",
                params={"circuit_id": circuit_id, "balance_kwh": format_kwh(decision.available_wh)},
                now=now,
            )
        outcome.warnings = decision.warnings

    def _note_state(self, memory: CircuitMemory, look: Look, outcome: Outcome, *, now: datetime) -> None:
        state = supply_state(
            outcome.holds,
            last_seen_at=look.sampled_at if look.fresh else None,
            now=now,
            stale_after_s=self._stale_after_s,
        )
        if outcome.changed or state is not outcome.state:
            outcome.state_due = states.StateDue(
                circuit_id=memory.circuit.circuit_id,
                holds=outcome.holds,
                cause="contact" if not outcome.changed else "control",
                actor="rule:contact" if not outcome.changed else "rule:control",
                evidence={"relay": None if outcome.judged.relay is None else outcome.judged.relay.value},
            )


def _is_due(decision: Decision) -> bool:
    """Whether a cut that waits for approval is still due, be it that it has to wait for something else too."""
    return isinstance(decision, Place) or (isinstance(decision, Wait) and decision.why != KEPT_SUPPLIED)
