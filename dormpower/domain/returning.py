"""How circuits come back: in batches while there is room, or one for another when their turn is over.

These are the shed ones, and those that something else kept off and that have no room to close yet.

Each return keeps the pickup that it may draw free on its whole path up the tree, so that what is returned
together never exceeds a limit together (invariant 23). A circuit whose return does not fit waits; in capacity
returns nobody overtakes it on the feeder that lacks the room, so that small ones don't starve a large one.
"""

import math
from collections.abc import Sequence
from datetime import timedelta

from dormpower.domain.demand import ceiling_w, has_room
from dormpower.domain.fairness import closing_pickup_w, off_since, pickup_w, returning_order
from dormpower.domain.feeder_facts import NO_TURN, Load, Source, Why
from dormpower.domain.shed_draft import Draft

IN_HAND = 0.05  # of a limit: what a swap leaves to be shed for a rise of the demand
LEAD_CYCLES = 3  # a swap takes two cycles: shed another, see the room, return


def give_back(draft: Draft, loads: Sequence[Load]) -> None:
    """Return what has room or whose turn is over, and shed others for those whose turn is over."""
    off = returning_order(loads, draft.turns, draft.policy, now=draft.now)
    forced, chosen = _whose_turn_is_over(draft, off)
    short = _short_feeders(draft, loads)
    blocked: set[str] = set()
    steps: dict[str, int] = {}
    for load in off:
        path = draft.path(load)
        if steps.get(load.feeder_id, 0) >= draft.policy.restores_at_once or not _may_close(draft, load):
            continue
        pickup = _pickup_w(draft, load)
        lacking = [feeder_id for feeder_id in path if not _has_room(draft, feeder_id, pickup)]
        ready = _is_ready(draft, load, short)
        over = load.circuit_id in forced or load.circuit_id in chosen
        if not lacking and ((ready and not blocked & set(path)) or over):
            _let_back(draft, load, pickup)
            steps[load.feeder_id] = steps.get(load.feeder_id, 0) + 1
        elif over and lacking:
            steps[load.feeder_id] = steps.get(load.feeder_id, 0) + _swap(draft, load, pickup)
        elif ready:
            blocked |= set(lacking)


def _may_close(draft: Draft, load: Load) -> bool:
    """Whether a closing would be followed, and what is known of its feeders permits one."""
    path = draft.path(load)
    if any(feeder_id in draft.over for feeder_id in path):
        return False
    if load.shed_at is None or load.after_trip:
        # Nothing unknown permits a closing after a trip or a shed; of others the sum is enough (invariant 22).
        heard = all(draft.demands[feeder_id].may_restore for feeder_id in path)
        known = all(draft.demands[feeder_id].source is not Source.UNKNOWN for feeder_id in path)
        return heard if load.after_trip else known
    if not (load.online and load.switchable) or not all(
        draft.demands[feeder_id].may_restore for feeder_id in path
    ):
        return False
    since = load.shed_at if load.opened_at is None else max(load.shed_at, load.opened_at)
    return draft.now - since >= timedelta(seconds=load.min_off_s)


def _is_ready(draft: Draft, load: Load, short: set[str]) -> bool:
    """Whether room is all that a circuit needs to come back now.

    Where circuits are off for a feeder's sake, that takes a demand that has been low for long enough, or each
    return would shed another. An urgent closing, one of a kind that is never shed, and one below feeders that
    nobody is shed for, needs no more than room.
    """
    path = draft.path(load)
    never_shed = load.exempt or load.kind not in draft.policy.priorities
    if load.shed_at is None and (load.urgent or never_shed or not short & set(path)):
        return True
    return all(draft.demands[feeder_id].sustained for feeder_id in path)


def _short_feeders(draft: Draft, loads: Sequence[Load]) -> set[str]:
    """Return the feeders for whose sake somebody is shed."""
    return {
        draft.turns.get(load.circuit_id, NO_TURN).feeder_id or load.feeder_id
        for load in loads
        if load.shed_at is not None and not load.held
    }


