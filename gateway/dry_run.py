"""What policies would do if they were in force now: decided over the present memory, written nowhere.

A policy is asked as the decider asks it, until it rests, and what it wants is carried out on the facts alone.
The last sample of a circuit is taken as lasting: where a rule counts samples, it is given the same one for many
fast polls, so that a load that is above a new limit shows although its time isn't over yet. A schedule is asked
for now and for its next boundary.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from dormpower.domain.arrears import Remember, Warn
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.policy import ClearAlarm, Latch, LetGo, LookAgain, Place, RaiseAlarm, Wait
from dormpower.domain.shedding import RULE as SHEDDING
from gateway.decisions import MAX_STEPS
from gateway.feeders import Preview
from gateway.policies import CircuitFacts, Decision, Policy, mode_in_force

MAX_ITEMS = 1000
LASTING_POLLS = 120

# What a change does to a circuit, the weightiest first: so many items as are listed are the weightiest.
EFFECTS = (
    "cut",
    "cut_later",
    "release",
    "release_later",
    "warn",
    "wait",
    "alarm",
    "shadow_alarm",
    "shadow_cut",
    "shadow_cut_later",
    "shadow_release",
    "shadow_release_later",
)
_CUTS = frozenset({"cut", "cut_later"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a rule would do to a circuit, and why. `already_off`: another hold keeps it off anyway."""

    circuit_id: str
    rule: str
    effect: str
    at: datetime
    reason: str
    evidence: Mapping[str, Any]
    already_off: bool


@dataclass(slots=True)
class DryRun:
    """Gathers what a change would do, circuit by circuit."""

    at: datetime
    rules: tuple[str, ...]
    stale_after_s: float
    in_shadow: bool = False  # restored and not confirmed: whatever the modes say, nothing would be cut
    circuits: int = 0
    stale: int = 0
    untouched: int = 0
    effects: list[Effect] = field(default_factory=list)

    def add_circuit(self, effects: Iterable[Effect], *, fresh: bool) -> None:
        """Take in what all rules would do to one circuit."""
        found = list(effects)
        self.circuits += 1
        self.stale += not fresh
        self.untouched += not found
        self.effects += found

    def add_effects(self, effects: Iterable[Effect]) -> None:
        """Take in what is decided for all circuits together."""
        touched = {one.circuit_id for one in self.effects}
        found = list(effects)
        self.untouched -= len({one.circuit_id for one in found} - touched)
        self.effects += found

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON values; `circuits` is what an approval has to name."""
        counts = dict.fromkeys(EFFECTS, 0)
        for one in self.effects:
            counts[one.effect] += 1
        listed = sorted(self.effects, key=lambda one: (EFFECTS.index(one.effect), one.circuit_id, one.rule))
        return {
            "circuits": len({one.circuit_id for one in self.effects if one.effect in _CUTS}),
            "counts": {**counts, "nothing": self.untouched},
            "basis": {
                "at": self.at.isoformat(),
                "rules": list(self.rules),
                "circuits": self.circuits,
                "stale": self.stale,
                "stale_after_s": self.stale_after_s,
                "in_shadow": self.in_shadow,
                "power_lasts_polls": LASTING_POLLS,
            },
            "items": [_as_json(one) for one in listed[:MAX_ITEMS]],
            "items_left_out": max(0, len(listed) - MAX_ITEMS),
        }


def _as_json(one: Effect) -> dict[str, Any]:
    return {
        "circuit_id": one.circuit_id,
        "rule": one.rule,
        "effect": one.effect,
        "at": one.at.isoformat(),
        "reason": one.reason,
        "already_off": one.already_off,
        "evidence": {
            name: value
            for name, value in one.evidence.items()
            if name == "causes" or not isinstance(value, list | dict)  # samples stay out: there may be a campus
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A policy at rest: the facts as they would be, all that it decided on the way, and its last word."""

    facts: CircuitFacts
    decided: tuple[Decision, ...]
    last: tuple[Decision, ...]


def effects_on(policy: Policy, facts: CircuitFacts, *, pace_s: float, now: datetime) -> list[Effect]:
    """Return what a policy would do to one circuit now, and at its next boundary.

    `pace_s`: how far samples of a fast poll lie apart, in campus seconds.
    """
    settled = _settle_with_lasting_power(policy, facts, pace_s=pace_s, now=now)
    found = _effects(policy, facts.holds, settled, at=now)
    boundary = min((one.at for one in settled.last if isinstance(one, LookAgain)), default=None)
    if boundary is not None and boundary > now:
        later = settle(policy, settled.facts, now=boundary)
        found += _effects(policy, settled.facts.holds, later, at=boundary, suffix="_later")
    return found


def effects_of_shedding(preview: Preview, *, now: datetime) -> list[Effect]:
    """Return what another shedding policy would do at first."""

    def effect(circuit_id: str, name: str, evidence: Mapping[str, Any]) -> Effect:
        return Effect(
            circuit_id=circuit_id,
            rule=SHEDDING,
            effect=name,
            at=now,
            reason=Reason.SHED.value,
            evidence=evidence,
            already_off=False,  # what is off already is not shed
        )

    found = [
        effect(one.circuit_id, "shadow_release" if one.shadow else "release", {"why": "not_in_force"})
        for one in preview.let_go
    ]
    for shed in () if preview.plan is None else preview.plan.sheds:
        evidence = {
            "why": shed.why.value,
            "feeder_id": shed.feeder_id,
            "demand_w": shed.demand_w,
            "limit_w": shed.limit_w,
            "power_w": shed.power_w,
        }
        shadow = shed.circuit_id in preview.in_shadow
        found.append(effect(shed.circuit_id, "shadow_cut" if shadow else "cut", evidence))
    for restore in () if preview.plan is None else preview.plan.restores:
        evidence = {"why": restore.why.value, "pickup_w": restore.pickup_w}
        shadow = restore.circuit_id in preview.in_shadow
        found.append(effect(restore.circuit_id, "shadow_release" if shadow else "release", evidence))
    return found


