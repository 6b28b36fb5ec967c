"""The demand of each feeder of a tree: from its meter, or summed from below, or unknown.

A feeder's meter counts while it has been heard within `silent_s`. Else the demand is the sum of the child
feeders and the own circuits, with the learned loss on top; where too many circuits are silent as well, it is
unknown, and unknown is a value: nothing is shed or restored by it (invariant 22).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import median

from dormpower.domain.feeder_facts import (
    NO_FEEDER_STATE,
    NO_TURN,
    Demand,
    FeederFacts,
    FeederState,
    Load,
    SheddingPolicy,
    ShedState,
    Source,
    Turn,
)
from dormpower.domain.holds import Enforcement
from dormpower.domain.samples import Relay

MISSING_SHARE = 0.10  # of a feeder's circuits may be silent; they are taken for as hungry as their neighbours
LOSS_WEIGHT = 0.05
LOSS_MOST = 0.25
LOSS_LEARNED_ABOVE = 0.10  # of the limit: below that the rounding of small powers would be learned
POINTS = 15
FEWEST_POINTS = 4


class Tree:
    """The feeders and what hangs on each. A parent that is not described is a supply without a limit."""

    def __init__(self, feeders: Sequence[FeederFacts], loads: Sequence[Load]) -> None:
        self.feeders = {feeder.feeder_id: feeder for feeder in feeders}
        self.paths = {feeder_id: self._climb(feeder_id) for feeder_id in self.feeders}
        self.deepest_first = sorted(self.feeders, key=lambda one: (-len(self.paths[one]), one))
        self.children: dict[str, list[str]] = {feeder_id: [] for feeder_id in self.feeders}
        for feeder_id in sorted(self.feeders):
            for parent in self.paths[feeder_id][1:2]:
                self.children[parent].append(feeder_id)
        self.own: dict[str, list[Load]] = {feeder_id: [] for feeder_id in self.feeders}
        self.below: dict[str, list[Load]] = {feeder_id: [] for feeder_id in self.feeders}
        for load in sorted(loads, key=lambda one: one.circuit_id):
            if load.feeder_id not in self.feeders:
                continue
            self.own[load.feeder_id].append(load)
            for feeder_id in self.paths[load.feeder_id]:
                self.below[feeder_id].append(load)

    def _climb(self, feeder_id: str) -> tuple[str, ...]:
        path: list[str] = []
        above: str | None = feeder_id
        while above is not None and above in self.feeders and above not in path:
            path.append(above)
            above = self.feeders[above].parent
        return tuple(path)


def demands(
    tree: Tree, state: ShedState, policy: SheddingPolicy, *, now: datetime
) -> tuple[dict[str, Demand], dict[str, FeederState]]:
    """Return each feeder's demand, and what to remember of each: loss, trend and the hysteresis' timer."""
    found: dict[str, Demand] = {}
    states: dict[str, FeederState] = {}
    flowing: dict[str, int | None] = {}
    for feeder_id in tree.deepest_first:
        feeder, before = tree.feeders[feeder_id], state.feeders.get(feeder_id, NO_FEEDER_STATE)
        summed_w = _summed(tree, feeder_id, flowing, policy, now=now)
        heard = _heard(feeder, policy, now=now)
        after = before
        if heard and feeder.power_w is not None:
            source, measured_w = Source.METERED, feeder.power_w
            after = _learn_loss(before, feeder, summed_w)
        elif summed_w is not None:
            source, measured_w = Source.SUMMED, round(summed_w * (1 + before.loss))
        else:
            flowing[feeder_id] = None
            states[feeder_id] = _with_timer(before, _kept_timer(before, policy, now=now))
            found[feeder_id] = Demand(
                feeder_id=feeder_id, limit_w=feeder.limit_w, source=Source.UNKNOWN, sampled_at=feeder.power_at
            )
            continue
        flowing[feeder_id] = measured_w
        sampled_at = feeder.power_at if heard and feeder.power_at is not None else now
        demand = Demand(
            feeder_id=feeder_id,
            limit_w=feeder.limit_w,
            source=source,
            measured_w=measured_w,
            sampled_at=sampled_at,
            sampling_period_s=_period_s(feeder, tree.below[feeder_id], source),
            may_restore=heard or not feeder.metered,
        )
        found[feeder_id], states[feeder_id] = _judge(
            demand, after, tree.below[feeder_id], state.turns, policy, now=now
        )
    return found, states


def moved(state: FeederState, by_w: int) -> FeederState:
    """Return a feeder's memory with its past moved by what we switch now, so that no trend is made of it."""
    if not by_w:
        return state
    return replace(state, points=tuple((at, power_w + by_w) for at, power_w in state.points))


