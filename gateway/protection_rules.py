"""Overload and prohibited loads as policies of the gateway: each circuit has the values of its place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from dormpower.domain import loadsteps, prohibited, protection
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.loadsteps import NOTHING_SEEN, StepWatch
from dormpower.domain.prohibited import ProhibitedFacts, ProhibitedPolicy
from dormpower.domain.protection import OverCount, OverloadFacts, OverloadPolicy
from dormpower.domain.samples import ChannelSample
from gateway.policies import CircuitFacts, Decision, mode_in_force

PolicyT = TypeVar("PolicyT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(Generic[PolicyT]):
    """A policy's values by circuit, and how the site configured them: what its fingerprint is taken from."""

    by_circuit: Mapping[str, PolicyT]
    configured: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OverloadRule:
    """Overload as a policy of the gateway. It is protection: the breaker never counts it (invariant 24).

    `max_gap_s`: what lies between two samples further apart than this is unknown.
    """

    placed: Placed[OverloadPolicy]
    max_gap_s: float
    rule: str = protection.RULE
    reason: Reason = Reason.OVERLOAD
    counts_when_changed: bool = False

    def described(self) -> Mapping[str, Any]:
        """Return what the site configured."""
        return self.placed.configured

    def mode_of(self, circuit_id: str) -> Enforcement:
        """Return the mode in force for a circuit."""
        policy = self.placed.by_circuit.get(circuit_id)
        return Enforcement.OFF if policy is None else policy.mode

    def quiet(self, available_wh: int) -> bool:  # noqa: ARG002
        """A balance says nothing here."""
        return True

    def watch(self, circuit_id: str, before: object, sample: ChannelSample, at: datetime) -> OverCount | None:
        """Count samples above the limit of this hour."""
        policy = self.placed.by_circuit.get(circuit_id)
        if policy is None or policy.mode is Enforcement.OFF:
            return None
        if before is None and (sample.power_w is None or sample.power_w <= 0):
            return None
        return protection.watch(
            before if isinstance(before, OverCount) else None,
            power_w=sample.power_w,
            at=at,
            limit_w=protection.limit_in_force_w(policy, now=at),
            max_gap_s=self.max_gap_s,
        )

    def wants_look(self, watched: object) -> bool:
        """A circuit above its limit is looked at."""
        return watched is not None

    def freeze(self, watched: object) -> Mapping[str, Any] | None:
        """Keep the count until a trip stands for it; its first samples are enough."""
        if not isinstance(watched, OverCount) or watched.count > protection.KEPT_SAMPLES:
            return None
        return protection.to_json(watched)

    def thaw(self, memory: Mapping[str, Any]) -> OverCount:
        """Take the count back."""
        return protection.from_json(memory)

    def decide(self, facts: CircuitFacts, *, now: datetime) -> Iterable[Decision]:
        """Return the next step, at most one."""
        policy = self.placed.by_circuit.get(facts.circuit_id)
        if policy is None:
            return ()
        decision = protection.decide(
            OverloadFacts(
                over=facts.watched if isinstance(facts.watched, OverCount) else None,
                holds=facts.holds,
                restores=facts.restores,
                fresh=facts.sample_is_new,
            ),
            _in_mode(policy, facts),
            now=now,
        )
        return () if decision is None else (decision,)


@dataclass(frozen=True, slots=True)
class ProhibitedRule:
    """Prohibited loads as a policy of the gateway. A house rule: on probation the breaker counts its cuts."""

    placed: Placed[ProhibitedPolicy]
    rule: str = prohibited.RULE
    reason: Reason = Reason.PROHIBITED
    counts_when_changed: bool = True

    def described(self) -> Mapping[str, Any]:
        """Return what the site configured."""
        return self.placed.configured

    def mode_of(self, circuit_id: str) -> Enforcement:
        """Return the mode in force for a circuit."""
        policy = self.placed.by_circuit.get(circuit_id)
        return Enforcement.OFF if policy is None else policy.mode

    def quiet(self, available_wh: int) -> bool:  # noqa: ARG002
        """A balance says nothing here."""
        return True

    def watch(self, circuit_id: str, before: object, sample: ChannelSample, at: datetime) -> StepWatch | None:
        """Follow the steps of the load."""
        policy = self.placed.by_circuit.get(circuit_id)
        if policy is None or policy.mode is Enforcement.OFF:
            return None
        power = loadsteps.power_sample(sample, at)
        watched = before if isinstance(before, StepWatch) else NOTHING_SEEN
        return watched if power is None else loadsteps.watch(watched, power, policy.rules)

    def wants_look(self, watched: object) -> bool:
        """A resistive load that is on is looked at."""
        return isinstance(watched, StepWatch) and watched.found is not None

    def freeze(self, watched: object) -> Mapping[str, Any] | None:  # noqa: ARG002
        """Keep nothing: a step is judged within the samples of one run."""
        return None

    def thaw(self, memory: Mapping[str, Any]) -> None:
        """Take nothing back."""

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
                alarmed=prohibited.ALARM in facts.alarms,
            ),
            _in_mode(policy, facts),
            now=now,
        )
        return () if decision is None else (decision,)


def _in_mode(policy: Any, facts: CircuitFacts) -> Any:
    mode = mode_in_force(policy.mode, facts)
    return policy if mode is policy.mode else replace(policy, mode=mode)
