"""A circuit's meter state: the value that `metering.judge` and `spans` take one step further.

Metered energy grows in two places: `stepped` for the plain step that nearly every sample is, `advance` for
every other.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from dormpower.domain.days import CampusDays
from dormpower.domain.segments import Boundary, Cause, Mark, OpenSegment, Segment, Step, cut_step
from dormpower.domain.units import InvariantViolationError

Value = TypeVar("Value")

PLAUSIBLE_VOLTAGE_V = 250
_MILLISECOND = timedelta(milliseconds=1)
# 1.1 × W × ms → Wh as one exact division: × 11 / (10 × 3600 s × 1000 ms).
WH_DIVISOR = 36_000_000


class Standing(StrEnum):
    """How far a channel's register is believed."""

    COMMISSIONING = "commissioning"
    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"


class Outcome(StrEnum):
    """What a sample's register did."""

    ACCEPTED = "accepted"
    UNCHANGED = "unchanged"  # accepted, no energy
    COMMISSIONING = "commissioning"
    COMMISSIONED = "commissioned"
    LATE = "late"
    ROLLOVER = "rollover"
    QUARANTINED = "quarantined"  # by this sample
    STILL_QUARANTINED = "still_quarantined"
    RETURNED = "returned"  # accepted, and the quarantine is over
    AHEAD_OF_CLOCK = "ahead_of_clock"  # refused


class Reason(StrEnum):
    """Why a register was quarantined."""

    STEP_TOO_LARGE = "step_too_large"
    REGISTER_FELL = "register_fell"


class Decision(StrEnum):
    """What a person decided on a quarantine."""

    ACCEPTED = "accepted"  # the register was right: charge the step
    DISMISSED = "dismissed"  # charge nothing, go on from the register that is there now
    ESTIMATED = "estimated"  # charge an estimate, go on from the register that is there now


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLimits:
    """What a channel can plausibly do: from the room (rated current) and the module's profile.

    `modulus_wh` is where the register starts again at zero, None where that isn't known. `slack_ms` is added to
    the time between samples where a module has no clock and its samples are stamped on arrival.
    """

    rated_current_a: int
    resolution_wh: int
    modulus_wh: int | None = None
    phases: int = 1
    slack_ms: int = 0

    def largest_step_wh(self, elapsed: timedelta) -> int:
        """Return the largest believable step: rated current × 250 V × time × 1.1 + one resolution step."""
        elapsed_ms = elapsed // _MILLISECOND + self.slack_ms
        plausible_power_w = self.rated_current_a * PLAUSIBLE_VOLTAGE_V * self.phases
        return plausible_power_w * elapsed_ms * 11 // WH_DIVISOR + self.resolution_wh

    def believes(self, step_wh: int, elapsed: timedelta) -> bool:
        """Whether a step forward is believable; one within the resolution is, whatever the time."""
        return step_wh >= 0 and (step_wh <= self.resolution_wh or step_wh <= self.largest_step_wh(elapsed))

    def rollover_wh(self, *, from_wh: int, to_wh: int, elapsed: timedelta) -> int | None:
        """Return the energy of a plausible rollover; None where the register fell for another reason."""
        if self.modulus_wh is None or not 0 <= to_wh < from_wh < self.modulus_wh:
            return None
        energy_wh = to_wh - from_wh + self.modulus_wh
        return energy_wh if energy_wh <= self.largest_step_wh(elapsed) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteringRules:
    """What is the same for all channels of a site.

    `boundary_within` is how old a register may be at midnight to be the one in force (two poll cycles, campus
    time); `ahead` how far after `now` a sample's time may be.
    """

    days: CampusDays
    boundary_within: timedelta
    ahead: timedelta = timedelta(minutes=5)


@dataclass(slots=True)
class MeterState:
    """Where a circuit's metering stands. A value: replaced, never changed (not frozen, for speed of making).

    The order of the fields is for `stepped`, which fills them in a row; others name them.

    `day_ends_at` is the end of `open_on`, the campus day of the position. `joins` is set while a new span is in
    commissioning after an old one: the cause of the step that will lead to its first register. `candidates` are
    (at, register_wh) in order of time.
    """

    span_id: int
    standing: Standing = Standing.COMMISSIONING
    register_wh: int = 0
    register_at: datetime | None = None
    metered_wh: int = 0
    segment_from_wh: int = 0
    segment_from_at: datetime | None = None
    open_on: date | None = None
    day_ends_at: datetime | None = None
    joins: Cause | None = None
    candidates: tuple[tuple[datetime, int], ...] = ()
    quarantined_at: datetime | None = None
    suspect_register_wh: int | None = None
    suspect_at: datetime | None = None
    suspect_run: int = 0


