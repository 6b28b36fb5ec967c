"""Arrears: levels of a prepaid balance, two warnings, the cut and the release.

Theory of operation. The policy looks at the available balance and walks one circuit through these steps:

    ok ── low ──▶ first warning ── critical ──▶ second warning ── at the floor, lead over ──▶ hold

Anything that speaks against a cut makes it wait, never vanish: keep-supply, a payment under way (a bounded
wait), the second warning's lead, courtesy hours, no accepted fresh reading (invariant 19). What is used
meanwhile is charged. A balance that rises above a warning's threshold takes that warning back, so the next fall
warns anew. The hold is released as soon as the books show a balance above the floor: that needs no reading, so
a payer is never kept in the dark by a silent module (DESIGN §3.5).

The *floor* is `-overdraft_wh`. Warnings given while the policy ran in shadow told nobody, so they don't count
once it is enforced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.policy import LetGo, Place, Wait

RULE = "rule:arrears"
NO_FRESH_READING = "no_fresh_reading"  # all else asks for the cut
KEPT_SUPPLIED = "keep_supply"  # no cut comes of it while that lasts
_DAY_MINUTES = 24 * 60


class Level(StrEnum):
    """How much is left (CONTRACT: level)."""

    OK = "ok"
    LOW = "low"
    CRITICAL = "critical"
    ARREARS = "arrears"


@dataclass(frozen=True, slots=True, kw_only=True)
class CourtesyWindow:
    """Local hours without cuts, half-open, in minutes after midnight; wraps midnight where from > to."""

    from_minute: int
    to_minute: int

    def holds_at(self, minute: int) -> bool:
        """Whether a local minute of the day lies in the window."""
        if self.from_minute <= self.to_minute:
            return self.from_minute <= minute < self.to_minute
        return minute >= self.from_minute or minute < self.to_minute


def parse_window(text: str) -> CourtesyWindow:
    """Read "23:00-07:00". Raises ValueError that says what was expected."""
    start, dash, end = text.partition("-")
    try:
        if not dash:
            raise ValueError("no dash")
        first, last = time.fromisoformat(start.strip()), time.fromisoformat(end.strip())
    except ValueError as fault:
        raise ValueError(f'expected local hours like "23:00-07:00", got {text!r}') from fault
    return CourtesyWindow(from_minute=first.hour * 60 + first.minute, to_minute=last.hour * 60 + last.minute)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrearsPolicy:
    """Thresholds and times, in Wh and campus seconds. Raises ValueError for thresholds out of order."""

    zone: ZoneInfo
    low_wh: int = 20_000
    critical_wh: int = 5_000
    overdraft_wh: int = 0
    warning_lead_s: int = 43_200
    payment_wait_s: int = 900
    courtesy: tuple[str, ...] = ()
    mode: Enforcement = Enforcement.ENFORCE
    windows: tuple[CourtesyWindow, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Check the order of the thresholds and read the windows once."""
        if not -self.overdraft_wh <= 0 <= self.critical_wh <= self.low_wh:
            raise ValueError(
                "expected overdraft_wh >= 0 and 0 <= critical_wh <= low_wh, got "
                f"overdraft_wh {self.overdraft_wh}, critical_wh {self.critical_wh}, low_wh {self.low_wh}"
            )
        object.__setattr__(self, "windows", tuple(parse_window(text) for text in self.courtesy))

    @property
    def floor_wh(self) -> int:
        """The balance at or below which a cut is due."""
        return -self.overdraft_wh


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnings:
    """Warnings given since the balance was last above their thresholds; `mode` is the one they were given in.

    `deferred` says that a cut was due in courtesy hours and waits for their end.
    """

    first_at: datetime | None = None
    second_at: datetime | None = None
    mode: Enforcement = Enforcement.ENFORCE
    deferred: bool = False


NO_WARNINGS = Warnings()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrearsFacts:
    """What the policy looks at. `fresh`: the register was accepted within the stale limit."""

    available_wh: int
    fresh: bool
    sampled_at: datetime | None = None
    sampling_period_s: float | None = None
    standing: bool = False
    standing_shadow: bool = False
    keep_supply: bool = False
    payment_pending_since: datetime | None = None
    warnings: Warnings = NO_WARNINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Warn:
    """Show warning 1 or 2 on the room's status and queue it to every channel; `warnings` then stands."""

    number: int
    level: Level
    available_wh: int
    warnings: Warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """Nothing for others to see: the record of warnings has become another one."""

    warnings: Warnings


Decision = Place | LetGo | Warn | Remember | Wait | None


def level_of(available_wh: int, policy: ArrearsPolicy) -> Level:
    """Return the level of a balance; exactly on a threshold counts as below it."""
    if available_wh <= 0:
        return Level.ARREARS
    if available_wh <= policy.critical_wh:
        return Level.CRITICAL
    if available_wh <= policy.low_wh:
        return Level.LOW
    return Level.OK


def courtesy_until(policy: ArrearsPolicy, *, now: datetime) -> datetime | None:
    """Return the end of the courtesy hours that `now` lies in (UTC), None outside of them.

    Adjoining or overlapping windows count as one. All day long courtesy gives the instant a day from now.
    """
    local = now.astimezone(policy.zone)
    minute = local.hour * 60 + local.minute
    if not any(window.holds_at(minute) for window in policy.windows):
        return None
    steps = next(
        (
            ahead
            for ahead in range(1, _DAY_MINUTES + 1)
            if not any(window.holds_at((minute + ahead) % _DAY_MINUTES) for window in policy.windows)
        ),
        _DAY_MINUTES,
    )
    # Wall-clock arithmetic, then back to UTC: right also where a clock hour is missed or doubled.
    wall = local.replace(second=0, microsecond=0, tzinfo=None) + timedelta(minutes=steps)
    return wall.replace(tzinfo=policy.zone).astimezone(UTC)


