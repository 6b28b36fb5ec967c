"""Metering: from the registers that a channel reports to the energy that its circuit is charged.

Theory of operation
-------------------
Every circuit has one *meter state*: the last accepted register and its time (the *position*), the circuit's
monotone metered energy there, and the start of the open segment. A channel's *standing* is one of

- `commissioning`: no register of this span is believed yet. A commissioning record gives the first one, else
  three samples that are consistent with each other do. The first register charges nothing; the energy from the
  first of the three samples on is the circuit's own and is charged.
- `accepted`: each sample is judged against the position. A step that the circuit can't have drawn in the time
  since, or a register that fell for no known reason, is quarantined.
- `quarantined`: nothing is charged. Later samples are judged against the last accepted position, with the time
  allowance that stood when the quarantine began, so that waiting makes nothing plausible. It ends by a return
  to a consistent register, by a person's decision, or with the span.

A register that was reset counts up again and would pass the accepted position one day. Two suspect samples that
follow from each other show such a counter; from then on a sample that continues it is no return.

A sample at or before the position's time is *late*: it never moves the position, whatever it says (see
`segments.narrow` for what it may refine). A sample from more than a bounded time after `now` is refused: it
would make everything after it late. Both together give no negative interval when a clock jumps (invariant
33).

Charges are differences of accepted registers, so lost, repeated and reordered samples change nothing
(invariants 10, 27). Everything here is pure; `judge` returns a new state and never changes the one it was
given.
"""

import itertools
from dataclasses import replace
from datetime import datetime

from dormpower.domain.meter_state import (
    ChannelLimits,
    Judgement,
    MeteringRules,
    MeterState,
    Outcome,
    Reason,
    Standing,
    advance,
    known,
    start_at,
    stepped,
    without_suspects,
)
from dormpower.domain.segments import Cause

COMMISSIONING_SAMPLES = 3


def judge(
    state: MeterState,
    *,
    register_wh: int,
    at: datetime,
    now: datetime,
    limits: ChannelLimits,
    rules: MeteringRules,
) -> Judgement:
    """Judge one sample of a channel's register; `at` is campus time of the sample, `now` the campus present."""
    plain = stepped(state, register_wh=register_wh, at=at, not_after=now + rules.ahead, limits=limits)
    if plain is not None:
        outcome = Outcome.UNCHANGED if register_wh == state.register_wh else Outcome.ACCEPTED
        return Judgement(state=plain, outcome=outcome)
    if at > now and at - now > rules.ahead:
        return Judgement(state=state, outcome=Outcome.AHEAD_OF_CLOCK)
    position_at = state.register_at
    if position_at is not None and at <= position_at:
        return Judgement(state=state, outcome=Outcome.LATE)
    if state.standing is Standing.ACCEPTED:
        return _judge_accepted(state, register_wh=register_wh, at=at, limits=limits, rules=rules)
    if state.standing is Standing.QUARANTINED:
        return _judge_quarantined(state, register_wh=register_wh, at=at, limits=limits, rules=rules)
    return _judge_commissioning(state, register_wh=register_wh, at=at, limits=limits, rules=rules)


def _judge_accepted(
    state: MeterState, *, register_wh: int, at: datetime, limits: ChannelLimits, rules: MeteringRules
) -> Judgement:
    step_wh, elapsed = register_wh - state.register_wh, at - known(state.register_at)
    if limits.believes(step_wh, elapsed):  # over a midnight, else it were a plain step
        outcome = Outcome.ACCEPTED if step_wh else Outcome.UNCHANGED
        return advance(state, register_wh=register_wh, at=at, energy_wh=step_wh, outcome=outcome, rules=rules)
    rolled_wh = limits.rollover_wh(from_wh=state.register_wh, to_wh=register_wh, elapsed=elapsed)
    if rolled_wh is not None:
        return advance(
            state,
            register_wh=register_wh,
            at=at,
            energy_wh=rolled_wh,
            cause=Cause.ROLLOVER,
            outcome=Outcome.ROLLOVER,
            rules=rules,
        )
    suspect = replace(
        state,
        standing=Standing.QUARANTINED,
        quarantined_at=at,
        suspect_register_wh=register_wh,
        suspect_at=at,
        suspect_run=1,
    )
    reason = Reason.REGISTER_FELL if step_wh < 0 else Reason.STEP_TOO_LARGE
    return Judgement(state=suspect, outcome=Outcome.QUARANTINED, reason=reason)


def _judge_quarantined(
    state: MeterState, *, register_wh: int, at: datetime, limits: ChannelLimits, rules: MeteringRules
) -> Judgement:
    suspect_at = known(state.suspect_at)
    if at <= suspect_at:
        return Judgement(state=state, outcome=Outcome.LATE)
    since_suspect_wh = register_wh - known(state.suspect_register_wh)
    follows = 0 <= since_suspect_wh <= limits.largest_step_wh(at - suspect_at)
    run = state.suspect_run + 1 if follows else 1
    if not (follows and run > 2):
        allowance = known(state.quarantined_at) - known(state.register_at)
        step_wh = register_wh - state.register_wh
        cause = Cause.MEASURED
        if not 0 <= step_wh <= limits.largest_step_wh(allowance):
            cause = Cause.ROLLOVER
            rolled_wh = limits.rollover_wh(from_wh=state.register_wh, to_wh=register_wh, elapsed=allowance)
            step_wh = -1 if rolled_wh is None else rolled_wh
        if step_wh >= 0:
            return advance(
                without_suspects(state),
                register_wh=register_wh,
                at=at,
                energy_wh=step_wh,
                cause=cause,
                outcome=Outcome.RETURNED,
                rules=rules,
            )
    latched = replace(state, suspect_register_wh=register_wh, suspect_at=at, suspect_run=run)
    return Judgement(state=latched, outcome=Outcome.STILL_QUARANTINED)


def _judge_commissioning(
    state: MeterState, *, register_wh: int, at: datetime, limits: ChannelLimits, rules: MeteringRules
) -> Judgement:
    if any(at == known_at for known_at, _ in state.candidates):
        return Judgement(state=state, outcome=Outcome.LATE)
    candidates = tuple(sorted((*state.candidates, (at, register_wh))))
    if register_wh < 0 or not _consistent(candidates, limits):
        candidates = ((at, register_wh),) if register_wh >= 0 else ()
    if len(candidates) < COMMISSIONING_SAMPLES:
        return Judgement(state=replace(state, candidates=candidates), outcome=Outcome.COMMISSIONING)
    (first_at, first_wh), *rest = candidates
    if state.register_at is None:
        judgement = Judgement(
            state=start_at(state, register_wh=first_wh, at=first_at, rules=rules), outcome=Outcome.COMMISSIONED
        )
    else:
        judgement = advance(
            state,
            register_wh=first_wh,
            at=first_at,
            energy_wh=0,
            cause=state.joins or Cause.BREAK,
            outcome=Outcome.COMMISSIONED,
            rules=rules,
        )
    for next_at, next_wh in rest:
        step = advance(
            judgement.state,
            register_wh=next_wh,
            at=next_at,
            energy_wh=next_wh - judgement.state.register_wh,
            outcome=Outcome.COMMISSIONED,
            rules=rules,
        )
        step.segments = judgement.segments + step.segments
        step.boundaries = judgement.boundaries + step.boundaries
        judgement = step
    return judgement


def _consistent(candidates: tuple[tuple[datetime, int], ...], limits: ChannelLimits) -> bool:
    return all(
        0 <= next_wh - wh <= limits.largest_step_wh(next_at - at)
        for (at, wh), (next_at, next_wh) in itertools.pairwise(candidates)
    )
