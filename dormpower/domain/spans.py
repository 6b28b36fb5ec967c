"""How a meter state begins, goes over to another channel, and leaves a quarantine by a person's decision."""

from dataclasses import replace
from datetime import datetime, timedelta

from dormpower.domain.meter_state import (
    ChannelLimits,
    Decision,
    Judgement,
    MeteringRules,
    MeterState,
    Outcome,
    Standing,
    advance,
    known,
    start_at,
    without_suspects,
)
from dormpower.domain.segments import Boundary, Cause, Segment


class UnableToDecideError(Exception):
    """A person's decision on a quarantine can't be carried out; the message says why and what to do."""


def new_state(
    *, span_id: int, from_at: datetime | None, first_register_wh: int | None, rules: MeteringRules
) -> MeterState:
    """Return the state of a circuit's first span, standing on its commissioning record where there is one."""
    state = MeterState(span_id=span_id)
    if from_at is None or first_register_wh is None:
        return state
    return start_at(state, register_wh=first_register_wh, at=from_at, rules=rules)


def begin_span(
    state: MeterState,
    *,
    span_id: int,
    from_at: datetime,
    first_register_wh: int | None,
    final_register_wh: int | None,
    final_at: datetime | None,
    rules: MeteringRules,
) -> Judgement:
    """Go over to a new channel span: the module was replaced, or the circuit moved to another channel.

    With the old span's final register (read at `final_at`) the energy up to it is charged and the way to the
    new register is a `replacement`; without it that way is a recorded `break`. Neither charges anything. An
    open quarantine ends with its span.
    """
    position_at = state.register_at
    if position_at is None:
        fresh = new_state(span_id=span_id, from_at=from_at, first_register_wh=first_register_wh, rules=rules)
        return Judgement(state=fresh, outcome=Outcome.COMMISSIONING)
    segments: tuple[Segment, ...] = ()
    boundaries: tuple[Boundary, ...] = ()
    state = without_suspects(state)
    joins = Cause.BREAK
    if final_register_wh is not None and final_register_wh >= state.register_wh:
        ended_at = max(position_at, final_at or from_at)
        if ended_at > position_at or final_register_wh == state.register_wh:
            joins = Cause.REPLACEMENT
            closing = advance(
                state,
                register_wh=final_register_wh,
                at=ended_at,
                energy_wh=final_register_wh - state.register_wh,
                outcome=Outcome.ACCEPTED,
                rules=rules,
            )
            state, segments, boundaries = closing.state, closing.segments, closing.boundaries
    state = replace(state, span_id=span_id)
    if first_register_wh is None:
        waiting = replace(state, standing=Standing.COMMISSIONING, joins=joins)
        return Judgement(state=waiting, outcome=Outcome.COMMISSIONING, segments=segments, boundaries=boundaries)
    joined = advance(
        state,
        register_wh=first_register_wh,
        at=max(from_at, known(state.register_at)),
        energy_wh=0,
        cause=joins,
        outcome=Outcome.COMMISSIONED,
        rules=rules,
    )
    joined.segments = segments + joined.segments
    joined.boundaries = boundaries + joined.boundaries
    return joined


def decide(
    state: MeterState,
    *,
    decision: Decision,
    register_wh: int,
    at: datetime,
    estimate_wh: int | None,
    limits: ChannelLimits,
    rules: MeteringRules,
) -> Judgement:
    """End a quarantine as a person decided, going on from the suspect register that the person saw.

    Raises UnableToDecideError where the point is not quarantined, where the register fell and no plausible
    rollover explains it (see `accepted_step`), or an estimate is missing.
    """
    if state.standing is not Standing.QUARANTINED or state.register_at is None or at <= state.register_at:
        raise UnableToDecideError("the register is not in quarantine any more; nothing is left to decide")
    energy_wh, cause = 0, Cause.BREAK
    if decision is Decision.ACCEPTED:
        energy_wh, cause = accepted_step(
            from_wh=state.register_wh, to_wh=register_wh, elapsed=at - state.register_at, limits=limits
        )
    elif decision is Decision.ESTIMATED:
        if estimate_wh is None or estimate_wh < 0:
            raise UnableToDecideError(f"estimate_wh: expected zero or more Wh, got {estimate_wh}")
        energy_wh, cause = estimate_wh, Cause.ESTIMATE
    return advance(
        without_suspects(state),
        register_wh=register_wh,
        at=at,
        energy_wh=energy_wh,
        cause=cause,
        outcome=Outcome.RETURNED,
        rules=rules,
    )


def accepted_step(*, from_wh: int, to_wh: int, elapsed: timedelta, limits: ChannelLimits) -> tuple[int, Cause]:
    """Return what is charged where a person accepts a step that was quarantined, and its cause.

    A step up is charged as the register says. A fall is charged only as a rollover that the circuit can have
    drawn in the time between the two registers, whoever says so: a meter that was reset would else be charged
    for its whole range (invariant 30). Raises UnableToDecideError for any other fall.
    """
    if to_wh >= from_wh:
        return to_wh - from_wh, Cause.MEASURED
    rolled_wh = limits.rollover_wh(from_wh=from_wh, to_wh=to_wh, elapsed=elapsed)
    if rolled_wh is None:
        raise UnableToDecideError(
            f"the register fell from {from_wh} to {to_wh} Wh, which is no rollover that the circuit can have "
            "drawn: a falling register can't be accepted; dismiss it or have it estimated"
        )
    return rolled_wh, Cause.ROLLOVER
