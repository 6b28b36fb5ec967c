"""Trees of feeders in modes of their own: decided in one plan, each as if it were alone."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from dormpower.domain.feeder_facts import Facts, FeederFacts, Load, SheddingPolicy, ShedState, TreeMode
from dormpower.domain.holds import Enforcement
from dormpower.domain.samples import Relay
from dormpower.domain.shedding import plan, plan_site

NOW = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)
TODAY = date(2026, 7, 20)
FEEDERS = tuple(
    FeederFacts(feeder_id=name, parent=parent, limit_w=2_500, metered=True, power_w=3_000, power_at=NOW)
    for name, parent in (("a", None), ("a-1", "a"), ("b", "away"), ("c", None))
)
LOADS = tuple(
    Load(
        circuit_id=f"{feeder}-r{number}-ac",
        room_id=f"{feeder}-r{number}",
        feeder_id=feeder,
        kind="ac",
        power_w=1_000,
        power_at=NOW,
        relay=Relay.CLOSED,
    )
    for feeder in ("a-1", "b", "c")
    for number in range(3)
)
POLICY = SheddingPolicy(
    mode=Enforcement.ENFORCE,
    modes=(
        TreeMode(root_id="b", mode=Enforcement.SHADOW),
        TreeMode(root_id="c", mode=Enforcement.OFF),
    ),
)


def test_each_tree_is_decided_as_if_it_were_alone_and_one_that_is_off_not_at_all():
    facts = Facts(feeders=FEEDERS, loads=LOADS, today=TODAY)
    made = plan_site(facts, ShedState(), POLICY, now=NOW)
    alone = {
        mode: plan(
            replace(facts, feeders=tuple(one for one in FEEDERS if one.feeder_id in names)),
            ShedState(),
            replace(POLICY, mode=mode),
            now=NOW,
        )
        for mode, names in ((Enforcement.ENFORCE, {"a", "a-1"}), (Enforcement.SHADOW, {"b"}))
    }
    assert [shed.circuit_id for shed in made.sheds] == ["a-1-r0-ac", "b-r0-ac"]
    assert made.sheds == tuple(shed for one in alone.values() for shed in one.sheds)
    assert [demand.feeder_id for demand in made.demands] == ["a", "a-1", "b"]
    assert {alarm.feeder_id for alarm in made.alarms} == {"a", "a-1", "b"}
    assert set(made.state.feeders) == {"a", "a-1", "b"}


def test_what_is_remembered_of_both_lives_on_in_the_next_plan():
    facts = Facts(feeders=FEEDERS, loads=LOADS, today=TODAY)
    first = plan_site(facts, ShedState(), POLICY, now=NOW)
    shed = {one.circuit_id for one in first.sheds}
    after = tuple(replace(one, shed_at=NOW) if one.circuit_id in shed else one for one in LOADS)
    next_day = replace(facts, loads=after, today=TODAY + timedelta(days=1))
    second = plan_site(next_day, first.state, POLICY, now=NOW + timedelta(seconds=10))
    assert second.sheds == ()  # both are about to follow
    assert {one for one, turn in second.state.turns.items() if turn.turns} == shed
    assert second.state.period_on == TODAY  # no turn ends at midnight, in either tree


def test_a_policy_sleeps_only_where_every_tree_does():
    assert not POLICY.sleeps
    assert SheddingPolicy(mode=Enforcement.OFF).sleeps
    assert not replace(POLICY, mode=Enforcement.OFF).sleeps