@dataclass(slots=True, kw_only=True)
class Judgement:
    """A sample's outcome, the state after it, and the rows that it adds."""

    state: MeterState
    outcome: Outcome
    segments: tuple[Segment, ...] = ()
    boundaries: tuple[Boundary, ...] = ()
    reason: Reason | None = None


def known(value: Value | None) -> Value:
    """Return what a state must hold in its standing; a state without it is broken."""
    if value is None:
        raise InvariantViolationError("a meter state lacks what its standing needs")
    return value


def without_suspects(state: MeterState) -> MeterState:
    """Return the state with its position believed again and nothing pending."""
    return replace(
        state,
        standing=Standing.ACCEPTED,
        joins=None,
        candidates=(),
        quarantined_at=None,
        suspect_register_wh=None,
        suspect_at=None,
        suspect_run=0,
    )


def start_at(state: MeterState, *, register_wh: int, at: datetime, rules: MeteringRules) -> MeterState:
    """Return the state standing on a first register, which charges nothing."""
    open_on = rules.days.day_of(at)
    return MeterState(
        span_id=state.span_id,
        standing=Standing.ACCEPTED,
        register_wh=register_wh,
        register_at=at,
        metered_wh=state.metered_wh,
        segment_from_wh=register_wh,
        segment_from_at=at,
        open_on=open_on,
        day_ends_at=rules.days.end_of(open_on),
    )


def stepped(
    state: MeterState, *, register_wh: int, at: datetime, not_after: datetime, limits: ChannelLimits
) -> MeterState | None:
    """Return the state after a plain step: a believed register, a believable step, the same campus day.

    None for every other sample, among them one from after `not_after`. No rows belong to a plain step. Nearly
    every sample is one, so this is kept short; `metering.judge` sees to the others.
    """
    position_at, day_ends_at = state.register_at, state.day_ends_at
    if (
        state.standing is not Standing.ACCEPTED
        or position_at is None
        or day_ends_at is None
        or not position_at < at < day_ends_at
        or at > not_after
    ):
        return None
    step_wh = register_wh - state.register_wh
    # Within the resolution, as nearly all are, the time needs no look.
    if not 0 <= step_wh <= limits.resolution_wh and not limits.believes(step_wh, at - position_at):
        return None
    return MeterState(
        state.span_id,
        Standing.ACCEPTED,
        register_wh,
        at,
        state.metered_wh + step_wh,
        state.segment_from_wh,
        state.segment_from_at,
        state.open_on,
        day_ends_at,
    )


def advance(
    state: MeterState,
    *,
    register_wh: int,
    at: datetime,
    energy_wh: int,
    outcome: Outcome,
    rules: MeteringRules,
    cause: Cause = Cause.MEASURED,
) -> Judgement:
    """Move the position, cutting the step where a day or a cause ends."""
    metered_wh = state.metered_wh + energy_wh
    cut = cut_step(
        Step(
            span_id=state.span_id,
            before=Mark(
                at=known(state.register_at), register_wh=state.register_wh, metered_wh=state.metered_wh
            ),
            after=Mark(at=at, register_wh=register_wh, metered_wh=metered_wh),
            cause=cause,
        ),
        opened=OpenSegment(
            from_at=known(state.segment_from_at),
            from_register_wh=state.segment_from_wh,
            open_on=known(state.open_on),
        ),
        days=rules.days,
        within=rules.boundary_within,
    )
    moved = MeterState(
        span_id=state.span_id,
        standing=Standing.ACCEPTED,
        register_wh=register_wh,
        register_at=at,
        metered_wh=metered_wh,
        segment_from_wh=cut.opened.from_register_wh,
        segment_from_at=cut.opened.from_at,
        open_on=cut.opened.open_on,
        day_ends_at=rules.days.end_of(cut.opened.open_on),
    )
    return Judgement(state=moved, outcome=outcome, segments=cut.segments, boundaries=cut.boundaries)
