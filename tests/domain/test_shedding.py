"""Feeder shedding in virtual time: tables of decisions, and what must hold whatever happens."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dormpower.domain.alarms import AlarmKind
from dormpower.domain.demand import Tree
from dormpower.domain.fairness import jain_index, pickup_w, returning_order, shedding_order
from dormpower.domain.feeder_facts import (
    Facts,
    FeederFacts,
    Load,
    Plan,
    SheddingPolicy,
    ShedState,
    Source,
    Turn,
    Why,
)
from dormpower.domain.holds import Enforcement
from dormpower.domain.samples import Relay
from dormpower.domain.shedding import plan
from tests.domain.saved_sheds import saved

START = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)
TODAY = date(2026, 7, 20)
POLICY = SheddingPolicy(mode=Enforcement.ENFORCE)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def feeder(power_w: int | None = 10_000, limit_w: int = 9_000, heard_s: float = 0, **more: Any) -> FeederFacts:
    return FeederFacts(
        **{
            "feeder_id": "b",
            "parent": None,
            "limit_w": limit_w,
            "metered": True,
            "power_w": power_w,
            "power_at": at(heard_s),
            **more,
        }
    )


def load(name: str, power_w: int | None = 1000, seconds: float = 0, **more: Any) -> Load:
    return Load(
        **{
            "circuit_id": name,
            "room_id": name.split("-", maxsplit=1)[0],
            "feeder_id": "b",
            "kind": "ac",
            "power_w": power_w,
            "power_at": at(seconds),
            "relay": Relay.CLOSED,
            **more,
        }
    )


def off(name: str, *, since_s: float, seconds: float = 0, **more: Any) -> Load:
    return load(
        name,
        0,
        seconds,
        **{"relay": Relay.OPEN, "opened_at": at(since_s), "shed_at": at(since_s), "min_off_s": 300, **more},
    )


def decide(
    feeders: tuple[FeederFacts, ...],
    loads: list[Load],
    *,
    state: ShedState | None = None,
    policy: SheddingPolicy = POLICY,
    seconds: float = 0,
) -> Plan:
    facts = Facts(feeders=feeders, loads=tuple(loads), today=TODAY)
    return plan(facts, state or ShedState(), policy, now=at(seconds))


def names(made: Plan) -> tuple[list[str], list[str]]:
    return [one.circuit_id for one in made.sheds], [one.circuit_id for one in made.restores]


TEN = [load(f"r{number}-ac") for number in range(10)]


def test_a_feeder_within_its_limit_sheds_nobody() -> None:
    assert names(decide((feeder(9_000),), TEN)) == ([], [])


def test_a_feeder_over_its_limit_is_brought_to_its_target_and_no_further() -> None:
    made = decide((feeder(10_000),), TEN)
    assert names(made)[0] == ["r0-ac", "r1-ac"]  # 10 000 − 2 × 1 000 ≤ 97 % of 9 000
    assert {one.why for one in made.sheds} == {Why.OVER}
    assert [alarm.kind for alarm in made.alarms] == [AlarmKind.FEEDER_OVERLOADED]
    assert "shed r0-ac: 1000 W for b (over)" in str(made)


def test_a_place_that_is_shed_last_goes_after_its_kind_and_comes_back_first() -> None:
    policy = replace(POLICY, priorities=("ac", "lighting"))
    lamp = load("lamp-lighting", kind="lighting")
    order = shedding_order([load("a-ac", last=True), load("b-ac"), lamp], {}, policy, now=START)
    assert [one.circuit_id for one in order] == ["b-ac", "a-ac", "lamp-lighting"]
    waiting = [off("a-ac", since_s=-600), off("b-ac", since_s=-900), off("c-ac", since_s=-600, last=True)]
    back = returning_order(waiting, {}, policy, now=START)
    assert [one.circuit_id for one in back] == ["c-ac", "b-ac", "a-ac"]


@pytest.mark.parametrize(
    ("why", "changed"),
    [
        ("locked or off by another hold", {"held": True}),
        ("shed already", {"shed_at": START}),
        ("its supply is kept", {"exempt": True}),
        ("no relay or no read-back", {"switchable": False}),
        ("no contact", {"online": False}),
        ("does not draw", {"power_w": 99}),
        ("power unknown", {"power_w": None}),
        ("power too old", {"power_at": at(-91)}),
        ("reported open", {"relay": Relay.OPEN}),
        ("relay unknown", {"relay": None}),
        ("lighting is never shed by default", {"kind": "lighting"}),
    ],
)
def test_who_is_not_eligible_is_left_alone(why: str, changed: dict[str, Any]) -> None:
    made = decide((feeder(10_000),), [load("r0-ac", **changed), load("r1-ac"), load("r2-ac")])
    assert names(made)[0] == ["r1-ac", "r2-ac"], why


@pytest.mark.parametrize(
    ("turn", "eligible"),
    [
        (Turn(turns=1, shed_at=at(-1201), restored_at=at(-601)), True),
        (Turn(turns=1, shed_at=at(-1201), restored_at=at(-599)), False),  # minimum on
        (Turn(turns=1, shed_at=at(-1199), restored_at=at(-700)), False),  # between two sheds of a room
    ],
)
def test_minimum_on_and_time_between_two_sheds_are_kept(turn: Turn, eligible: bool) -> None:
    state = ShedState(turns={"r0-ac": turn}, period_on=TODAY)
    made = decide((feeder(10_000),), [load("r0-ac")], state=state)
    assert bool(made.sheds) is eligible


def test_ac_goes_before_lighting_and_a_room_is_shed_once_in_a_plan() -> None:
    policy = replace(POLICY, priorities=("ac", "lighting"))
    loads = [load("r0-lighting", kind="lighting"), load("r0-ac"), load("r1-lighting", kind="lighting")]
    made = decide((feeder(12_000),), loads, policy=policy)
    assert names(made)[0] == ["r0-ac", "r1-lighting"]


def test_fewest_turns_then_least_minutes_go_first() -> None:
    turns = {
        "r0-ac": Turn(turns=2, off_s=10, shed_at=at(-9000)),
        "r1-ac": Turn(turns=1, off_s=900, shed_at=at(-9000)),
        "r2-ac": Turn(turns=1, off_s=300, shed_at=at(-8000)),
    }
    order = shedding_order([load(name) for name in turns], turns, POLICY, now=START)
    assert [one.circuit_id for one in order] == ["r2-ac", "r1-ac", "r0-ac"]


def test_a_shed_that_has_not_followed_yet_is_not_made_twice_and_one_that_never_does_is() -> None:
    first = decide((feeder(10_000),), TEN)
    shed = {one.circuit_id for one in first.sheds}
    stuck = [replace(one, shed_at=START) if one.circuit_id in shed else one for one in TEN]
    again = decide((feeder(10_000, heard_s=10),), stuck, state=first.state, seconds=10)
    assert names(again)[0] == []
    later = decide((feeder(10_000, heard_s=30),), stuck, state=again.state, seconds=30)
    assert names(later)[0] == ["r2-ac", "r3-ac"]


def test_a_rising_demand_is_met_before_it_reaches_the_limit() -> None:
    state = ShedState()
    sheds: list[str] = []
    for step in range(60):
        seconds = step * 10
        loads = [load(f"r{number}-ac", seconds=seconds) for number in range(10)]
        power_w = 8_000 + step * 40
        made = decide((feeder(power_w, heard_s=seconds),), loads, state=state, seconds=seconds)
        state = made.state
        if made.sheds:
            assert power_w <= 9_000
            assert {one.why for one in made.sheds} == {Why.PROJECTED}
            sheds += names(made)[0]
            break
    assert sheds


def test_what_a_floor_sheds_helps_its_building() -> None:
    tree = (
        feeder(10_000, 9_000, feeder_id="b"),
        feeder(5_000, 4_000, feeder_id="f", parent="b"),
    )
    floor = [load(f"f{number}-ac", feeder_id="f") for number in range(5)]
    made = decide(tree, floor + [load(f"g{number}-ac") for number in range(5)])
    assert names(made)[0] == ["f0-ac", "f1-ac"]  # 2 kW: enough for both


def test_a_silent_meter_is_replaced_by_the_sum_with_the_learned_loss_and_restores_nobody() -> None:
    state = ShedState()
    for step in range(200):  # the meter shows 5 % more than the sum
        loads = [load(f"r{number}-ac", seconds=step * 10) for number in range(8)]
        state = decide((feeder(8_400, heard_s=step * 10),), loads, state=state, seconds=step * 10).state
    assert state.feeders["b"].loss == pytest.approx(0.05, abs=0.001)
    loads = [load(f"r{number}-ac", seconds=2070) for number in range(8)]
    loads.append(off("r9-ac", since_s=0, seconds=2070))
    made = decide((feeder(8_400, 20_000, heard_s=1990),), loads, state=state, seconds=2070)
    assert made.demands[0].source is Source.SUMMED
    assert made.demands[0].measured_w == pytest.approx(8_400, abs=10)
    assert names(made) == ([], [])
    assert not made.demands[0].may_restore


@pytest.mark.parametrize(
    ("silent_s", "goes_on"),
    [(30, True), (60, True), (70, False)],
    ids=["short", "as long as may be", "too long"],
)
def test_a_silence_holds_the_hysteresis_and_a_longer_one_ends_it(silent_s: int, goes_on: bool) -> None:
    low = [load("r0-ac", 1000, -200, relay=None)]  # its power is too old for a sum
    state = decide((feeder(1_000, heard_s=0),), low).state
    for seconds in range(10, silent_s + 1, 10):  # as after a start: neither the meter nor the circuit was heard
        state = decide((feeder(None),), low, state=saved(state), seconds=seconds).state
    after = decide((feeder(1_000, heard_s=silent_s),), low, state=state, seconds=silent_s).state.feeders["b"]
    assert after.below_since_at == (at(0) if goes_on else at(silent_s))


def test_a_demand_that_rises_ends_the_hysteresis_at_once() -> None:
    state = decide((feeder(1_000),), [load("r0-ac")]).state
    assert (
        decide((feeder(8_500, heard_s=10),), [load("r0-ac")], state=state, seconds=10)
        .state.feeders["b"]
        .below_since_at
        is None
    )


def test_unknown_demand_holds_the_present_state_and_is_told() -> None:
    loads = [load(f"r{number}-ac", None) for number in range(8)] + [off("r9-ac", since_s=-2000)]
    made = decide((feeder(None),), loads)
    assert names(made) == ([], [])
    assert AlarmKind.FEEDER_UNKNOWN in {alarm.kind for alarm in made.alarms}


def test_a_restore_waits_for_sustained_room() -> None:
    shed = Turn(turns=1, drew_w=1000, shed_at=at(-600), feeder_id="b")
    state = ShedState(turns={"r9-ac": shed}, period_on=TODAY)
    policy = replace(POLICY, rotate_after_s=1e6, max_off_s=1e7)
    restored_at = None
    for step in range(40):
        seconds = step * 10
        power_w = 8_200 if seconds == 100 else 3_000  # one sample above 90 % starts the time anew
        made = decide(
            (feeder(power_w, heard_s=seconds),),
            [off("r9-ac", since_s=-600, seconds=seconds)],
            state=state,
            policy=policy,
            seconds=seconds,
        )
        state = made.state
        if made.restores:
            restored_at = seconds
            break
    assert restored_at == 110 + 180
    assert made.restores[0].why is Why.CAPACITY
    assert made.restores[0].pickup_w == 2_500  # 250 % until its own is learned


def test_no_restore_within_the_minimum_off_time_or_out_of_contact() -> None:
    turns = {"r9-ac": Turn(turns=1, drew_w=100, shed_at=START, feeder_id="b")}
    state = ShedState(turns=turns, period_on=TODAY)
    for step in range(60):
        seconds = step * 10
        out = [
            off("r9-ac", since_s=0, seconds=seconds),
            off("r8-ac", since_s=-900, seconds=seconds, online=False),
        ]
        made = decide((feeder(100, heard_s=seconds),), out, state=state, seconds=seconds)
        state = made.state
        if made.restores:
            break
    assert (seconds, names(made)[1]) == (300, ["r9-ac"])


def test_a_turn_that_is_over_is_swapped_and_returns_only_when_the_room_shows() -> None:
    turns = {"r9-ac": Turn(turns=1, drew_w=1000, pickup=1.0, most_w=1000, shed_at=at(-880), feeder_id="b")}
    state = ShedState(turns=turns, period_on=TODAY)
    on = [load(f"r{number}-ac") for number in range(8)]
    made = decide((feeder(8_700),), [*on, off("r9-ac", since_s=-880)], state=state)
    assert names(made) == (["r0-ac"], [])
    assert made.sheds[0].why is Why.SWAP
    assert made.sheds[0].for_circuit_id == "r9-ac"
    on = [
        off("r0-ac", since_s=0, seconds=10, opened_at=at(3)),
        *(load(f"r{number}-ac", seconds=10) for number in range(1, 8)),
    ]
    after = decide(
        (feeder(7_700, heard_s=10),),
        [*on, off("r9-ac", since_s=-880, seconds=10)],
        state=made.state,
        seconds=10,
    )
    assert names(after) == ([], ["r9-ac"])
    assert after.restores[0].why is Why.TURN_OVER


def test_nobody_to_swap_with_the_limit_wins_and_it_is_told() -> None:
    turns = {"r9-ac": Turn(turns=1, drew_w=1000, shed_at=at(-930), feeder_id="b")}
    made = decide((feeder(8_700),), [off("r9-ac", since_s=-930)], state=ShedState(turns=turns, period_on=TODAY))
    assert names(made) == ([], [])
    assert AlarmKind.MAX_OFF_EXCEEDED in {alarm.kind for alarm in made.alarms}


def test_the_pickup_is_learned_from_what_a_restart_drew() -> None:
    turn = Turn(drew_w=500, restored_at=START, watched=True, expected_w=1250)
    state = ShedState(turns={"r0-ac": turn}, period_on=TODAY)
    for seconds, power_w in ((20, 900), (50, 700), (70, 600)):
        state = decide(
            (feeder(3_000, heard_s=seconds),), [load("r0-ac", power_w, seconds)], state=state, seconds=seconds
        ).state
    learned = state.turns["r0-ac"]
    assert learned.pickup == pytest.approx(2.5 + 0.3 * (1.8 - 2.5))
    assert learned.most_w == 900
    assert pickup_w(load("r0-ac"), learned, POLICY) == round(900 * 1.15)


def test_what_was_let_close_between_two_plans_is_no_trend() -> None:
    state = ShedState()
    for seconds in range(0, 250, 50):
        state = decide((feeder(4_000, heard_s=seconds),), [], state=state, seconds=seconds).state
    back = [
        load(f"r{number}-ac", 1000, 250, lately_w=1000, promised_at=at(245), promised_w=1000)
        for number in range(4)
    ]
    risen = (feeder(8_800, heard_s=250),)
    assert names(decide(risen, back, state=state, seconds=250))[0] == []
    others = [load(f"r{number}-ac", 1000, 250) for number in range(4, 8)]
    assert names(decide(risen, others, state=state, seconds=250))[0] != []
    told = [replace(one, promise_is_new=True) for one in back]
    assert names(decide(risen, [*told, *others], state=state, seconds=250))[0] == []


def test_who_is_shed_in_a_swap_is_shed_for_the_feeder_that_lacks_the_room() -> None:
    floors = (feeder(5_000), feeder(4_900, 5_000, feeder_id="f1", parent="b"))
    back = off("r9-ac", since_s=-880, feeder_id="f1")
    state = ShedState(
        turns={"r9-ac": Turn(turns=1, shed_at=at(-880), feeder_id="b", drew_w=1000)}, period_on=TODAY
    )
    made = decide(floors, [*(load(f"r{number}-ac", feeder_id="f1") for number in range(4)), back], state=state)
    assert {(one.feeder_id, one.limit_w, one.why) for one in made.sheds} == {("f1", 5_000, Why.SWAP)}


def test_a_new_day_counts_anew_but_not_while_anything_is_shed() -> None:
    turns = {"r0-ac": Turn(turns=3, off_s=900.0, shed_at=at(-9000))}
    state = ShedState(turns=turns, period_on=TODAY - timedelta(days=1))
    assert decide((feeder(3_000),), [load("r0-ac")], state=state).state.turns["r0-ac"].turns == 0
    going_on = decide((feeder(8_000),), [load("r0-ac"), off("r9-ac", since_s=-60)], state=state)
    assert going_on.state.turns["r0-ac"].turns == 3


def test_jain_s_index() -> None:
    assert jain_index([5, 5, 5]) == 1
    assert jain_index([1, 0, 0, 0]) == 0.25
    assert jain_index([]) == 1


# --- whatever happens ----------------------------------------------------------------------------------------


class Small:
    """A building of two floors with rooms whose demand jumps about; relays follow within a cycle."""

    def __init__(self, rooms: int, limit_w: int) -> None:
        self.limits = {"b": limit_w, "f1": limit_w * 6 // 10, "f2": limit_w * 6 // 10}
        self.wants_w = {f"r{number}-ac": 600 for number in range(rooms)}
        self.shed_at: dict[str, datetime] = {}
        self.opened_at: dict[str, datetime] = {}
        self.last_shed_at: dict[str, datetime] = {}
        self.restored_at: dict[str, datetime] = {}
        self.turns = dict.fromkeys(self.wants_w, 0)
        self.state = ShedState()
        self.seconds = 0

    def floor_of(self, name: str) -> str:
        return "f1" if int(name[1:-3]) % 2 else "f2"

    def draws_w(self, name: str) -> int:
        return 0 if name in self.opened_at else self.wants_w[name]

    def facts(self, *, heard: bool) -> Facts:
        powers = {
            one: sum(self.draws_w(name) for name in self.wants_w if one in ("b", self.floor_of(name)))
            for one in self.limits
        }
        return Facts(
            feeders=tuple(
                FeederFacts(
                    feeder_id=one,
                    parent=None if one == "b" else "b",
                    limit_w=self.limits[one],
                    metered=True,
                    power_w=powers[one],
                    power_at=at(self.seconds if heard else -10_000),
                )
                for one in self.limits
            ),
            loads=tuple(
                Load(
                    circuit_id=name,
                    room_id=name[:-3],
                    feeder_id=self.floor_of(name),
                    kind="ac",
                    power_w=self.draws_w(name),
                    power_at=at(self.seconds),
                    relay=Relay.OPEN if name in self.opened_at else Relay.CLOSED,
                    opened_at=self.opened_at.get(name),
                    shed_at=self.shed_at.get(name),
                    min_off_s=300,
                )
                for name in self.wants_w
            ),
            today=TODAY,
        )

    def follow(self, made: Plan) -> None:
        for shed in made.sheds:
            self.shed_at[shed.circuit_id] = made.at
            self.last_shed_at[shed.circuit_id] = made.at
            self.turns[shed.circuit_id] += 1
            self.opened_at[shed.circuit_id] = made.at + timedelta(seconds=3)
        for restore in made.restores:
            del self.shed_at[restore.circuit_id]
            del self.opened_at[restore.circuit_id]
            self.restored_at[restore.circuit_id] = made.at
        self.state = made.state
        self.seconds += 10

    def may_be_shed(self, name: str) -> bool:
        """Whether a circuit may be shed now, as docs/shedding.md says it, by what happened to it here."""
        now, never = at(self.seconds), at(-100_000)
        return (
            name not in self.shed_at
            and self.draws_w(name) >= 100
            and now - self.restored_at.get(name, never) >= timedelta(seconds=QUICK.min_on_s)
            and now - self.last_shed_at.get(name, never) >= timedelta(seconds=QUICK.min_between_s)
        )


steps = st.lists(
    st.tuples(
        st.integers(0, 11),  # a room
        st.sampled_from([0, 50, 300, 900, 1500, 2500]),  # wants so many W from now on
        st.booleans(),  # the meters are heard
        st.integers(1, 20),  # for so many cycles
    ),
    max_size=10,
)
QUICK = replace(POLICY, min_on_s=60, min_between_s=120, max_off_s=420, rotate_after_s=310, sustained_s=30)


@settings(max_examples=40, deadline=None)
@given(steps=steps, limit_w=st.integers(2_500, 9_000))
def test_whatever_the_demand_does(steps: list[tuple[int, int, bool, int]], limit_w: int) -> None:
    small = Small(12, limit_w)
    for room, wants_w, heard, cycles in steps:
        small.wants_w[f"r{room}-ac"] = wants_w
        for _ in range(cycles):
            facts, now = small.facts(heard=heard), at(small.seconds)
            made = plan(facts, small.state, QUICK, now=now)
            # The same facts and a state that went through a restart give the same plan.
            assert plan(facts, saved(small.state), QUICK, now=now) == made
            check_restores(facts, made, heard=heard)
            check_turns(small, made)
            small.follow(made)


def check_restores(facts: Facts, made: Plan, *, heard: bool) -> None:
    """Invariants 22 and 23: predicted load within every limit up the tree; none by a silent meter."""
    if not heard:
        assert not made.restores
    tree = Tree(facts.feeders, facts.loads)
    loads = {one.circuit_id: one for one in facts.loads}
    for demand in made.demands:
        pickups_w = sum(
            one.pickup_w
            for one in made.restores
            if demand.feeder_id in tree.paths[loads[one.circuit_id].feeder_id]
        )
        if pickups_w:
            assert demand.sure_w + pickups_w <= demand.limit_w
    for one in made.restores:
        assert (made.at - one.shed_at).total_seconds() >= 300


def check_turns(small: Small, made: Plan) -> None:
    """Only who may be is shed, and nobody while another below the same feeder has had fewer turns."""
    gone = {one.circuit_id for one in made.sheds}
    for shed in made.sheds:
        assert small.may_be_shed(shed.circuit_id)
        assert shed.feeder_id in ("b", small.floor_of(shed.circuit_id))
        for name, turns in small.turns.items():
            below = shed.feeder_id in ("b", small.floor_of(name))
            if below and name not in gone and small.may_be_shed(name):
                assert turns >= small.turns[shed.circuit_id]