def settle(policy: Policy, facts: CircuitFacts, *, now: datetime) -> Settled:
    """Ask a policy until it rests."""
    decided: list[Decision] = []
    for _ in range(MAX_STEPS):
        decisions = tuple(policy.decide(facts, now=now))
        decided += decisions
        after = facts
        for decision in decisions:
            after = _carried_out(policy, after, decision, now=now)
        if after == facts:
            break
        facts = after
    return Settled(facts=facts, decided=tuple(decided), last=decisions)


def _settle_with_lasting_power(policy: Policy, facts: CircuitFacts, *, pace_s: float, now: datetime) -> Settled:
    """Settle, with the last sample again and again for a while where the rule counts samples."""
    sample, at = facts.sample, facts.sampled_at
    if not facts.fresh or sample is None or at is None:
        return settle(policy, facts, now=now)
    facts = replace(facts, sample_is_new=True, sample_is_believed=True)
    decided: tuple[Decision, ...] = ()
    for step in range(LASTING_POLLS):
        then = timedelta(seconds=step * pace_s)
        watched = policy.watch(facts.circuit_id, facts.watched, sample, at + then)
        settled = settle(policy, replace(facts, watched=watched), now=now + then)
        facts, decided = settled.facts, decided + settled.decided
        if not policy.wants_look(watched) or any(isinstance(one, Place) for one in settled.decided):
            break
    return replace(settled, decided=decided)


def _effects(
    policy: Policy, before: tuple[Hold, ...], settled: Settled, *, at: datetime, suffix: str = ""
) -> list[Effect]:
    """Compare the rule's holds before and after; warnings, waits and alarms count where it is enforced."""
    facts = settled.facts
    off_anyway = any(not hold.shadow and hold.placed_by != policy.rule for hold in facts.holds)

    def effect(name: str, evidence: Mapping[str, Any]) -> Effect:
        return Effect(
            circuit_id=facts.circuit_id,
            rule=policy.rule,
            effect=name,
            at=at,
            reason=policy.reason.value,
            evidence=evidence,
            already_off=off_anyway,
        )

    found = []
    for shadow in (False, True):
        had, has = (
            any(hold.placed_by == policy.rule and hold.shadow is shadow for hold in holds)
            for holds in (before, facts.holds)
        )
        if had is not has:
            kind: type[Place | LetGo] = Place if has else LetGo
            decision = next(
                one for one in reversed(settled.decided) if isinstance(one, kind) and one.shadow is shadow
            )
            name = f"{'shadow_' if shadow else ''}{'cut' if has else 'release'}{suffix}"
            found.append(effect(name, decision.evidence))
    if suffix:
        return found
    found += [
        effect("shadow_alarm", {"kind": one.kind.value, **one.evidence})
        for one in settled.decided
        if isinstance(one, RaiseAlarm) and one.shadow
    ]
    if mode_in_force(policy.mode_of(facts.circuit_id), facts) is Enforcement.ENFORCE:
        found += [effect(*told) for one in settled.decided if (told := _without_hold(one)) is not None]
        found += [
            effect("wait", {"why": one.why, "until_at": one.until_at and one.until_at.isoformat()})
            for one in settled.last
            if isinstance(one, Wait)
        ]
    return found


def _without_hold(decision: Decision) -> tuple[str, Mapping[str, Any]] | None:
    if isinstance(decision, Warn):
        evidence = {"number": decision.number, "available_wh": decision.available_wh}
        return "warn", {**evidence, "level": decision.level.value}
    if isinstance(decision, RaiseAlarm) and not decision.shadow:
        return "alarm", {"kind": decision.kind.value, **decision.evidence}
    return None


def _carried_out(policy: Policy, facts: CircuitFacts, decision: Decision, *, now: datetime) -> CircuitFacts:
    holds, alarms = facts.holds, facts.alarms
    match decision:
        case Place():
            hold = Hold(
                hold_id="",
                circuit_id=facts.circuit_id,
                reason=decision.reason,
                placed_at=now,
                placed_by=policy.rule,
                shadow=decision.shadow,
                evidence=decision.evidence,
                expected_release_at=decision.expected_release_at,
            )
            holds = (*holds, hold)
        case LetGo():
            holds = tuple(hold for hold in holds if not _is_meant(policy, decision, hold))
        case Latch():
            holds = tuple(
                replace(hold, expected_release_at=None) if _is_meant(policy, decision, hold) else hold
                for hold in holds
            )
        case Warn() | Remember():
            facts = replace(facts, warnings=decision.warnings)
        case RaiseAlarm(shadow=True):
            facts = replace(facts, shadow_alarms=facts.shadow_alarms | {decision.kind.value})
        case ClearAlarm(shadow=True):
            facts = replace(facts, shadow_alarms=facts.shadow_alarms - {decision.kind.value})
        case RaiseAlarm():
            alarms |= {decision.kind.value}
        case ClearAlarm():
            alarms -= {decision.kind.value}
        case Wait() | LookAgain():
            pass
    return replace(facts, holds=holds, alarms=alarms)


def _is_meant(policy: Policy, decision: LetGo | Latch, hold: Hold) -> bool:
    return (hold.placed_by, hold.reason, hold.shadow) == (policy.rule, decision.reason, decision.shadow)
