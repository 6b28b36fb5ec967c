"""Whose turn it is: the order of shedding and of coming back, minutes off, and the learned pickup.

Within a class the one with the fewest turns goes first, then the one with the least time off, then the one that
was off the longest ago: so nobody is shed twice before every eligible one had its turn. Who has been off the
most comes back first, which evens out turns of different length.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta

from dormpower.domain.feeder_facts import NO_TURN, Load, SheddingPolicy, Turn
from dormpower.domain.samples import Relay

PICKUP_WEIGHT = 0.3
PICKUP_LEAST, PICKUP_MOST = 1.0, 4.0
PICKUP_MARGIN = 1.15
_EPOCH_S = 0.0


def off_s(load: Load, turn: Turn, *, now: datetime) -> float:
    """Return the seconds off in this fairness period, the present turn among them."""
    since_at = off_since(load)
    return turn.off_s + ((now - since_at).total_seconds() if since_at is not None else 0.0)


def off_since(load: Load) -> datetime | None:
    """Return since when a circuit has been off for a feeder's sake: shed, or waiting for room to close."""
    return load.shed_at or load.waits_since_at


def last_shed_by_room(loads: Iterable[Load], turns: Mapping[str, Turn]) -> dict[str, datetime]:
    """Return when each room was last shed, whichever of its circuits it was."""
    last: dict[str, datetime] = {}
    for load in loads:
        at = load.shed_at or turns.get(load.circuit_id, NO_TURN).shed_at
        if at is not None and (load.room_id not in last or at > last[load.room_id]):
            last[load.room_id] = at
    return last


def is_eligible(
    load: Load, turn: Turn, policy: SheddingPolicy, *, room_shed_at: datetime | None, now: datetime
) -> bool:
    """Whether a circuit may be shed now: it draws, nothing holds it, and its timers have run out."""
    if load.kind not in policy.priorities or load.exempt or load.held or load.shed_at is not None:
        return False
    coming_back = load.promised_at is not None and now - load.promised_at <= timedelta(seconds=policy.pickup_s)
    if not (load.switchable and load.online) or load.relay is not Relay.CLOSED or coming_back:
        return False
    if load.power_w is None or load.power_at is None or load.power_w < policy.draws_w:
        return False
    if now - load.power_at > timedelta(seconds=policy.power_stale_s):
        return False
    if turn.restored_at is not None and now - turn.restored_at < timedelta(seconds=policy.min_on_s):
        return False
    return room_shed_at is None or now - room_shed_at >= timedelta(seconds=policy.min_between_s)


def shedding_order(
    loads: Iterable[Load], turns: Mapping[str, Turn], policy: SheddingPolicy, *, now: datetime
) -> list[Load]:
    """Return the eligible circuits, the next to be shed first. `loads` are all of the site's."""
    everything = list(loads)
    room_shed_at = last_shed_by_room(everything, turns)

    def key(load: Load) -> tuple[int, bool, int, float, float, str]:
        turn = turns.get(load.circuit_id, NO_TURN)
        return (
            policy.priorities.index(load.kind),
            load.last,
            turn.turns,
            turn.off_s,
            turn.shed_at.timestamp() if turn.shed_at else _EPOCH_S,
            load.circuit_id,
        )

    return sorted(
        (
            load
            for load in everything
            if is_eligible(
                load,
                turns.get(load.circuit_id, NO_TURN),
                policy,
                room_shed_at=room_shed_at.get(load.room_id),
                now=now,
            )
        ),
        key=key,
    )


def returning_order(
    loads: Iterable[Load], turns: Mapping[str, Turn], policy: SheddingPolicy, *, now: datetime
) -> list[Load]:
    """Return who is off for a feeder's sake, who comes back first ahead.

    Those whose supply is kept by now, then urgent closings, then the class that is shed last, then places that
    are shed last of their kind, then most time off.
    """
    classes = {kind: index for index, kind in enumerate(policy.priorities)}

    def key(load: Load) -> tuple[bool, bool, int, bool, float, float, str]:
        turn = turns.get(load.circuit_id, NO_TURN)
        since_at = off_since(load)
        at = since_at.timestamp() if since_at else _EPOCH_S
        class_at = -classes.get(load.kind, len(classes))
        off_for_s = off_s(load, turn, now=now)
        return (not load.exempt, not load.urgent, class_at, not load.last, -off_for_s, at, load.circuit_id)

    return sorted((load for load in loads if off_since(load) is not None), key=key)


