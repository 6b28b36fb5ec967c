"""Overload: a circuit above its power limit for its debounce is tripped, and comes back by its own delay.

Theory of operation. Samples above the limit in force are counted while they follow each other without a gap; a
single one is never enough, because a second is the module's business and not the gateway's. At least
`debounce_samples` over at least `debounce_s` give the hold, with the samples, the limit and the sampling period
as evidence. A sample without power says nothing, neither for nor against. A gap longer than `max_gap_s` begins
the count anew: nobody knows what flowed meanwhile.

At night (local hours) another limit may be in force, and the site's night mode (`domain.curfew`) may set a
lower one by its own mode. Samples are therefore counted twice, against the lowest limit that is enforced and
against the lowest that only watches (`OverCounts`). How the trip ends is `domain.restoring`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from dormpower.domain.arrears import CourtesyWindow, parse_window
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.policy import Latch, LetGo, Place, Wait
from dormpower.domain.restoring import Restore, RestorePolicy, planned_release_at, release

RULE = "rule:overload"
LEAST_SAMPLES = 2
KEPT_SAMPLES = 8
OWN_LIMIT = "limit_w"
OWN_NIGHT_LIMIT = "night_limit_w"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadPolicy:
    """Limits in W and campus seconds; `limit_w` None is no limit. Raises ValueError that says what is wrong."""

    zone: ZoneInfo
    limit_w: int | None = None
    night_limit_w: int | None = None
    night: tuple[str, ...] = ()
    debounce_samples: int = LEAST_SAMPLES
    debounce_s: float = 5.0
    restore_after_s: float | None = 300.0
    restores_a_day: int = 3
    module_limit: bool = True
    mode: Enforcement = Enforcement.SHADOW
    windows: tuple[CourtesyWindow, ...] = field(init=False)
    restoring: RestorePolicy = field(init=False)

    def __post_init__(self) -> None:
        """Check what goes together, and read the night's hours once."""
        if self.debounce_samples < LEAST_SAMPLES:
            raise ValueError(f"debounce_samples: expected {LEAST_SAMPLES} or more, got {self.debounce_samples}")
        if self.night_limit_w is not None and not self.night:
            raise ValueError("night: expected the hours of night_limit_w, got nothing")
        object.__setattr__(self, "windows", tuple(parse_window(text) for text in self.night))
        restoring = RestorePolicy(zone=self.zone, delay_s=self.restore_after_s, times_a_day=self.restores_a_day)
        object.__setattr__(self, "restoring", restoring)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverCount:
    """Samples above the limit, without a gap: how many since when, and the newest of them.

    `limit_w` is what the newest was held against, `limit_of` what had set it.
    """

    since_at: datetime
    last_at: datetime
    count: int
    samples: tuple[tuple[datetime, float], ...]
    limit_w: int
    limit_of: str = OWN_LIMIT

    @property
    def lasted_s(self) -> float:
        """From the first sample above the limit to the newest."""
        return (self.last_at - self.since_at).total_seconds()

    @property
    def sampling_period_s(self) -> float | None:
        """The mean distance of the samples; None for a single one."""
        return self.lasted_s / (self.count - 1) if self.count > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverCounts:
    """The counts against what is enforced and against what only watches."""

    enforced: OverCount | None = None
    shadow: OverCount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInForce:
    """A limit in W of some instant, and what has set it: a key of the policy or a rule's name."""

    limit_w: int
    limit_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadFacts:
    """What the rule looks at; `holds` are the circuit's standing ones.

    `fresh`: a sample is of now; `believed`: so much so that it may end a trip.
    """

    over: OverCount | None
    holds: tuple[Hold, ...]
    restores: tuple[Restore, ...]
    fresh: bool
    believed: bool


Decision = Place | LetGo | Latch | Wait


def is_night(policy: OverloadPolicy, *, now: datetime) -> bool:
    """Whether the night's limit is in force."""
    if policy.night_limit_w is None:
        return False
    local = now.astimezone(policy.zone)
    minute = local.hour * 60 + local.minute
    return any(window.holds_at(minute) for window in policy.windows)


