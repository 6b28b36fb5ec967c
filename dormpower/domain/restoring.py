"""How a trip ends by itself: after its delay, on fresh data, at most N times a campus day (invariant 21).

Theory of operation. A trip that may close by itself has a time set (`expected_release_at`). When that is over
and fresh data show that the module is there, the day's closings so far are counted: below N the hold goes, at N
it is latched and stays until maintenance resets it. The count is taken when the closing is due, by the campus
day that it would fall in, so that neither midnight nor a long silence gives a day more than N. When a trip is
placed the same count says whether a time is worth setting, so that people are told the truth from the start.

Trips of all kinds on a circuit share the count: what wears contacts and endangers people is the closing.

A rule in shadow goes the same way with holds that move no relay. One that is latched ends with its campus day,
since nobody resets what did not happen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dormpower.domain.holds import AnyReason, Enforcement, Hold
from dormpower.domain.policy import Latch, LetGo

TIMER_OVER = "self_restore_delay_over"
CLOSED_ITSELF = "module_closed_itself"
OBSERVED_AT = "observed_at"  # in the evidence of a trip: the time of the sample that showed it
# How far back closings have to be known: a campus day has at most 25 hours.
LOOK_BACK_S = 26 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """One closing by a trip's timer; `shadow` for one that moved no relay."""

    at: datetime
    reason: AnyReason
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePolicy:
    """How often a trip ends by itself in a campus day of `zone`, and after how long; None: only by maintenance.

    Raises ValueError for a negative number.
    """

    zone: ZoneInfo
    delay_s: float | None
    times_a_day: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.times_a_day < 0 or (self.delay_s is not None and self.delay_s < 0):
            raise ValueError(
                f"expected a delay and a count of 0 or more, got {self.delay_s} s, {self.times_a_day} a day"
            )


def restores_on_day_of(
    restores: Iterable[Restore], *, at: datetime, zone: ZoneInfo, shadow: bool, reason: AnyReason
) -> int:
    """Count the closings of the campus day of `at`: real ones of all trips, and a shadow rule's own."""
    on = at.astimezone(zone).date()
    return sum(
        one.at.astimezone(zone).date() == on and (not one.shadow or (shadow and one.reason == reason))
        for one in restores
    )


def planned_release_at(
    policy: RestorePolicy, restores: Iterable[Restore], *, reason: AnyReason, shadow: bool, now: datetime
) -> datetime | None:
    """Return when a trip of now ends by itself; None where the day's closings are used up: latched."""
    if policy.delay_s is None:
        return None
    at = now + timedelta(seconds=policy.delay_s)
    used = restores_on_day_of(restores, at=at, zone=policy.zone, shadow=shadow, reason=reason)
    return at if used < policy.times_a_day else None


def closed_itself(
    hold: Hold, policy: RestorePolicy, restores: Iterable[Restore], *, observed_at: datetime, now: datetime
) -> LetGo | Latch | None:
    """Return what becomes of a trip whose relay is closed again without a command of ours, its flag gone.

    From the module's own delay on that was the module, and counts like a closing of ours: beyond the day's
    number the trip is latched, and the relay opened again. Before that it was somebody's hand: None. The module
    counts from its trip, which may have come right after the sample before the one that showed it. Both ends
    are times of samples: how long these waited to be judged would make a module look early.
    """
    if hold.expected_release_at is None or policy.delay_s is None:
        return None
    period_s = float(hold.evidence.get("sampling_period_s") or 0.0)
    seen_at = hold.evidence.get(OBSERVED_AT)
    tripped_at = hold.placed_at if seen_at is None else datetime.fromisoformat(seen_at)
    if observed_at < tripped_at + timedelta(seconds=policy.delay_s - period_s):
        return None
    used = restores_on_day_of(restores, at=now, zone=policy.zone, shadow=hold.shadow, reason=hold.reason)
    evidence = {"cause": CLOSED_ITSELF, "restores_today": used}
    if used >= policy.times_a_day:
        return Latch(reason=hold.reason, shadow=hold.shadow, evidence=evidence)
    return LetGo(reason=hold.reason, shadow=hold.shadow, evidence=evidence)


def release(
    hold: Hold,
    policy: RestorePolicy,
    restores: Iterable[Restore],
    *,
    mode: Enforcement,
    fresh: bool,
    now: datetime,
) -> LetGo | Latch | None:
    """Return what becomes of a rule's standing trip; None where it stays as it is.

    `fresh`: a believed sample of now shows that the module is there. A mode other than the hold's own ends it.
    """
    own_mode = Enforcement.SHADOW if hold.shadow else Enforcement.ENFORCE
    if mode is not own_mode:
        return LetGo(reason=hold.reason, shadow=hold.shadow, evidence={"cause": f"policy_{mode}"})
    if hold.expected_release_at is None:
        if hold.shadow and hold.placed_at.astimezone(policy.zone).date() < now.astimezone(policy.zone).date():
            return LetGo(reason=hold.reason, shadow=True, evidence={"cause": "shadow_day_over"})
        return None
    if now < hold.expected_release_at or not (fresh or hold.shadow):
        return None
    used = restores_on_day_of(restores, at=now, zone=policy.zone, shadow=hold.shadow, reason=hold.reason)
    if used >= policy.times_a_day:
        return Latch(reason=hold.reason, shadow=hold.shadow, evidence={"restores_today": used})
    return LetGo(reason=hold.reason, shadow=hold.shadow, evidence={"cause": TIMER_OVER, "restores_today": used})
