"""A look at one circuit: what is known at its start, what stands at its end, and the relay's part of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from dormpower.books import alarms, confirmations
from dormpower.books import control as books_control
from dormpower.books import policies as books_policies
from dormpower.books.states import StateDue
from dormpower.domain import trips
from dormpower.domain.alarms import AlarmKind
from dormpower.domain.arrears import Warnings
from dormpower.domain.confirming import ReadBack, contradicted, newly_confirmed
from dormpower.domain.holds import Hold, Reason, SupplyState, wanted_relay
from dormpower.domain.restoring import Restore, RestorePolicy
from dormpower.domain.samples import ChannelSample, Relay
from dormpower.domain.trips import Finding, Judged, TripFacts
from gateway.control_memory import CircuitMemory
from gateway.policies import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known at the moment of looking. `judges_relay`: the sample may be judged against the commands.

    `observed_at` is the sample's time, `sampled_at` that of the last accepted register, and `sampling_period_s`
    lies between the last two samples. `believed`: no register since the accepted one was refused.
    """

    available_wh: int | None
    fresh: bool
    sample: ChannelSample | None = None
    observed_at: datetime | None = None
    sampled_at: datetime | None = None
    sampling_period_s: float | None = None
    judged: Judged
    judges_relay: bool = False
    believed: bool = False
    watched: Mapping[str, object] = field(default_factory=dict)

    @property
    def permits_closing(self) -> bool:
        """Whether the sample shows that the module is there and works, so that a trip may end (DESIGN §3.5)."""
        return self.sample is not None and self.judges_relay and self.fresh and self.believed


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What stands after a look, within its transaction."""

    holds: tuple[Hold, ...]
    judged: Judged
    warnings: Warnings
    state: SupplyState
    active_alarms: frozenset[str]
    pending_cuts: Mapping[str, bool]
    restores: tuple[Restore, ...] = ()
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shadow_alarms: frozenset[str] = frozenset()
    base_wh: int | None = None
    look_again_at: datetime | None = None
    sampling_period_s: float | None = None
    waits_for_reading: bool = False  # a cut is due but for that
    changed: bool = False
    state_due: StateDue | None = None  # not on record yet
    noted: dict[str, object] = field(default_factory=dict)  # control point columns that were written


def outcome_at_start(memory: CircuitMemory, look: Look, before: Outcome | None = None) -> Outcome:
    """Return what stands before anything is decided: after `before`, the look that this one follows at once.

    Memory knows of `before` only when its transaction has been taken over.
    """
    if before is not None:
        return replace(
            before,
            judged=look.judged,
            look_again_at=None,
            sampling_period_s=look.sampling_period_s,
            waits_for_reading=False,
            changed=False,
            noted={},
        )
    return Outcome(
        holds=memory.holds,
        judged=look.judged,
        warnings=memory.warnings,
        state=memory.state,
        active_alarms=memory.active_alarms,
        shadow_alarms=memory.shadow_alarms,
        pending_cuts=memory.pending_cuts,
        restores=memory.restores,
        kept=memory.kept,
        sampling_period_s=look.sampling_period_s,
    )


def watch(policies: Sequence[Policy], memory: CircuitMemory, sample: ChannelSample, at: datetime) -> bool:
    """Let the rules see one more sample of the batch; return whether one of them asks for a look."""
    circuit_id = memory.circuit.circuit_id
    after = []
    wants_look = False
    for policy, before in zip(policies, memory.next_watched, strict=True):
        watched = policy.watch(circuit_id, before, sample, at)
        after.append(watched)
        if watched is not None and policy.wants_look(watched):
            wants_look = True
    memory.next_watched = tuple(after)
    return wants_look


def watched_at_start(policies: Sequence[Policy], memory: CircuitMemory) -> tuple[object, ...]:
    """Return what the rules know of the samples of earlier runs, in their order."""
    return tuple(_watched_at_start(policy, memory) for policy in policies)


def _watched_at_start(policy: Policy, memory: CircuitMemory) -> object:
    if policy.rule in memory.kept:
        return policy.thaw(memory.kept[policy.rule])
    observed_at = memory.lately.observed_at
    if memory.earlier is not None and observed_at is not None:
        return policy.begin(memory.circuit.circuit_id, memory.earlier, observed_at)
    return None


def watched_by_rule(policies: Sequence[Policy], watched: Sequence[object]) -> dict[str, object]:
    """Return what each rule makes of the samples, by its name."""
    return {policy.rule: one for policy, one in zip(policies, watched, strict=True)}


def keep_watched(
    connection: Connection, memory: CircuitMemory, policy: Policy, look: Look, outcome: Outcome
) -> None:
    """Write what a rule has to know after a restart, where that has become another thing."""
    if look.sample is None:
        return
    own = [hold for hold in outcome.holds if hold.placed_by == policy.rule]
    kept = policy.freeze(look.watched.get(policy.rule), own)
    if kept == outcome.kept.get(policy.rule):
        return
    books_policies.remember(connection, circuit_id=memory.circuit.circuit_id, rule=policy.rule, memory=kept)
    others = {rule: one for rule, one in outcome.kept.items() if rule != policy.rule}
    outcome.kept = others if kept is None else {**others, policy.rule: kept}


def restoring_of(memory: CircuitMemory, zone: ZoneInfo) -> RestorePolicy | None:
    """Return how the module's own trips end; None where only maintenance ends them."""
    circuit = memory.circuit
    if circuit.self_restore_s is None:
        return None
    return RestorePolicy(zone=zone, delay_s=circuit.self_restore_s, times_a_day=circuit.restores_a_day)


