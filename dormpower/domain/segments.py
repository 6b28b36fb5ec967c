"""Segments and day boundaries: how a step of the register is cut at campus midnights.

A circuit's *metered* energy is a coordinate that only grows; every accepted register has its place on it,
through rollover, replacement and breaks. A *segment* is a stretch of that coordinate with its cause. Segments
are cut at every campus midnight and at every change of cause, they neither overlap nor gap in time, and the
register at the end of one is the register at the start of the next (a replacement or a break carries the jump
in itself).

A *day boundary* is the place of a campus midnight on the coordinate. It is a function of its bracket alone:
the last accepted sample at or before midnight and the first one at or after it. The register in force at
midnight counts if it is recent enough (two poll cycles); otherwise the energy of the bracket is split evenly
over its time and the boundary is marked estimated. A late sample inside a bracket narrows it. So boundaries
depend on the set of accepted samples and not on their order (invariant 27), and the two days that meet at a
boundary change by equal and opposite energy.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from dormpower.domain.days import ONE_DAY, CampusDays, split_wh
from dormpower.domain.units import InvariantViolationError


class Cause(StrEnum):
    """Why the register went from one end of a segment to the other."""

    MEASURED = "measured"
    ROLLOVER = "rollover"
    REPLACEMENT = "replacement"  # from the old module's final register to the new one's first; no energy
    ESTIMATE = "estimate"  # energy that a person put in place of a register that was not believed
    BREAK = "break"  # recorded, not charged


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A closed stretch of a circuit's register within one campus day."""

    span_id: int
    used_on: date
    from_at: datetime
    to_at: datetime
    from_register_wh: int
    to_register_wh: int
    energy_wh: int
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An accepted sample and its place on the circuit's metered energy."""

    at: datetime
    register_wh: int
    metered_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """The start of campus day `begins_on` on the metered energy, and the bracket that it was taken from."""

    span_id: int
    begins_on: date
    boundary_at: datetime
    cause: Cause
    before: Mark
    after: Mark
    register_wh: int
    metered_wh: int
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSegment:
    """The measured stretch that ends at the position; it moves without a row of its own."""

    from_at: datetime
    from_register_wh: int
    open_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From one accepted position to the next, for one cause."""

    span_id: int
    before: Mark
    after: Mark
    cause: Cause

    @property
    def energy_wh(self) -> int:
        """What the step adds to the metered energy."""
        return self.after.metered_wh - self.before.metered_wh


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A step cut at midnights: the segments that closed, the boundaries, and what is open after it."""

    segments: tuple[Segment, ...]
    boundaries: tuple[Boundary, ...]
    opened: OpenSegment


def cut_step(step: Step, *, opened: OpenSegment, days: CampusDays, within: timedelta) -> Cut:
    """Cut a step at every campus midnight that it reaches, and at its own ends where it is not measured.

    `within` is how old a register may be at midnight to count as the one in force (two poll cycles). Raises
    InvariantViolationError for a step that goes back in time or energy.
    """
    before, after = step.before, step.after
    if after.at < before.at or step.energy_wh < 0 or before.at < opened.from_at:
        raise InvariantViolationError(f"a step of a circuit went back: {before} to {after}")
    measured = step.cause is Cause.MEASURED
    segments: list[Segment] = []
    boundaries: list[Boundary] = []
    opened_at_wh = before.metered_wh - (before.register_wh - opened.from_register_wh)
    piece = Mark(at=opened.from_at, register_wh=opened.from_register_wh, metered_wh=opened_at_wh)
    on = opened.open_on
    if not measured:
        if piece.at < before.at:
            segments.append(_segment(step.span_id, on, piece, before, Cause.MEASURED))
        piece = before
    end_at = days.end_of(on)
    while end_at <= after.at:
        boundary = _boundary(
            span_id=step.span_id,
            begins_on=on + ONE_DAY,
            boundary_at=end_at,
            cause=step.cause,
            before=after if end_at == after.at else before,
            after=after,
            within=within,
            jump_from_wh=before.register_wh,
        )
        boundaries.append(boundary)
        end = Mark(at=end_at, register_wh=boundary.register_wh, metered_wh=boundary.metered_wh)
        segments.append(_segment(step.span_id, on, piece, end, step.cause))
        piece = end
        on += ONE_DAY
        end_at = days.end_of(on)
    if not measured:
        if piece != after:
            segments.append(_segment(step.span_id, on, piece, after, step.cause))
        piece = after
    return Cut(
        segments=tuple(segments),
        boundaries=tuple(boundaries),
        opened=OpenSegment(from_at=piece.at, from_register_wh=piece.register_wh, open_on=on),
    )