def limit_in_force(policy: OverloadPolicy, *, now: datetime) -> LimitInForce | None:
    """Return the policy's own limit of this hour, None where there is none."""
    if is_night(policy, now=now) and policy.night_limit_w is not None:
        return LimitInForce(limit_w=policy.night_limit_w, limit_of=OWN_NIGHT_LIMIT)
    return None if policy.limit_w is None else LimitInForce(limit_w=policy.limit_w, limit_of=OWN_LIMIT)


def watch(
    before: OverCount | None,
    *,
    power_w: float | None,
    at: datetime,
    limit: LimitInForce | None,
    max_gap_s: float,
) -> OverCount | None:
    """Return the count after one more sample; None where nothing is above the limit.

    A sample that is not newer than the last counted one changes nothing, so that the same may come twice.
    """
    if before is not None and (power_w is None or at <= before.last_at):
        return before
    if power_w is None or limit is None or power_w <= limit.limit_w:
        return None
    if before is not None and (at - before.last_at).total_seconds() > max_gap_s:
        before = None
    samples = () if before is None else before.samples
    return OverCount(
        since_at=at if before is None else before.since_at,
        last_at=at,
        count=1 if before is None else before.count + 1,
        samples=(*samples, (at, power_w))[-KEPT_SAMPLES:],
        limit_w=limit.limit_w,
        limit_of=limit.limit_of,
    )


def is_over(over: OverCount | None, policy: OverloadPolicy) -> bool:
    """Whether the debounce is over."""
    return over is not None and over.count >= policy.debounce_samples and over.lasted_s >= policy.debounce_s


def decide(facts: OverloadFacts, policy: OverloadPolicy, *, now: datetime) -> Decision | None:
    """Return the next step for one circuit; None where there is nothing to do."""
    for hold in _own(facts.holds):
        ended = release(hold, policy.restoring, facts.restores, mode=policy.mode, fresh=facts.believed, now=now)
        if ended is not None:
            return ended
    if policy.mode is Enforcement.OFF or facts.over is None:
        return None
    if not facts.fresh or not is_over(facts.over, policy):
        return Wait(why="debounce" if facts.fresh else "no_new_sample")
    shadow = policy.mode is Enforcement.SHADOW
    if any(hold.shadow is shadow for hold in _own(facts.holds)):
        return None
    return Place(
        reason=Reason.OVERLOAD,
        shadow=shadow,
        expected_release_at=planned_release_at(
            policy.restoring, facts.restores, reason=Reason.OVERLOAD, shadow=shadow, now=now
        ),
        evidence=evidence_of(facts.over),
    )


def evidence_of(over: OverCount) -> dict[str, Any]:
    """Return what a trip is based on, as JSON values."""
    return {
        "limit_w": over.limit_w,
        "limit_of": over.limit_of,
        "night": over.limit_of != OWN_LIMIT,
        "samples": [[at.isoformat(), power_w] for at, power_w in over.samples],
        "over_since_at": over.since_at.isoformat(),
        "over_s": over.lasted_s,
        "sample_count": over.count,
        "sampling_period_s": over.sampling_period_s,
    }


def to_json(over: OverCount) -> dict[str, Any]:
    """Return a count as JSON values, to be kept across a restart."""
    return {
        "since_at": over.since_at.isoformat(),
        "last_at": over.last_at.isoformat(),
        "count": over.count,
        "samples": [[at.isoformat(), power_w] for at, power_w in over.samples],
        "limit_w": over.limit_w,
        "limit_of": over.limit_of,
    }


def from_json(written: Mapping[str, Any]) -> OverCount:
    """Return the count that `to_json` wrote."""
    return OverCount(
        since_at=datetime.fromisoformat(written["since_at"]),
        last_at=datetime.fromisoformat(written["last_at"]),
        count=int(written["count"]),
        samples=tuple((datetime.fromisoformat(at), float(power_w)) for at, power_w in written["samples"]),
        limit_w=int(written["limit_w"]),
        limit_of=str(written["limit_of"]),
    )


def _own(holds: Iterable[Hold]) -> list[Hold]:
    return [hold for hold in holds if hold.reason is Reason.OVERLOAD and hold.placed_by == RULE]
