"""Overload and prohibited loads as policies of the gateway: each circuit has the values of its place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any

from dormpower.domain import loadsteps, prohibited, protection
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.loadsteps import NOTHING_SEEN, Level, PowerSample, StepRules, StepWatch
from dormpower.domain.prohibited import ProhibitedFacts, ProhibitedPolicy
from dormpower.domain.protection import OverCounts, OverloadFacts, OverloadPolicy
from dormpower.domain.samples import ChannelSample
from gateway.night_limits import NightLimits, lowest_in_force
from gateway.policies import (
    CircuitFacts,
    Decision,
    Placed,
    in_mode,
    in_shadow_only,
    mode_in_force,
    mode_of_hold,
    strictest,
)
from gateway.steady_rows import Bounds

NO_COUNTS = OverCounts()


@dataclass(frozen=True, slots=True)
class OverloadRule:
    """Overload as a policy of the gateway. It is protection: the breaker never counts it (invariant 24).

    `night` are the site's night limits, each by its own mode: delays and counts are the overload policy's, so a
    night limit may trip where the overload limit only watches. `max_gap_s`: what lies between two samples
    further apart than this is unknown.
    """

    placed: Placed[OverloadPolicy]
    max_gap_s: float
    night: NightLimits | None = None
    rule: str = protection.RULE
    reason: Reason = Reason.OVERLOAD
    counts_when_changed: bool = False
    quiet_above_wh = None  # a balance says nothing here
    lowest_w: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        """Work out each circuit's lowest limit of any hour: the cheap test for the common case."""
        found = {circuit_id: self._lowest_w(circuit_id) for circuit_id in self.placed.by_circuit}
        object.__setattr__(self, "lowest_w", found)

    def described(self) -> Mapping[str, Any]:
        """Return what the site configured."""
        night = {} if self.night is None else {"night_mode": self.night.described()}
        return {**self.placed.configured, **night}

    def mode_of(self, circuit_id: str) -> Enforcement:
        """Return the strictest mode of the limits that a circuit has."""
        return strictest(self._modes(circuit_id))

    def keeps(self, circuit_id: str, hold: Hold, *, shadow_only: bool, now: datetime) -> bool:  # noqa: ARG002
        """Whether one of the circuit's limits has such holds."""
        modes = {in_shadow_only(mode, shadow_only=shadow_only) for mode in self._modes(circuit_id)}
        return mode_of_hold(hold) in modes

    def watch(self, circuit_id: str, before: object, sample: ChannelSample, at: datetime) -> OverCounts | None:
        """Count samples above the limits of this hour: above what is enforced, and above what only watches."""
        lowest_w, power_w = self.lowest_w.get(circuit_id), sample.power_w
        if lowest_w is None or (before is None and (power_w is None or not power_w > lowest_w)):
            return None
        policy = self.placed.by_circuit[circuit_id]
        counts = before if isinstance(before, OverCounts) else NO_COUNTS
        enforced, shadow = (
            protection.watch(
                count,
                power_w=power_w,
                at=at,
                limit=lowest_in_force(policy, self.night, circuit_id, mode, at=at),
                max_gap_s=self.max_gap_s,
            )
            for mode, count in ((Enforcement.ENFORCE, counts.enforced), (Enforcement.SHADOW, counts.shadow))
        )
        return None if enforced is shadow is None else OverCounts(enforced=enforced, shadow=shadow)

    def wants_look(self, watched: object) -> bool:
        """A circuit above its limit is looked at."""
        return watched is not None

    def bounds_of(self, circuit_id: str) -> Bounds:
        """Rest while nothing is above the lowest limit of any hour."""
        return Bounds(below_w=self.lowest_w.get(circuit_id, inf))

    def recent(self, circuit_id: str, watched: object) -> Sequence[PowerSample] | None:  # noqa: ARG002
        """Go by no sample but the one that comes."""
        return () if watched is None else None

    def resting(self, circuit_id: str, recent: tuple[PowerSample, ...]) -> None:
        """Count nothing."""

    def freeze(self, watched: object, own: Sequence[Hold]) -> Mapping[str, Any] | None:
        """Keep each count until a trip of its mode stands for it, however long the debounce is."""
        if not isinstance(watched, OverCounts):
            return None
        stand_for = {hold.shadow for hold in own}
        kept = {
            name: protection.to_json(count)
            for name, count, shadow in (("enforced", watched.enforced, False), ("shadow", watched.shadow, True))
            if count is not None and shadow not in stand_for
        }
        return kept or None

    def begin(self, circuit_id: str, last: ChannelSample, at: datetime) -> None:
        """Begin anew: a count that stood was kept."""

    def thaw(self, memory: Mapping[str, Any]) -> OverCounts:
        """Take the counts back."""
        return OverCounts(
            **{name: protection.from_json(memory[name]) for name in ("enforced", "shadow") if name in memory}
        )

    def carried_over(self, watched: object) -> None:
        """Count anew: the samples so far were above another limit."""

    def decide(self, facts: CircuitFacts, *, now: datetime) -> Iterable[Decision]:
        """Return the next steps: of the hold that is enforced, and of the one that is only recorded."""
        policy = self.placed.by_circuit.get(facts.circuit_id)
        if policy is None:
            return ()
        counts = facts.watched if isinstance(facts.watched, OverCounts) else NO_COUNTS
        modes = self._modes(facts.circuit_id)
        shadow = counts.shadow
        if facts.shadow_only and modes:  # restored books: what would be enforced is recorded
            shadow, modes = counts.enforced or shadow, frozenset({Enforcement.SHADOW})
        decisions = []
        for mode, over in ((Enforcement.ENFORCE, counts.enforced), (Enforcement.SHADOW, shadow)):
            standing = tuple(hold for hold in facts.holds if hold.shadow is (mode is Enforcement.SHADOW))
            kept = mode in modes  # else what stands in this mode ends, and nothing is placed
            decision = protection.decide(
                OverloadFacts(
                    over=over if kept else None,
                    holds=standing,
                    restores=facts.restores,
                    fresh=facts.sample_is_new,
                    believed=facts.sample_is_believed,
                ),
                in_mode(policy, mode if kept else next(iter(modes), Enforcement.OFF)),
                now=now,
            )
            if decision is not None:
                decisions.append(decision)
        return decisions

    def _modes(self, circuit_id: str) -> frozenset[Enforcement]:
        policy = self.placed.by_circuit.get(circuit_id)
        modes = frozenset() if self.night is None else self.night.modes_of(circuit_id)
        return (modes if policy is None else modes | {policy.mode}) - {Enforcement.OFF}

    def _lowest_w(self, circuit_id: str) -> float:
        policy = self.placed.by_circuit[circuit_id]
        limits_w = [] if self.night is None else self.night.limits_w(circuit_id)
        if policy.mode is not Enforcement.OFF:
            limits_w += [one for one in (policy.limit_w, policy.night_limit_w) if one is not None]
        return max(0.0, min(limits_w, default=inf))


