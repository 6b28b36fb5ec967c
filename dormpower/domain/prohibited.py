"""Prohibited loads (恶性负载): a resistive step in a power band gives an alarm or a trip, unless it is allowed.

Theory of operation. `domain.loadsteps` finds steps that look resistive; this rule says what becomes of one. The
band that its ΔP falls into gives the action: nothing, an alarm, or a trip. An allowance of the room that covers
the ΔP (a whitelisted appliance, or a permit until it expires) ends the matter. Nothing tells a kettle from an
allowed heater of the same power: that is what allowances are for.

A step is dealt with once. The hold ends as `domain.restoring` says; where the appliance is still plugged in,
what comes back with the supply is a new step. An alarm without a trip ends when the load has gone; in shadow
it is only put on record.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from dormpower.domain.alarms import AlarmKind
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.loadsteps import LoadStep, StepRules
from dormpower.domain.policy import ClearAlarm, Latch, LetGo, Place, RaiseAlarm, Wait
from dormpower.domain.restoring import Restore, RestorePolicy, planned_release_at, release

RULE = "rule:prohibited"
ALARM = AlarmKind.PROHIBITED_LOAD


class Action(StrEnum):
    """What a step in a band leads to."""

    OFF = "off"
    ALARM = "alarm"
    TRIP = "trip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Steps from `from_w` up to, but not including, `to_w`; None has no end."""

    from_w: float
    to_w: float | None = None
    action: Action = Action.TRIP

    def holds(self, delta_w: float) -> bool:
        """Whether a step falls into it."""
        return self.from_w <= delta_w and (self.to_w is None or delta_w < self.to_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """An appliance that a room may use: steps from `from_w` to `to_w` W, until an instant or for good."""

    appliance: str
    from_w: float
    to_w: float
    until_at: datetime | None = None

    def covers(self, delta_w: float, *, now: datetime) -> bool:
        """Whether a step is this appliance's, and the allowance still stands."""
        return self.from_w <= delta_w <= self.to_w and (self.until_at is None or now < self.until_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProhibitedPolicy:
    """Bands, what looks resistive, and how a trip ends. Raises ValueError that says what is wrong."""

    zone: ZoneInfo
    bands: tuple[Band, ...] = (Band(from_w=500.0),)
    whitelist: tuple[Allowance, ...] = ()
    resistive_from: float = 0.95
    min_samples: int = 2
    persist_s: float = 5.0
    max_gap_s: float = 150.0
    restore_after_s: float | None = 300.0
    restores_a_day: int = 3
    mode: Enforcement = Enforcement.SHADOW
    rules: StepRules = field(init=False)
    restoring: RestorePolicy = field(init=False)

    def __post_init__(self) -> None:
        """Check the bands and prepare what the stream is judged by."""
        if not self.bands:
            raise ValueError("bands: expected at least one, got nothing")
        for band in self.bands:
            if band.to_w is not None and band.to_w <= band.from_w:
                raise ValueError(f"bands: expected from_w below to_w, got {band.from_w:g} and {band.to_w:g}")
        rules = StepRules(
            min_step_w=min(band.from_w for band in self.bands),
            resistive_from=self.resistive_from,
            min_samples=self.min_samples,
            persist_s=self.persist_s,
            max_gap_s=self.max_gap_s,
        )
        object.__setattr__(self, "rules", rules)
        restoring = RestorePolicy(zone=self.zone, delay_s=self.restore_after_s, times_a_day=self.restores_a_day)
        object.__setattr__(self, "restoring", restoring)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProhibitedFacts:
    """What the rule looks at. `found` is a resistive step that is still on; `permits` are the room's.

    `fresh`: a sample is of now; `believed`: so much so that it may end a trip.
    """

    found: LoadStep | None
    permits: tuple[Allowance, ...]
    holds: tuple[Hold, ...]
    restores: tuple[Restore, ...]
    fresh: bool
    believed: bool
    alarmed: bool
    alarmed_in_shadow: bool = False


Decision = Place | LetGo | Latch | RaiseAlarm | ClearAlarm | Wait


def action_for(
    step: LoadStep, policy: ProhibitedPolicy, permits: Iterable[Allowance], *, now: datetime
) -> Action:
    """Return what a step leads to: the first band that holds it says, unless an allowance covers it."""
    if any(one.covers(step.delta_w, now=now) for one in (*policy.whitelist, *permits)):
        return Action.OFF
    return next((band.action for band in policy.bands if band.holds(step.delta_w)), Action.OFF)


def decide(facts: ProhibitedFacts, policy: ProhibitedPolicy, *, now: datetime) -> Decision | None:
    """Return the next step for one circuit; None where there is nothing to do."""
    own = [hold for hold in facts.holds if hold.reason is Reason.PROHIBITED and hold.placed_by == RULE]
    for hold in own:
        ended = release(hold, policy.restoring, facts.restores, mode=policy.mode, fresh=facts.believed, now=now)
        if ended is not None:
            return ended
    found = facts.found
    action = Action.OFF
    if found is not None and policy.mode is not Enforcement.OFF:
        action = action_for(found, policy, facts.permits, now=now)
    shadow = policy.mode is Enforcement.SHADOW
    alarming = action is Action.ALARM and found is not None
    for in_shadow, alarmed in ((False, facts.alarmed), (True, facts.alarmed_in_shadow)):
        if alarmed and not (alarming and in_shadow is shadow):
            return ClearAlarm(kind=ALARM, shadow=in_shadow)
    if alarming and found is not None:
        alarmed = facts.alarmed_in_shadow if shadow else facts.alarmed
        return None if alarmed else RaiseAlarm(kind=ALARM, evidence=_evidence(found, policy), shadow=shadow)
    if found is None or action is not Action.TRIP:
        return None
    return _trip(found, own, facts, policy, now=now)


def _trip(
    found: LoadStep, own: list[Hold], facts: ProhibitedFacts, policy: ProhibitedPolicy, *, now: datetime
) -> Place | Wait | None:
    shadow = policy.mode is Enforcement.SHADOW
    if any(hold.shadow is shadow for hold in own) or _dealt_with(found, facts.restores, shadow=shadow):
        return None
    if not facts.fresh:
        return Wait(why="no_new_sample")
    return Place(
        reason=Reason.PROHIBITED,
        shadow=shadow,
        expected_release_at=planned_release_at(
            policy.restoring, facts.restores, reason=Reason.PROHIBITED, shadow=shadow, now=now
        ),
        evidence=_evidence(found, policy),
    )


def _dealt_with(found: LoadStep, restores: Iterable[Restore], *, shadow: bool) -> bool:
    """Whether this very step was tripped for already: a closing of this rule came after it was found.

    The end of a report closes nothing: once the rule is enforced, what is on still is tripped for.
    """
    return any(
        one.reason is Reason.PROHIBITED and one.at >= found.judged_at and (shadow or not one.shadow)
        for one in restores
    )


def _evidence(found: LoadStep, policy: ProhibitedPolicy) -> dict[str, Any]:
    return {
        **found.evidence(),
        "min_step_w": policy.rules.min_step_w,
        "resistive_from": policy.resistive_from,
    }