def cut_not_before_at(
    given: Warnings, policy: ArrearsPolicy, *, keep_supply: bool, now: datetime
) -> datetime | None:
    """Return the earliest instant at which a cut could come, `now` where only the balance stands between.

    None where none can be told: no second warning yet, a room that is kept supplied, or nothing is enforced.
    """
    if keep_supply or policy.mode is not Enforcement.ENFORCE or given.second_at is None:
        return None
    if given.mode is not Enforcement.ENFORCE:
        return None
    at = max(given.second_at + timedelta(seconds=policy.warning_lead_s), now)
    return courtesy_until(policy, now=at) or at


# One return for each row of the rule reads better than nested branches.
def decide(facts: ArrearsFacts, policy: ArrearsPolicy, *, now: datetime) -> Decision:  # noqa: PLR0911
    """Return the next step for one circuit; None where there is nothing to do.

    One step at a time: the caller applies it and asks again until the answer is a Wait or None.
    """
    released = _release(facts, policy)
    if released is not None:
        return released
    if policy.mode is Enforcement.OFF:
        return None if facts.warnings == NO_WARNINGS else Remember(warnings=NO_WARNINGS)
    level = level_of(facts.available_wh, policy)
    kept = _kept_warnings(facts, level, policy)
    if kept != facts.warnings:
        return Remember(warnings=kept)
    if facts.standing or facts.standing_shadow:
        return None
    warning = _warning_due(facts, level, policy, now=now)
    if warning is not None:
        return warning
    if facts.available_wh > policy.floor_wh:
        return None
    return _cut_or_wait(facts, policy, now=now)


def _release(facts: ArrearsFacts, policy: ArrearsPolicy) -> LetGo | None:
    paid = facts.available_wh > policy.floor_wh
    over = paid or facts.keep_supply  # never dark for arrears, also not for a cut from before it was kept
    not_paid = KEPT_SUPPLIED if facts.keep_supply else f"policy_{policy.mode}"
    cause = "balance_above_floor" if paid else not_paid
    evidence = {"available_wh": facts.available_wh, "floor_wh": policy.floor_wh, "cause": cause}
    if facts.standing and (over or policy.mode is not Enforcement.ENFORCE):
        return LetGo(reason=Reason.ARREARS, evidence=evidence)
    if facts.standing_shadow and (over or policy.mode is not Enforcement.SHADOW):
        return LetGo(reason=Reason.ARREARS, evidence=evidence, shadow=True)
    return None


def _kept_warnings(facts: ArrearsFacts, level: Level, policy: ArrearsPolicy) -> Warnings:
    given = facts.warnings
    if level is Level.OK or (given.first_at is not None and given.mode is not policy.mode):
        return NO_WARNINGS
    if level is Level.LOW:
        given = replace(given, second_at=None)
    if facts.available_wh > policy.floor_wh:
        given = replace(given, deferred=False)
    return given


def _warning_due(facts: ArrearsFacts, level: Level, policy: ArrearsPolicy, *, now: datetime) -> Warn | None:
    given = facts.warnings
    if level is Level.OK:
        return None
    if given.first_at is None:
        number, then = 1, replace(given, first_at=now, mode=policy.mode)
    elif given.second_at is None and level is not Level.LOW:
        number, then = 2, replace(given, second_at=now)
    else:
        return None
    return Warn(number=number, level=level, available_wh=facts.available_wh, warnings=then)


def _cut_or_wait(  # noqa: PLR0911 - one return for each thing that speaks against a cut
    facts: ArrearsFacts, policy: ArrearsPolicy, *, now: datetime
) -> Place | Wait | Remember:
    if facts.keep_supply:
        return Wait(why=KEPT_SUPPLIED)
    if facts.payment_pending_since is not None:
        until_at = facts.payment_pending_since + timedelta(seconds=policy.payment_wait_s)
        if now < until_at:
            return Wait(why="payment_pending", until_at=until_at)
    if facts.warnings.second_at is None:  # pragma: no cover - decide() has warned before it comes here
        return Wait(why="warnings")
    lead_over_at = facts.warnings.second_at + timedelta(seconds=policy.warning_lead_s)
    if now < lead_over_at:
        return Wait(why="warning_lead", until_at=lead_over_at)
    courteous_until_at = courtesy_until(policy, now=now)
    if courteous_until_at is not None:
        if not facts.warnings.deferred:
            return Remember(warnings=replace(facts.warnings, deferred=True))
        return Wait(why="courtesy", until_at=courteous_until_at)
    if not facts.fresh:
        return Wait(why=NO_FRESH_READING)
    return Place(
        reason=Reason.ARREARS,
        evidence=cut_evidence(facts, policy),
        shadow=policy.mode is Enforcement.SHADOW,
        counts=True,
        deferred=facts.warnings.deferred,
    )


def cut_evidence(facts: ArrearsFacts, policy: ArrearsPolicy) -> Mapping[str, Any]:
    """Return what a cut is based on, as JSON values: balance, sample, sampling period, warnings."""

    def written(at: datetime | None) -> str | None:
        return None if at is None else at.isoformat()

    return {
        "available_wh": facts.available_wh,
        "floor_wh": policy.floor_wh,
        "sampled_at": written(facts.sampled_at),
        "sampling_period_s": facts.sampling_period_s,
        "first_warning_at": written(facts.warnings.first_at),
        "second_warning_at": written(facts.warnings.second_at),
    }