@dataclass(frozen=True, slots=True)
class ProhibitedRule:
    """Prohibited loads as a policy of the gateway. A house rule: on probation the breaker counts its cuts."""

    placed: Placed[ProhibitedPolicy]
    rule: str = prohibited.RULE
    reason: Reason = Reason.PROHIBITED
    counts_when_changed: bool = True
    quiet_above_wh = None  # a balance says nothing here
    rules_of: Mapping[str, StepRules] = field(init=False)

    def __post_init__(self) -> None:
        """Work out what counts as a step of each circuit that is watched."""
        found = {
            circuit_id: policy.rules
            for circuit_id, policy in self.placed.by_circuit.items()
            if policy.mode is not Enforcement.OFF
        }
        object.__setattr__(self, "rules_of", found)

    def described(self) -> Mapping[str, Any]:
        """Return what the site configured."""
        return self.placed.configured

    def mode_of(self, circuit_id: str) -> Enforcement:
        """Return the mode in force for a circuit."""
        policy = self.placed.by_circuit.get(circuit_id)
        return Enforcement.OFF if policy is None else policy.mode

    def keeps(self, circuit_id: str, hold: Hold, *, shadow_only: bool, now: datetime) -> bool:  # noqa: ARG002
        """Whether the circuit's mode has such holds."""
        return mode_of_hold(hold) is in_shadow_only(self.mode_of(circuit_id), shadow_only=shadow_only)

    def watch(
        self, circuit_id: str, before: object, sample: ChannelSample, at: datetime
    ) -> StepWatch | Level | None:
        """Follow the steps of the load."""
        rules = self.rules_of.get(circuit_id)
        if rules is None:
            return None
        if isinstance(before, tuple):
            level = loadsteps.still_level(before, sample, at, rules)
            if level is not None:
                return level
            before = loadsteps.watch_of(before)
        watched = before if isinstance(before, StepWatch) else NOTHING_SEEN
        power = loadsteps.power_sample(sample, at)
        if power is not None:
            watched = loadsteps.watch(watched, power, rules)
        return loadsteps.level_of(watched) or watched

    def wants_look(self, watched: object) -> bool:
        """A resistive load that is on is looked at, and a rise, so that it is kept."""
        return isinstance(watched, StepWatch) and (watched.found is not None or bool(watched.rising))

    def bounds_of(self, circuit_id: str) -> Bounds:
        """Rest while the load makes no step."""
        rules = self.rules_of.get(circuit_id)
        return Bounds() if rules is None else Bounds(rise_w=rules.min_step_w, longest_gap=rules.longest_gap)

    def recent(self, circuit_id: str, watched: object) -> Sequence[PowerSample] | None:
        """Go by the latest powers of a level."""
        if circuit_id not in self.rules_of:
            return () if watched is None else None
        powers = loadsteps.watch_of(watched).recent if isinstance(watched, tuple) else ()
        return powers if len(powers) == loadsteps.BEFORE_SAMPLES else None

    def resting(self, circuit_id: str, recent: tuple[PowerSample, ...]) -> Level | None:
        """Take the latest powers for a level."""
        return loadsteps.level_of(StepWatch(recent)) if circuit_id in self.rules_of else None

    def freeze(self, watched: object, own: Sequence[Hold]) -> Mapping[str, Any] | None:
        """Keep a rise under way, and what is on, until a trip stands for it."""
        return loadsteps.to_json(watched) if isinstance(watched, StepWatch) and not own else None

    def thaw(self, memory: Mapping[str, Any]) -> StepWatch:
        """Take it back."""
        return loadsteps.from_json(memory)

    def begin(self, circuit_id: str, last: ChannelSample, at: datetime) -> StepWatch | Level | None:
        """Go on from the level of the last run's last sample: a step since then is one."""
        return self.watch(circuit_id, None, last, at)

    def carried_over(self, watched: object) -> object:
        """Go on with the steps that are still on; the new bands judge them."""
        return watched

    def decide(self, facts: CircuitFacts, *, now: datetime) -> Iterable[Decision]:
        """Return the next step, at most one."""
        policy = self.placed.by_circuit.get(facts.circuit_id)
        if policy is None:
            return ()
        decision = prohibited.decide(
            ProhibitedFacts(
                found=facts.watched.found if isinstance(facts.watched, StepWatch) else None,
                permits=facts.permits,
                holds=facts.holds,
                restores=facts.restores,
                fresh=facts.sample_is_new,
                believed=facts.sample_is_believed,
                alarmed=prohibited.ALARM in facts.alarms,
                alarmed_in_shadow=prohibited.ALARM in facts.shadow_alarms,
            ),
            in_mode(policy, mode_in_force(policy.mode, facts)),
            now=now,
        )
        return () if decision is None else (decision,)