def power_now(load: Load, policy: SheddingPolicy, *, now: datetime) -> int | None:
    """Return what a circuit draws; None where nothing recent is known. An open relay that is fresh draws 0."""
    if load.relay is Relay.OPEN and load.opened_at is not None:
        if load.power_at is None or load.power_w is None or load.power_at <= load.opened_at:
            return 0
        return load.power_w
    if load.power_w is None or load.power_at is None:
        return None
    return load.power_w if now - load.power_at <= timedelta(seconds=policy.power_stale_s) else None


def reserved_w(load: Load, turn: Turn, demand: Demand, policy: SheddingPolicy, *, now: datetime) -> int:
    """Return what a circuit that was let close may still pick up beyond what the demand shows of it."""
    if load.shed_at is not None:
        return 0
    return max(
        _still_w(load, turn.restored_at, turn.expected_w, demand, policy, now=now),
        _still_w(load, load.promised_at, load.promised_w, demand, policy, now=now),
    )


def _still_w(
    load: Load,
    since_at: datetime | None,
    expected_w: int,
    demand: Demand,
    policy: SheddingPolicy,
    *,
    now: datetime,
) -> int:
    if since_at is None:
        return 0
    sampled_at = demand.sampled_at or now
    if sampled_at - since_at > timedelta(seconds=policy.pickup_s):
        return 0  # by the feeder's time: an old sample shows nothing of what was picked up since
    if load.power_at is None or load.power_at <= since_at or load.relay is Relay.OPEN:
        return expected_w
    # What the circuit was seen to draw is in the demand only if the feeder was sampled after that, or at least
    # so late that the relay had followed.
    shown = sampled_at >= load.power_at or sampled_at - since_at > timedelta(seconds=policy.follow_s)
    return max(0, expected_w - (load.power_w or 0)) if shown else expected_w


def has_room(demand: Demand, promised_w: int, pickup: int, policy: SheddingPolicy) -> bool:
    """Whether a pickup fits under a limit beside what flows and what was promised since (invariant 23).

    Not up to the limit itself: what stays free then is for a rise, or somebody would be shed for it at once.
    """
    return demand.sure_w + promised_w + pickup <= ceiling_w(demand, policy)


def ceiling_w(demand: Demand, policy: SheddingPolicy) -> int:
    """Return how far a feeder is filled by closings."""
    return math.floor(policy.shed_to * demand.limit_w)


def _heard(feeder: FeederFacts, policy: SheddingPolicy, *, now: datetime) -> bool:
    return (
        feeder.metered
        and feeder.power_w is not None
        and feeder.power_at is not None
        and now - feeder.power_at <= timedelta(seconds=policy.silent_s)
    )


def _period_s(feeder: FeederFacts, loads: Iterable[Load], source: Source) -> float | None:
    """Return how often what the demand is made of was sampled; None where that is not known yet."""
    if source is Source.METERED:
        return feeder.sampling_period_s
    periods = [load.sampling_period_s for load in loads if load.sampling_period_s is not None]
    return median(periods) if periods else None


def _summed(
    tree: Tree,
    feeder_id: str,
    flowing: Mapping[str, int | None],
    policy: SheddingPolicy,
    *,
    now: datetime,
) -> int | None:
    """Return the sum of child feeders and own circuits; None where too much of it is missing."""
    below_w = 0
    for child in tree.children[feeder_id]:
        child_w = flowing[child]
        if child_w is None:
            return None
        below_w += child_w
    own = tree.own[feeder_id]
    known: dict[str, list[int]] = {}
    missing: dict[str, int] = {}
    for load in own:
        power_w = power_now(load, policy, now=now)
        if power_w is None:
            missing[load.kind] = missing.get(load.kind, 0) + 1
        else:
            known.setdefault(load.kind, []).append(power_w)
    if sum(missing.values()) > MISSING_SHARE * len(own) or any(kind not in known for kind in missing):
        return None
    filled_w = sum(count * sum(known[kind]) / len(known[kind]) for kind, count in missing.items())
    return below_w + sum(sum(powers) for powers in known.values()) + round(filled_w)


def _learn_loss(state: FeederState, feeder: FeederFacts, summed_w: int | None) -> FeederState:
    if summed_w is None or feeder.power_w is None or summed_w < LOSS_LEARNED_ABOVE * feeder.limit_w:
        return state
    seen = min(max(feeder.power_w / summed_w - 1, 0.0), LOSS_MOST)
    return replace(state, loss=state.loss + LOSS_WEIGHT * (seen - state.loss))


