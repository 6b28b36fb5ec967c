"""Feeder shedding: which circuits are taken off a feeder that is over its limit, and when they come back.

Theory of operation. Feeders form a tree, and a circuit's current flows through every feeder from its own up to
the root: it is shed for whichever of them is over its limit, and it comes back only when all of them have room.
Each cycle makes one `Plan` from what is known now (`Facts`) and what is remembered (`ShedState`); the plan
holds the next state, so that saving the two together makes every timer survive a restart.

1. *Demand* (`demand.py`). Each feeder has what flows, what will be left when the relays have followed, and what
   restored circuits may still pick up. A shed is judged by the second, so that nobody is shed twice for one
   excess; a restore by the first and third, so that nothing is promised that has not come free.
2. *Shedding.* A feeder above its limit, now or within `look_ahead_s` by its trend, is brought to `shed_to` of
   it: circuits that draw, in the order of `fairness.py`, deepest feeder first, so that what a floor sheds
   helps its building too. The limit wins over everybody's comfort; unknown demand sheds nothing.
3. *Returning* (`returning.py`). After the demand has been below `restore_below` of every limit above for
   `sustained_s`, circuits come back in batches, each with the pickup that it is expected to draw; the sum never
   exceeds a limit (invariant 23). Short of that, circuits take turns: from `rotate_after_s` on, some each
   cycle, another circuit is shed for one that has been off long enough, which returns only once the room shows
   in the demand. Nobody eligible: it stays off, the limit wins, and from `max_off_s` on there is an alarm.
4. *Other closings.* A circuit that another rule or a person lets go asks for room too. Where it has none it
   waits, and takes its turn among the shed ones; an urgent one (`Load.urgent`) is the first to get room.

Everything is a function of facts, state and `now`: the same plan each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from dormpower.domain.alarms import AlarmKind
from dormpower.domain.demand import Tree, demands, moved
from dormpower.domain.fairness import (
    begin_period,
    drew_before_w,
    note_opening,
    off_since,
    shedding_order,
    watch,
)
from dormpower.domain.feeder_facts import (
    NO_FEEDER_STATE,
    NO_TURN,
    Facts,
    FeederAlarm,
    FeederState,
    Plan,
    SheddingPolicy,
    ShedState,
    Source,
    Turn,
    Why,
)
from dormpower.domain.holds import Enforcement
from dormpower.domain.returning import give_back
from dormpower.domain.shed_draft import Draft

RULE = "rule:shedding"


def plan_site(facts: Facts, state: ShedState, policy: SheddingPolicy, *, now: datetime) -> Plan:
    """Return what to do now in all trees of feeders, each in its own mode; those that are off are left out."""
    paths = Tree(facts.feeders, ()).paths
    made: list[Plan] = []
    for mode in (Enforcement.ENFORCE, Enforcement.SHADOW):
        feeders = tuple(one for one in facts.feeders if policy.mode_of(paths[one.feeder_id][-1]) is mode)
        if feeders:
            one = plan(replace(facts, feeders=feeders), state, replace(policy, mode=mode), now=now)
            state = replace(one.state, feeders={**state.feeders, **one.state.feeders})
            made.append(one)
    return Plan(
        at=now,
        demands=tuple(sorted((one for each in made for one in each.demands), key=lambda one: one.feeder_id)),
        sheds=tuple(one for each in made for one in each.sheds),
        restores=tuple(one for each in made for one in each.restores),
        grants=tuple(one for each in made for one in each.grants),
        alarms=tuple(one for each in made for one in each.alarms),
        state=state,
    )


def plan(facts: Facts, state: ShedState, policy: SheddingPolicy, *, now: datetime) -> Plan:
    """Return what to do now. Pure: the same facts, state and `now` give the same plan."""
    tree = Tree(facts.feeders, facts.loads)
    turns, period_on = begin_period(state.turns, facts.loads, period_on=state.period_on, today=facts.today)
    watched = dict(turns)
    for load in facts.loads:
        before = watched.get(load.circuit_id, NO_TURN)
        after = note_opening(load, watch(load, before, policy, now=now))
        if after != before:
            watched[load.circuit_id] = after
    state = replace(state, turns=watched, feeders=_moved_by_promises(tree, state, watched))
    found, feeders = demands(tree, state, policy, now=now)
    in_tree = [load for load in facts.loads if load.feeder_id in tree.feeders]
    draft = Draft(
        tree=tree,
        policy=policy,
        demands=found,
        turns=watched,
        candidates=shedding_order(in_tree, watched, policy, now=now),
        now=now,
    )
    for feeder_id in tree.deepest_first:
        _shed_for(draft, feeder_id)
    give_back(draft, in_tree)
    alarms = _alarms(draft, state, listening_since_at=facts.listening_since_at)
    return Plan(
        at=now,
        demands=tuple(found[feeder_id] for feeder_id in sorted(found)),
        sheds=tuple(draft.sheds),
        restores=tuple(draft.restores),
        grants=tuple(draft.grants),
        alarms=alarms,
        state=ShedState(
            feeders={
                feeder_id: _remembered(draft, feeders, feeder_id, alarms) for feeder_id in sorted(feeders)
            },
            turns=draft.turns,
            period_on=period_on,
        ),
    )


def _moved_by_promises(tree: Tree, state: ShedState, turns: Mapping[str, Turn]) -> Mapping[str, FeederState]:
    """Move the feeders' past by what was let close since the last plan: that rise is no trend."""
    by_w: dict[str, int] = {}
    for feeder_id, loads in tree.below.items():
        for load in loads:
            if load.promise_is_new:
                drew_w = drew_before_w(load, turns.get(load.circuit_id, NO_TURN))
                by_w[feeder_id] = by_w.get(feeder_id, 0) + drew_w
    return {feeder_id: moved(one, by_w.get(feeder_id, 0)) for feeder_id, one in state.feeders.items()}