def narrow(boundary: Boundary, *, register_wh: int, at: datetime, within: timedelta) -> Boundary | None:
    """Return the boundary after a late sample inside its bracket; None where the sample says nothing about it.

    A sample counts only if it lies between the bracket's samples in time and in register: it can move energy
    from one day to its neighbour, never add any (invariant 28).
    """
    if boundary.cause not in (Cause.MEASURED, Cause.ROLLOVER):
        return None
    before, after = boundary.before, boundary.after
    if not before.at < at < after.at:
        return None
    energy_wh = after.metered_wh - before.metered_wh
    rise_wh = register_wh - before.register_wh
    if rise_wh < 0:  # past the rollover, if there was one: count back from the end
        rise_wh = energy_wh - (after.register_wh - register_wh)
    if not 0 <= rise_wh <= energy_wh:
        return None
    mark = Mark(at=at, register_wh=register_wh, metered_wh=before.metered_wh + rise_wh)
    if at < boundary.boundary_at:
        before = mark
    elif at == boundary.boundary_at:
        before = after = mark
    else:
        after = mark
    return _boundary(
        span_id=boundary.span_id,
        begins_on=boundary.begins_on,
        boundary_at=boundary.boundary_at,
        cause=boundary.cause,
        before=before,
        after=after,
        within=within,
        jump_from_wh=before.register_wh,
    )


def shift_segment(
    segment: Segment, *, start: Boundary | None, end: Boundary | None, start_moved_wh: int, end_moved_wh: int
) -> Segment:
    """Return a segment whose ends are boundaries that moved; None for an end that stays.

    Raises InvariantViolationError where its energy would become negative.
    """
    energy_wh = segment.energy_wh + end_moved_wh - start_moved_wh
    if energy_wh < 0:
        raise InvariantViolationError(f"segment of {segment.used_on} would hold {energy_wh} Wh")
    return replace(
        segment,
        energy_wh=energy_wh,
        from_register_wh=segment.from_register_wh if start is None else start.register_wh,
        to_register_wh=segment.to_register_wh if end is None else end.register_wh,
    )


def _segment(span_id: int, on: date, start: Mark, end: Mark, cause: Cause) -> Segment:
    return Segment(
        span_id=span_id,
        used_on=on,
        from_at=start.at,
        to_at=end.at,
        from_register_wh=start.register_wh,
        to_register_wh=end.register_wh,
        energy_wh=end.metered_wh - start.metered_wh,
        cause=cause,
    )


def _boundary(
    *,
    span_id: int,
    begins_on: date,
    boundary_at: datetime,
    cause: Cause,
    before: Mark,
    after: Mark,
    within: timedelta,
    jump_from_wh: int,
) -> Boundary:
    energy_wh = after.metered_wh - before.metered_wh
    estimated = False
    if boundary_at - before.at <= within:
        offset_wh = 0
    else:
        offset_wh = split_wh(energy_wh=energy_wh, from_at=before.at, to_at=after.at, at=boundary_at)
        estimated = True
    if cause is Cause.MEASURED:
        register_wh = before.register_wh + offset_wh
    elif cause is Cause.ROLLOVER and before != after:
        modulus_wh = energy_wh + before.register_wh - after.register_wh
        # A bracket that was narrowed to one side of the rollover holds none: its modulus comes out as zero.
        register_wh = before.register_wh + offset_wh
        if modulus_wh:
            register_wh %= modulus_wh
    elif cause is Cause.ROLLOVER:
        register_wh = before.register_wh
    else:  # the register jumps at the end of the step
        register_wh = jump_from_wh
    return Boundary(
        span_id=span_id,
        begins_on=begins_on,
        boundary_at=boundary_at,
        cause=cause,
        before=before,
        after=after,
        register_wh=register_wh,
        metered_wh=before.metered_wh + offset_wh,
        estimated=estimated,
    )