def judge_relay(
    memory: CircuitMemory, look: Look, outcome: Outcome, *, zone: ZoneInfo, now: datetime
) -> Iterable[Finding]:
    """Return what follows from the relay and the flags of a sample; the outcome knows it as judged."""
    if look.sample is None:
        return ()
    facts = TripFacts(
        holds=outcome.holds,
        ours_open=memory.ours_open,
        alarms=outcome.active_alarms,
        meanings=memory.circuit.flag_meanings,
        observed_at=look.observed_at,
        restoring=restoring_of(memory, zone),
        restores=outcome.restores,
    )
    sample = look.sample if memory.circuit.has_relay else replace(look.sample, relay=None)
    outcome.judged, findings = trips.judge(look.judged, sample, facts, now=now)
    return findings


def note_relay(
    connection: Connection, memory: CircuitMemory, look: Look, outcome: Outcome, *, now: datetime
) -> None:
    """Remember across restarts what a relay that moved by itself, or followed at last, means."""
    circuit_id = memory.circuit.circuit_id
    relay = outcome.judged.relay
    if relay is None or not look.judges_relay:
        return
    values: dict[str, object] = {}
    if relay is Relay.OPEN and memory.opened_at is None:
        values["opened_at"] = look.observed_at or now
    elif relay is Relay.CLOSED and (memory.ours_open or memory.opened_at is not None):
        values |= {"opened_at": None, "commanded_relay": Relay.CLOSED.value}
    if memory.failures and relay is wanted_relay(outcome.holds):
        values["failures"] = 0
        alarms.clear_alarm(
            connection, kind=AlarmKind.RELAY_FAILED, subject_kind="circuit", subject_id=circuit_id, now=now
        )
    if values:
        books_control.save(connection, circuit_id=circuit_id, now=now, **values)
        outcome.noted = values


def note_confirmations(
    connection: Connection, memory: CircuitMemory, look: Look, outcome: Outcome, *, now: datetime
) -> None:
    """Keep up which lock-outs and the like are reported open, by a sample that judges the relay.

    A second holder, or one of a circuit that was off already, gets no command of its own: samples confirm too.
    """
    sample = look.sample
    if sample is None or look.observed_at is None or not memory.circuit.has_relay:
        return
    read_back = ReadBack(
        relay=sample.relay,
        drawing=trips.draws(sample) or AlarmKind.OPEN_BUT_DRAWING in outcome.active_alarms,
        read_at=look.observed_at,
    )
    if newly_confirmed(outcome.holds, read_back) or contradicted(outcome.holds, read_back):
        outcome.holds = confirmations.note(
            connection,
            circuit_id=memory.circuit.circuit_id,
            read_back=read_back,
            evidence={"by": "sample", **trips.evidence_of(sample)},
            now=now,
        )


def newly_opened(found: Iterable[tuple[CircuitMemory, Outcome]]) -> list[Hold]:
    """Return the holds of relays that were found open by these looks; nobody was told of them yet."""
    return [
        hold
        for memory, outcome in found
        for hold in outcome.holds
        if hold.reason is Reason.OPENED_LOCALLY
        and not hold.shadow
        and hold.hold_id not in {known.hold_id for known in memory.holds}
    ]


def take_over(memory: CircuitMemory, outcome: Outcome, *, judged: bool, now: datetime) -> None:
    """Let memory know of an outcome that is committed; `judged`: a sample was looked at."""
    memory.set_holds(outcome.holds)
    memory.warnings, memory.state = outcome.warnings, outcome.state
    memory.active_alarms, memory.shadow_alarms = outcome.active_alarms, outcome.shadow_alarms
    memory.restores, memory.kept = outcome.restores, outcome.kept
    memory.pending_cuts = outcome.pending_cuts
    memory.cut_due_at = (memory.cut_due_at or now) if outcome.waits_for_reading else None
    if outcome.base_wh is not None and memory.account is not None:
        memory.account.base_wh = outcome.base_wh
    if judged and not memory.outstanding:
        memory.judged = outcome.judged
        _take_over_relay(memory, outcome)


def _take_over_relay(memory: CircuitMemory, outcome: Outcome) -> None:
    if not outcome.noted:
        return
    if "opened_at" in outcome.noted:
        opened_at = outcome.noted["opened_at"]
        memory.opened_at = opened_at if isinstance(opened_at, datetime) else None
    if "commanded_relay" in outcome.noted:
        memory.ours_open = memory.after_trip_or_shed = False
    if "failures" in outcome.noted:
        memory.failures = 0
        memory.active_alarms -= {"relay_failed"}
    if memory.judged.relay is Relay.CLOSED and not memory.holds:
        memory.after_trip_or_shed = False
