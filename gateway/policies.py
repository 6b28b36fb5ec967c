"""The gateway's control policies. A new one is a file of rules and one line in `build_policies`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from dormpower.domain import arrears
from dormpower.domain.arrears import ArrearsFacts, ArrearsPolicy, Remember, Warn, Warnings
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.policy import ClearAlarm, LetGo, Place, RaiseAlarm, Wait
from dormpower.domain.samples import ChannelSample

Decision = Place | LetGo | RaiseAlarm | ClearAlarm | Warn | Remember | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitFacts:
    """What a policy may look at for one circuit. `available_wh` is None for a circuit without an account.

    `sample` is None when the circuit is looked at without a new sample. `fresh` says that an accepted register
    is within the stale limit.
    """

    circuit_id: str
    kind: str
    available_wh: int | None
    fresh: bool
    sampled_at: datetime | None
    sampling_period_s: float | None
    sample: ChannelSample | None
    holds: tuple[Hold, ...]
    keep_supply: bool
    payment_pending_since: datetime | None
    warnings: Warnings
    shadow_only: bool = False  # restored books that nobody has confirmed yet: no policy opens a relay


class Policy(Protocol):
    """One rule: looks at facts, proposes to place or release its own holds. Pure; asked until it waits."""

    @property
    def rule(self) -> str:
        """Who its holds are placed by: "rule:NAME"."""

    @property
    def reason(self) -> Reason:
        """What its holds say."""

    def quiet(self, available_wh: int) -> bool:
        """Whether a balance alone says that there is nothing to decide: the cheap test for the common case."""

    def decide(self, facts: CircuitFacts, *, now: datetime) -> Iterable[Decision]:
        """Return what to do now."""


@dataclass(frozen=True, slots=True)
class ArrearsRule:
    """Arrears as a policy of the gateway."""

    policy: ArrearsPolicy
    rule: str = arrears.RULE
    reason: Reason = Reason.ARREARS

    def quiet(self, available_wh: int) -> bool:
        """Above the first warning's threshold there is nothing to decide."""
        return available_wh > self.policy.low_wh

    def decide(self, facts: CircuitFacts, *, now: datetime) -> Iterable[Decision]:
        """Return the next step, at most one."""
        if facts.available_wh is None:
            return ()
        policy = self.policy
        if facts.shadow_only and policy.mode is Enforcement.ENFORCE:
            policy = replace(policy, mode=Enforcement.SHADOW)
        mine = [hold for hold in facts.holds if hold.reason is Reason.ARREARS]
        decision = arrears.decide(
            ArrearsFacts(
                available_wh=facts.available_wh,
                fresh=facts.fresh,
                sampled_at=facts.sampled_at,
                sampling_period_s=facts.sampling_period_s,
                standing=any(not hold.shadow for hold in mine),
                standing_shadow=any(hold.shadow for hold in mine),
                keep_supply=facts.keep_supply,
                payment_pending_since=facts.payment_pending_since,
                warnings=facts.warnings,
            ),
            policy,
            now=now,
        )
        return () if decision is None else (decision,)


def build_policies(*, arrears_policy: ArrearsPolicy) -> Sequence[Policy]:
    """Return the policies in the order in which they are asked."""
    return (ArrearsRule(arrears_policy),)
