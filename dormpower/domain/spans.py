"""How a meter state begins, goes over to another module, and leaves a quarantine by a person's decision."""

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
from dormpower.domain.segments import Cause


class UnableToDecideError(Exception):
    """A person's decision on a quarantine can't be carried out; the message says why and what to do."""


class UnableToChangeMeterError(Exception):
    """A recorded replacement or commissioning can't be so; the message says what was expected."""


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
    open quarantine ends with its span. A span that was never believed has no final register: the position is
    still another's.
    """
    if state.register_at is None:
        fresh = new_state(span_id=span_id, from_at=from_at, first_register_wh=first_register_wh, rules=rules)
        return Judgement(state=fresh, outcome=Outcome.COMMISSIONING)
    if state.standing is Standing.COMMISSIONING:
        final_register_wh = None
    ended, joins = _end(
        without_suspects(state), register_wh=final_register_wh, at=final_at or from_at, rules=rules
    )
    ended.state = replace(ended.state, span_id=span_id)
    return _begin(ended, register_wh=first_register_wh, at=from_at, joins=joins, rules=rules)


def commission(
    state: MeterState,
    *,
    at: datetime,
    first_register_wh: int | None,
    final_register_wh: int | None,
    rules: MeteringRules,
) -> Judgement:
    """Go on with a span in commissioning by its record: its first register, the final one of the span before.

    The first register is believed at once; without it samples have to commission the span. What it charges is
    the energy up to the final register, where there is one. Raises UnableToChangeMeterError where the span's
    register is believed already.
    """
    if state.standing is not Standing.COMMISSIONING:
        raise UnableToChangeMeterError("the register of this channel is believed already")
    if state.register_at is None:
        fresh = new_state(span_id=state.span_id, from_at=at, first_register_wh=first_register_wh, rules=rules)
        return Judgement(state=fresh, outcome=Outcome.COMMISSIONED)
    ended, joins = _end(without_suspects(state), register_wh=final_register_wh, at=at, rules=rules)
    if final_register_wh is None:
        joins = known(state.joins)
    return _begin(ended, register_wh=first_register_wh, at=at, joins=joins, rules=rules)


def check_final_register(
    *, register_wh: int, register_at: datetime, final_register_wh: int, at: datetime, limits: ChannelLimits
) -> None:
    """Refuse a module's final register that its circuit can't have come to from the last accepted one.

    A mistyped digit would else be charged, and nothing that is posted can be taken back but by a person. Raises
    UnableToChangeMeterError.
    """
    step_wh = final_register_wh - register_wh
    if step_wh < 0:
        raise UnableToChangeMeterError(
            f"final_register_wh: expected at least the {register_wh} Wh read last, got {final_register_wh}"
        )
    largest_wh = limits.largest_step_wh(at - register_at)
    if step_wh > largest_wh:
        raise UnableToChangeMeterError(
            f"final_register_wh: expected at most {register_wh + largest_wh} Wh, as the circuit can't have "
            f"drawn more since {register_wh} Wh were read; got {final_register_wh}"
        )


def _end(
    state: MeterState, *, register_wh: int | None, at: datetime, rules: MeteringRules
) -> tuple[Judgement, Cause]:
    """Charge up to a span's final register; return that, and what the way to the next register is then."""
    position_at = known(state.register_at)
    ended_at = max(position_at, at)
    if (
        register_wh is None
        or register_wh < state.register_wh
        or (ended_at == position_at and register_wh != state.register_wh)
    ):
        return Judgement(state=state, outcome=Outcome.COMMISSIONING), Cause.BREAK
    ended = advance(
        state,
        register_wh=register_wh,
        at=ended_at,
        energy_wh=register_wh - state.register_wh,
        outcome=Outcome.COMMISSIONING,
        rules=rules,
    )
    return ended, Cause.REPLACEMENT


def _begin(
    ended: Judgement, *, register_wh: int | None, at: datetime, joins: Cause, rules: MeteringRules
) -> Judgement:
    """Go over from where a span ended to the next one's first register, or wait until that is believed."""
    if register_wh is None:
        ended.state = replace(ended.state, standing=Standing.COMMISSIONING, joins=joins)
        return ended
    joined = advance(
        ended.state,
        register_wh=register_wh,
        at=max(at, known(ended.state.register_at)),
        energy_wh=0,
        cause=joins,
        outcome=Outcome.COMMISSIONED,
        rules=rules,
    )
    joined.segments = ended.segments + joined.segments
    joined.boundaries = ended.boundaries + joined.boundaries
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
