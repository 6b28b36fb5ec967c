"""Decisions about one circuit, written in the caller's transaction: trips, timers, policies, supply state.

Nothing in memory is changed here. What came of a look is returned as an `Outcome`, which the caller takes over
after its commit, so that a rolled back transaction leaves no trace.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from dormpower.books import accounts as books_accounts
from dormpower.books import alarms, holds, notices, states
from dormpower.books import control as books_control
from dormpower.domain import breaker, trips
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.arrears import Remember, Warn, Warnings
from dormpower.domain.holds import Enforcement, Hold, Reason, SupplyState, supply_state, wanted_relay
from dormpower.domain.policy import ClearAlarm, LetGo, Place, RaiseAlarm, Wait
from dormpower.domain.samples import ChannelSample, Relay
from dormpower.domain.trips import Judged, TripFacts
from dormpower.domain.units import format_kwh
from gateway.control_memory import CircuitMemory
from gateway.policies import CircuitFacts, Decision, Policy

MAX_STEPS = 8  # a policy that has not come to rest after so many is broken

PaymentPending = Callable[[Connection, str], datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known at the moment of looking. `judges_relay`: the sample may be judged against the commands."""

    available_wh: int | None
    fresh: bool
    sample: ChannelSample | None = None
    sampled_at: datetime | None = None
    sampling_period_s: float | None = None
    judged: Judged
    judges_relay: bool = False


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What stands after a look, within its transaction."""

    holds: tuple[Hold, ...]
    judged: Judged
    warnings: Warnings
    state: SupplyState
    active_alarms: frozenset[str]
    pending_cut: str | None
    cut_approved: bool
    base_wh: int | None = None
    changed: bool = False
    noted: dict[str, object] = field(default_factory=dict)  # control point columns that were written


class Decider:
    """Asks the rules about one circuit and writes what they decide."""

    def __init__(
        self,
        *,
        policies: Sequence[Policy],
        rooms: int,
        stale_after_s: float,
        channels: Sequence[str] = (),
        payment_pending: PaymentPending | None = None,
    ) -> None:
        self._policies = policies
        self._rooms = rooms
        self._stale_after_s = stale_after_s
        self._channels = channels
        self._payment_pending = payment_pending
        self.shadow_only = False  # restored books: kept up by control

    def look(self, connection: Connection, memory: CircuitMemory, look: Look, now: datetime) -> Outcome:
        """Judge trips, then timers, then each policy until it rests, then the supply state."""
        outcome = Outcome(
            holds=memory.holds,
            judged=look.judged,
            warnings=memory.warnings,
            state=memory.state,
            active_alarms=memory.active_alarms,
            pending_cut=memory.pending_cut,
            cut_approved=memory.cut_approved,
        )
        if look.sample is not None and look.judges_relay:
            self._judge_relay(connection, memory, look, outcome, now=now)
        self._let_timers_go(connection, memory, look, outcome, now=now)
        for policy in self._policies:
            self._ask(connection, memory, policy, look, outcome, now=now)
        self._record_state(connection, memory, look, outcome, now=now)
        return outcome

    def _judge_relay(
        self, connection: Connection, memory: CircuitMemory, look: Look, outcome: Outcome, *, now: datetime
    ) -> None:
        if look.sample is None:
            return
        facts = TripFacts(
            wanted=wanted_relay(outcome.holds),
            ours_open=memory.ours_open,
            self_restore_s=memory.circuit.self_restore_s,
            trips_at=memory.trips_at,
        )
        sample = look.sample if memory.circuit.has_relay else replace(look.sample, relay=None)
        outcome.judged, findings = trips.judge(look.judged, sample, facts, now=now)
        for finding in findings:
            self._apply(connection, memory, trips.RULE, finding, outcome, now=now)
        self._note_relay(connection, memory, look, outcome, now=now)

    def _note_relay(
        self, connection: Connection, memory: CircuitMemory, look: Look, outcome: Outcome, *, now: datetime
    ) -> None:
        """Remember across restarts what a relay that moved by itself, or followed at last, means."""
        circuit_id = memory.circuit.circuit_id
        relay = outcome.judged.relay
        if relay is None or not look.judges_relay:
            return
        values: dict[str, object] = {}
        if relay is Relay.OPEN and memory.opened_at is None:
            values["opened_at"] = look.sampled_at or now
        elif relay is Relay.CLOSED and (memory.ours_open or memory.opened_at is not None):
            values |= {"opened_at": None, "commanded_relay": Relay.CLOSED.value}
        if memory.failures and relay is wanted_relay(outcome.holds):
            values["failures"] = 0
            alarms.clear_alarm(
                connection,
                kind=AlarmKind.RELAY_FAILED,
                subject_kind="circuit",
                subject_id=circuit_id,
                now=now,
            )
        if values:
            books_control.save(connection, circuit_id=circuit_id, now=now, **values)
            outcome.noted = values

    def _let_timers_go(
        self, connection: Connection, memory: CircuitMemory, look: Look, outcome: Outcome, *, now: datetime
    ) -> None:
        for hold in outcome.holds:
            if hold.placed_by == trips.RULE and trips.self_restore_due(
                expected_release_at=hold.expected_release_at,
                fresh=look.sample is not None and look.judges_relay,
                now=now,
            ):
                self._apply(connection, memory, trips.RULE, trips.let_go(hold.reason), outcome, now=now)

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
            decisions = list(policy.decide(self._facts(connection, memory, look, outcome), now=now))
            acted = [
                self._apply(connection, memory, policy.rule, decision, outcome, now=now)
                for decision in decisions
            ]
            if not any(acted):
                break
        if outcome.pending_cut == policy.reason and not any(_is_due(decision) for decision in decisions):
            books_control.drop_pending(
                connection, circuit_id=memory.circuit.circuit_id, reason=policy.reason, now=now
            )
            outcome.pending_cut, outcome.cut_approved = None, False
            outcome.changed = True

    def _facts(
        self, connection: Connection, memory: CircuitMemory, look: Look, outcome: Outcome
    ) -> CircuitFacts:
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
            shadow_only=self.shadow_only,
        )

    def _apply(
        self,
        connection: Connection,
        memory: CircuitMemory,
        rule: str,
        decision: Decision,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> bool:
        """Write one decision; True where it changed something that the policy should look at again."""
        circuit_id = memory.circuit.circuit_id
        match decision:
            case Place():
                return self._place(connection, memory, rule, decision, outcome, now=now)
            case LetGo():
                self._let_go(connection, circuit_id, rule, decision, outcome, now=now)
            case Warn():
                self._warn(connection, circuit_id, decision, outcome, now=now)
            case Remember():
                books_control.save_warnings(
                    connection, circuit_id=circuit_id, warnings=decision.warnings, now=now
                )
                outcome.warnings = decision.warnings
            case RaiseAlarm() | ClearAlarm():
                self._tell(connection, circuit_id, decision, outcome, now=now)
                return False
            case Wait():
                return False
        outcome.changed = True
        return True

    def _place(
        self,
        connection: Connection,
        memory: CircuitMemory,
        rule: str,
        decision: Place,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> bool:
        circuit_id = memory.circuit.circuit_id
        if not memory.circuit.has_relay:
            return False  # metered and never cut
        if decision.counts and not decision.shadow:
            if self._base_moved(connection, memory, outcome):
                return True  # the books know of a payment that memory does not: look again
            if not self._admitted(connection, circuit_id, decision, outcome, now=now):
                return False
        holds.place(
            connection,
            circuit_id=circuit_id,
            reason=decision.reason,
            placed_by=rule,
            evidence=decision.evidence,
            shadow=decision.shadow,
            expected_release_at=decision.expected_release_at,
            now=now,
        )
        if outcome.pending_cut == decision.reason:
            books_control.drop_pending(connection, circuit_id=circuit_id, reason=decision.reason, now=now)
            outcome.pending_cut, outcome.cut_approved = None, False
        outcome.holds = holds.standing(connection, [circuit_id]).get(circuit_id, ())
        outcome.changed = True
        return True

    def _base_moved(self, connection: Connection, memory: CircuitMemory, outcome: Outcome) -> bool:
        account = memory.account
        if account is None:
            return False
        base_wh = books_accounts.base_wh(connection, [account.account_id])[account.account_id]
        known_wh = account.base_wh if outcome.base_wh is None else outcome.base_wh
        outcome.base_wh = base_wh
        return bool(base_wh != known_wh)

    def _admitted(
        self,
        connection: Connection,
        circuit_id: str,
        decision: Place,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> bool:
        """Ask the breaker (invariant 24)."""
        if outcome.cut_approved and outcome.pending_cut == decision.reason:
            return True
        if outcome.pending_cut == decision.reason:
            return False
        judgement = breaker.judge(
            cuts_at=holds.placed_times(
                connection, reason=decision.reason, since=now - timedelta(seconds=breaker.WINDOW_S)
            ),
            rooms=self._rooms,
            waiting=sum(cut.approved_at is None for cut in books_control.pending(connection)),
            deferred=decision.deferred,
            now=now,
        )
        if judgement.verdict is breaker.Verdict.PENDING_APPROVAL:
            books_control.pend_cut(
                connection,
                circuit_id=circuit_id,
                reason=decision.reason,
                evidence=decision.evidence,
                now=now,
            )
            outcome.pending_cut = decision.reason.value
            outcome.changed = True
        return judgement.verdict is breaker.Verdict.ADMITTED

    def _let_go(
        self,
        connection: Connection,
        circuit_id: str,
        rule: str,
        decision: LetGo,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> None:
        for hold in outcome.holds:
            if (hold.reason, hold.shadow, hold.placed_by) == (decision.reason, decision.shadow, rule):
                holds.release(
                    connection, hold_id=hold.hold_id, released_by=rule, evidence=decision.evidence, now=now
                )
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

    def _tell(
        self,
        connection: Connection,
        circuit_id: str,
        decision: RaiseAlarm | ClearAlarm,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> None:
        kind: AlarmKind = decision.kind
        if isinstance(decision, RaiseAlarm):
            if kind in outcome.active_alarms:
                return
            alarms.raise_alarm(
                connection,
                kind=kind,
                priority=PRIORITIES[kind],
                subject_kind="circuit",
                subject_id=circuit_id,
                circuit_id=circuit_id,
                detail=dict(decision.evidence),
                now=now,
            )
            outcome.active_alarms |= {kind.value}
        else:
            if kind not in outcome.active_alarms:
                return
            alarms.clear_alarm(connection, kind=kind, subject_kind="circuit", subject_id=circuit_id, now=now)
            outcome.active_alarms -= {kind.value}
        outcome.changed = True

    def _record_state(
        self, connection: Connection, memory: CircuitMemory, look: Look, outcome: Outcome, *, now: datetime
    ) -> None:
        state = supply_state(
            outcome.holds,
            last_seen_at=look.sampled_at if look.fresh else None,
            now=now,
            stale_after_s=self._stale_after_s,
        )
        if outcome.changed or state is not outcome.state:
            outcome.state = states.record(
                connection,
                circuit_id=memory.circuit.circuit_id,
                holds=outcome.holds,
                cause="contact" if not outcome.changed else "control",
                actor="rule:contact" if not outcome.changed else "rule:control",
                evidence={"relay": None if outcome.judged.relay is None else outcome.judged.relay.value},
                now=now,
            )


def _is_due(decision: Decision) -> bool:
    """Whether a cut that waits for approval is still due, be it that it has to wait for something else too."""
    return isinstance(decision, Place | Wait)


def confirms_lockout(memory: CircuitMemory, holds_now: Iterable[Hold], relay: Relay | None) -> bool:
    """Whether a read-back open confirms a lock-out: not while current flows through the open relay."""
    return (
        relay is Relay.OPEN
        and AlarmKind.OPEN_BUT_DRAWING not in memory.active_alarms
        and any(hold.reason is Reason.LOCKOUT and hold.confirmed_open_at is None for hold in holds_now)
    )