def _let_back(draft: Draft, load: Load, pickup: int) -> None:
    if load.shed_at is None:
        draft.let_close(load, pickup)
    else:
        sustained = all(draft.demands[feeder_id].sustained for feeder_id in draft.path(load))
        draft.put_back(load, why=Why.CAPACITY if sustained else Why.TURN_OVER, pickup_w=pickup)
    draft.promise(load, pickup)


def _pickup_w(draft: Draft, load: Load) -> int:
    turn = draft.turns.get(load.circuit_id, NO_TURN)
    if load.shed_at is None:
        return closing_pickup_w(load, turn, draft.policy)
    return pickup_w(load, turn, draft.policy)


def _has_room(draft: Draft, feeder_id: str, pickup: int) -> bool:
    return has_room(draft.demands[feeder_id], draft.promised_w.get(feeder_id, 0), pickup, draft.policy)


def _whose_turn_is_over(draft: Draft, off: Sequence[Load]) -> tuple[set[str], set[str]]:
    """Return who must come back, being off for about as long as anybody may, and who is chosen to come earlier.

    A room that came onto the keep-supply list while it was off must come back at once.
    Earlier ones keep those that were shed together from being due together: of all that are off so many a
    cycle as are needed to have gone through them by `max_off_s`, and those whose swap is under way.
    """
    policy = draft.policy
    lead_s = LEAD_CYCLES * policy.cycle_s
    forced: set[str] = set()
    chosen: set[str] = set()
    waiting: list[str] = []
    takers = [load for load in off if not load.held]
    for load in takers:
        since_at = off_since(load)
        if since_at is None:
            continue
        off_for_s = (draft.now - since_at).total_seconds()
        if load.exempt or off_for_s >= policy.max_off_s - lead_s:
            forced.add(load.circuit_id)
        elif draft.turns.get(load.circuit_id, NO_TURN).swap_under_way:
            chosen.add(load.circuit_id)
        elif off_for_s >= max(policy.rotate_after_s, load.min_off_s):
            waiting.append(load.circuit_id)
    span_s = max(policy.max_off_s - policy.rotate_after_s - lead_s, policy.cycle_s)
    quota = math.ceil(len(takers) * policy.cycle_s / span_s)
    return forced, chosen | set(waiting[:quota])


def _swap(draft: Draft, load: Load, pickup: int) -> int:
    """Shed others for a circuit whose turn is over; 1 where it has its room then or soon, else 0.

    All or nothing: to shed some without being able to return the one would only make it worse.
    """
    substitutes: list[tuple[Load, str]] = []  # and the feeder that lacks the room
    rooms: set[str] = set()
    missing = False
    for feeder_id in draft.path(load):
        demand = draft.demands[feeder_id]
        if demand.source is Source.UNKNOWN:
            return 0
        need_w = (
            draft.expected_w(feeder_id)
            + demand.reserved_w
            + draft.promised_w.get(feeder_id, 0)
            + pickup
            - ceiling_w(demand, draft.policy)
            - sum(one.power_w or 0 for one, _ in substitutes if feeder_id in draft.path(one))
        )
        for candidate in draft.candidates_below(feeder_id):
            if need_w <= 0:
                break
            if candidate.room_id in rooms or candidate.room_id == load.room_id:
                continue
            substitutes.append((candidate, feeder_id))
            rooms.add(candidate.room_id)
            need_w -= candidate.power_w or 0
        missing = missing or need_w > 0
    if missing or (substitutes and not _leaves_some_in_hand(draft, load, rooms)):
        return 0
    for one, feeder_id in substitutes:
        draft.take_off(one, feeder_id=feeder_id, why=Why.SWAP, for_circuit_id=load.circuit_id)
    draft.promise(load, pickup)
    draft.mark_swap(load)
    return 1


def _leaves_some_in_hand(draft: Draft, load: Load, rooms: set[str]) -> bool:
    """Whether enough could still be shed at the next rise: a swap never takes the last `rooms`."""
    for feeder_id in draft.path(load):
        left_w = sum(one.power_w or 0 for one in draft.candidates_below(feeder_id) if one.room_id not in rooms)
        if left_w < IN_HAND * draft.demands[feeder_id].limit_w:
            return False
    return True