def pickup_w(load: Load, turn: Turn, policy: SheddingPolicy) -> int:
    """Return what a circuit is expected to draw at most when it comes back.

    Once learned, not more than a margin above the most that it ever drew then: an air conditioner that was shed
    at full power does not come back with a multiple of it. Never more than its wiring carries, or than it drew:
    a multiple that no feeder has room for would keep it off for good.
    """
    return _pickup_w(max(turn.drew_w, policy.draws_w), load, turn, policy)


def closing_pickup_w(load: Load, turn: Turn, policy: SheddingPolicy) -> int:
    """Return what a circuit is expected to draw at most when it closes after being off for another reason.

    By the most that it drew of late before: what it drew in the moment of opening may have been a pause of its
    thermostat.
    """
    return _pickup_w(max(drew_before_w(load, turn), policy.draws_w), load, turn, policy)


def drew_before_w(load: Load, turn: Turn) -> int:
    """Return the most that a circuit drew of late before it opened; 0 where that was never seen."""
    return load.lately_w if load.lately_w is not None else max(turn.before_w, turn.drew_w)


def _pickup_w(drew_w: int, load: Load, turn: Turn, policy: SheddingPolicy) -> int:
    if turn.pickup is None:
        expected_w = drew_w * policy.pickup
    else:
        expected_w = min(drew_w * turn.pickup, max(drew_w, turn.most_w) * PICKUP_MARGIN)
    return round(expected_w if load.carries_w is None else min(expected_w, max(load.carries_w, drew_w)))


def note_opening(load: Load, turn: Turn) -> Turn:
    """Remember what an open circuit drew before, and that no swap is under way for one that is not off."""
    is_off = load.relay is Relay.OPEN or (load.relay is None and load.held)
    if is_off and load.lately_w is not None and load.lately_w != turn.before_w:
        turn = replace(turn, before_w=load.lately_w)
    if turn.swap_under_way and off_since(load) is None:
        turn = replace(turn, swap_under_way=False)
    return turn


def watch(load: Load, turn: Turn, policy: SheddingPolicy, *, now: datetime) -> Turn:
    """Keep the highest power since a restore, and learn the pickup from it when the time is over.

    Learned is the ratio of that peak to what was drawn before the shed, smoothed and kept within 100–400 %.
    A circuit that was shed again or held meanwhile teaches nothing.
    """
    restored_at = turn.restored_at
    if not turn.watched or restored_at is None:
        return turn
    if load.held or load.shed_at is not None:
        return replace(turn, watched=False)
    power_w = load.power_w or 0
    if load.power_at is not None and load.power_at > restored_at and power_w > turn.peak_w:
        turn = replace(turn, peak_w=power_w)
    if now - restored_at <= timedelta(seconds=policy.pickup_s):
        return turn
    if not turn.peak_w or turn.drew_w < policy.draws_w:
        return replace(turn, watched=False)
    seen = min(max(turn.peak_w / turn.drew_w, PICKUP_LEAST), PICKUP_MOST)
    before = policy.pickup if turn.pickup is None else turn.pickup
    return replace(
        turn,
        watched=False,
        pickup=before + PICKUP_WEIGHT * (seen - before),
        most_w=max(turn.most_w, turn.peak_w),
    )


def begin_period(
    turns: Mapping[str, Turn], loads: Iterable[Load], *, period_on: date | None, today: date
) -> tuple[Mapping[str, Turn], date]:
    """Start counting anew on a new campus day, but not while anything is shed: no turn ends at midnight."""
    if period_on == today:
        return turns, today
    if period_on is not None and any(load.shed_at is not None for load in loads):
        return turns, period_on
    return {circuit_id: replace(turn, turns=0, off_s=0.0) for circuit_id, turn in turns.items()}, today


def jain_index(values: Iterable[float]) -> float:
    """Return Jain's index of fairness: 1 where all are equal, 1/n where one has it all; 1 for nothing."""
    found = list(values)
    squares = sum(value * value for value in found)
    return 1.0 if not squares else sum(found) ** 2 / (len(found) * squares)