def _shed_for(draft: Draft, feeder_id: str) -> None:
    """Bring one feeder down to `shed_to` of its limit, as far as there is somebody to shed."""
    demand = draft.demands[feeder_id]
    if demand.source is Source.UNKNOWN:
        return
    relieved_w = draft.relief_w.get(feeder_id, 0)
    expected_w, projected_w = demand.expected_w - relieved_w, demand.projected_w - relieved_w
    if expected_w <= demand.limit_w and projected_w <= demand.limit_w:
        return
    draft.over.add(feeder_id)
    why = Why.OVER if expected_w > demand.limit_w else Why.PROJECTED
    need_w = max(expected_w, projected_w) - round(draft.policy.shed_to * demand.limit_w)
    for load in draft.candidates_below(feeder_id):
        if need_w <= 0:
            return
        if load.room_id in draft.taken_rooms:
            continue
        draft.take_off(load, feeder_id=feeder_id, why=why)
        need_w -= load.power_w or 0


def _alarms(draft: Draft, before: ShedState, *, listening_since_at: datetime | None) -> tuple[FeederAlarm, ...]:
    """Return what stands: at its limit, unknown, and turns that are too long."""
    shadow = draft.policy.mode is Enforcement.SHADOW
    # Just after a start nothing has been heard yet: unknown then is news only once it lasts.
    starting = listening_since_at is not None and draft.now - listening_since_at <= timedelta(
        seconds=draft.policy.silent_s
    )
    back = {one.circuit_id for one in draft.restores} | {one.circuit_id for one in draft.grants}
    off: dict[str, int] = {}
    too_long: dict[str, int] = {}
    # A swap takes two cycles: as long as it may is no alarm.
    longest = timedelta(seconds=draft.policy.max_off_s + 2 * draft.policy.cycle_s)
    for feeder_id in draft.tree.deepest_first:
        for load in draft.tree.own[feeder_id]:
            since_at = off_since(load)
            if since_at is None or load.circuit_id in back or load.held:
                continue
            owner = load.feeder_id
            if load.shed_at is not None:
                owner = draft.turns.get(load.circuit_id, NO_TURN).feeder_id or owner
                off[owner] = off.get(owner, 0) + 1
            if draft.now - since_at > longest:
                too_long[owner] = too_long.get(owner, 0) + 1
    for shed in draft.sheds:
        off[shed.feeder_id] = off.get(shed.feeder_id, 0) + 1
    found = []
    for feeder_id in sorted(draft.demands):
        demand = draft.demands[feeder_id]
        kinds = []
        over = demand.measured_w is not None and demand.measured_w > demand.limit_w
        if over or (off.get(feeder_id) and not shadow):
            kinds.append(AlarmKind.FEEDER_OVERLOADED)
        stood = AlarmKind.FEEDER_UNKNOWN in before.feeders.get(feeder_id, NO_FEEDER_STATE).alarms
        if demand.source is Source.UNKNOWN and (stood or not starting):
            kinds.append(AlarmKind.FEEDER_UNKNOWN)
        if too_long.get(feeder_id) and not shadow:
            kinds.append(AlarmKind.MAX_OFF_EXCEEDED)
        found += [
            FeederAlarm(
                kind=kind,
                feeder_id=feeder_id,
                demand_w=demand.measured_w,
                limit_w=demand.limit_w,
                source=demand.source,
                circuits_off=off.get(feeder_id, 0),
            )
            for kind in kinds
        ]
    return tuple(found)


def _remembered(
    draft: Draft, feeders: Mapping[str, FeederState], feeder_id: str, alarms: Sequence[FeederAlarm]
) -> FeederState:
    by_w = draft.restored_w.get(feeder_id, 0) - draft.relief_w.get(feeder_id, 0)
    return replace(
        moved(feeders[feeder_id], by_w),
        alarms=tuple(alarm.kind for alarm in alarms if alarm.feeder_id == feeder_id),
    )