def _judge(
    demand: Demand,
    state: FeederState,
    loads: Iterable[Load],
    turns: Mapping[str, Turn],
    policy: SheddingPolicy,
    *,
    now: datetime,
) -> tuple[Demand, FeederState]:
    """Fill in what is expected, reserved and projected, and keep trend and timer."""
    shadow = policy.mode is Enforcement.SHADOW
    pending_w = reserve_w = 0
    for load in loads:
        turn = turns.get(load.circuit_id, NO_TURN)
        reserve_w += reserved_w(load, turn, demand, policy, now=now)
        if load.shed_at is not None and not load.held:
            pending_w += _pending_w(load, turn, demand, policy, now=now, shadow=shadow)
    measured_w = demand.measured_w or 0
    expected_w = max(measured_w - pending_w, 0)
    # In shadow nothing opens: what would be off is taken off the figures, for restores too.
    sure_w = (expected_w if shadow else measured_w) + reserve_w
    points = _points(state.points, demand.sampled_at or now, expected_w, policy, now=now)
    slope = _slope([*points, (demand.sampled_at or now, expected_w)])
    state = _with_timer(state, _timer(replace(demand, sure_w=sure_w), state, policy, now=now))
    since_at = state.below_since_at
    sustained = (
        demand.may_restore and since_at is not None and now - since_at >= timedelta(seconds=policy.sustained_s)
    )
    return (
        replace(
            demand,
            sure_w=sure_w,
            expected_w=expected_w,
            projected_w=expected_w + round(max(slope, 0.0) * policy.look_ahead_s),
            reserved_w=reserve_w,
            sustained=sustained,
        ),
        replace(state, points=points),
    )


_Timer = tuple[datetime, datetime]  # since when the demand has been below, and when that was last seen


def _timer(demand: Demand, state: FeederState, policy: SheddingPolicy, *, now: datetime) -> _Timer | None:
    """Return the hysteresis' timer after this decision; None while the demand is not low enough."""
    if demand.sure_w >= policy.restore_below * demand.limit_w:
        return None
    kept = _kept_timer(state, policy, now=now)
    if not demand.may_restore:
        return kept  # a sum alone neither starts the timer nor, for a while, ends it
    return (kept[0] if kept else now, demand.sampled_at or now)


def _kept_timer(state: FeederState, policy: SheddingPolicy, *, now: datetime) -> _Timer | None:
    """Return the timer over a silence: nobody knows what the demand was in one longer than `silent_s`."""
    if state.below_since_at is None or state.below_seen_at is None:
        return None
    if now - state.below_seen_at > timedelta(seconds=policy.silent_s):
        return None
    return state.below_since_at, state.below_seen_at


def _with_timer(state: FeederState, timer: _Timer | None) -> FeederState:
    since_at, seen_at = timer or (None, None)
    return replace(state, below_since_at=since_at, below_seen_at=seen_at)


def _pending_w(
    load: Load, turn: Turn, demand: Demand, policy: SheddingPolicy, *, now: datetime, shadow: bool
) -> int:
    """Return what a shed circuit will take off the measured demand once its relay and the meter follow."""
    power_w = load.power_w or 0
    if shadow:
        return power_w if load.relay is not Relay.OPEN else 0
    if load.relay is Relay.OPEN:
        unseen = (
            demand.source is Source.METERED
            and load.opened_at is not None
            and demand.sampled_at is not None
            and demand.sampled_at <= load.opened_at
        )
        return turn.drew_w if unseen else 0
    if load.shed_at is not None and now - load.shed_at <= timedelta(seconds=policy.follow_s):
        return turn.drew_w
    return 0  # it does not follow: it really draws, and another has to go


def _points(
    points: tuple[tuple[datetime, int], ...],
    at: datetime,
    power_w: int,
    policy: SheddingPolicy,
    *,
    now: datetime,
) -> tuple[tuple[datetime, int], ...]:
    """Keep a thinned past of the window, oldest first."""
    since = now - timedelta(seconds=policy.window_s)
    kept = tuple(point for point in points if point[0] >= since)
    if kept and (at - kept[-1][0]).total_seconds() < policy.window_s / POINTS:
        return kept
    return (*kept, (at, power_w))


def _slope(points: Sequence[tuple[datetime, int]]) -> float:
    """Return the least-squares slope in W/s; 0 where there is too little past."""
    if len(points) < FEWEST_POINTS:
        return 0.0
    origin = points[0][0]
    times = [(at - origin).total_seconds() for at, _ in points]
    mean_s = sum(times) / len(times)
    mean_w = sum(power_w for _, power_w in points) / len(points)
    spread = sum((time - mean_s) ** 2 for time in times)
    if not spread:
        return 0.0
    return (
        sum((time - mean_s) * (power_w - mean_w) for time, (_, power_w) in zip(times, points, strict=True))
        / spread
    )
