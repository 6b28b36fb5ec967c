"""Overload in virtual time: which samples trip, and how often a trip ends by itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.policy import Latch, LetGo, Place, Wait
from dormpower.domain.protection import (
    RULE,
    LimitInForce,
    OverCount,
    OverloadFacts,
    OverloadPolicy,
    decide,
    from_json,
    is_night,
    limit_in_force,
    to_json,
    watch,
)
from dormpower.domain.restoring import Restore, RestorePolicy, planned_release_at, release

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
LIMIT = LimitInForce(limit_w=800, limit_of="limit_w")
POLICY = OverloadPolicy(zone=ZONE, limit_w=800, mode=Enforcement.ENFORCE)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def run(samples: list[tuple[float, float | None]], policy: OverloadPolicy = POLICY) -> OverCount | None:
    over: OverCount | None = None
    for seconds, power_w in samples:
        over = watch(
            over, power_w=power_w, at=at(seconds), limit=limit_in_force(policy, now=NOON), max_gap_s=150
        )
    return over


def facts(over: OverCount | None = None, **more: Any) -> OverloadFacts:
    return OverloadFacts(**{"over": over, "holds": (), "restores": (), "fresh": True, "believed": True} | more)


def hold(**more: Any) -> Hold:
    values = {
        "hold_id": "h",
        "circuit_id": "c",
        "reason": Reason.OVERLOAD,
        "placed_at": NOON,
        "placed_by": RULE,
    }
    return Hold(**values | more)


@pytest.mark.parametrize(
    ("samples", "trips"),
    [
        ([(0, 900.0)], False),  # one sample is never enough
        ([(0, 900.0), (2, 900.0)], False),  # two, but not for long enough
        ([(0, 900.0), (5, 900.0)], True),
        ([(0, 900.0), (1, 900.0), (2, 900.0), (3, 900.0), (4, 900.0), (5, 900.0)], True),
        ([(0, 900.0), (30, 900.0)], True),
        ([(0, 800.0), (30, 800.0)], False),  # exactly the limit is within it
        ([(0, 900.0), (3, 700.0), (6, 900.0)], False),  # begins anew
        ([(0, 900.0), (3, None), (6, 900.0)], True),  # unknown says nothing, either way
        ([(0, None), (30, None)], False),
        ([(0, 900.0), (0, 900.0)], False),  # the same sample twice
        ([(0, 900.0), (151, 900.0)], False),  # nobody knows what flowed meanwhile
        ([(0, 900.0), (151, 900.0), (156, 900.0)], True),
    ],
)
def test_which_samples_trip(samples: list[tuple[float, float | None]], trips: bool) -> None:
    decision = decide(facts(run(samples)), POLICY, now=at(samples[-1][0]))
    assert isinstance(decision, Place) is trips


def test_the_evidence_says_samples_limit_and_sampling_period() -> None:
    decision = decide(facts(run([(0, 900.0), (5, 950.0)])), POLICY, now=at(5))
    assert isinstance(decision, Place)
    assert not decision.counts
    assert decision.expected_release_at == at(305)
    assert decision.evidence["samples"] == [[at(0).isoformat(), 900.0], [at(5).isoformat(), 950.0]]
    assert (decision.evidence["limit_w"], decision.evidence["sampling_period_s"]) == (800, 5.0)


def test_without_a_new_sample_nothing_is_tripped() -> None:
    over = run([(0, 900.0), (5, 900.0)])
    assert decide(facts(over, fresh=False), POLICY, now=at(9)) == Wait(why="no_new_sample")
    assert decide(facts(run([(0, 900.0)])), POLICY, now=at(0)) == Wait(why="debounce")
    assert decide(facts(), POLICY, now=NOON) is None


@pytest.mark.parametrize(
    ("mode", "holds", "expected"),
    [
        (Enforcement.ENFORCE, (), "enforced"),
        (Enforcement.SHADOW, (), "shadow"),
        (Enforcement.OFF, (), None),
        (Enforcement.ENFORCE, (hold(expected_release_at=at(900)),), None),
        (Enforcement.SHADOW, (hold(shadow=True, expected_release_at=at(900)),), None),
        (Enforcement.SHADOW, (hold(expected_release_at=at(900)),), "let go"),
        (Enforcement.OFF, (hold(),), "let go"),
        (Enforcement.ENFORCE, (hold(placed_by="rule:other"),), "enforced"),
    ],
)
def test_each_mode_places_and_ends_its_own(
    mode: Enforcement, holds: tuple[Hold, ...], expected: str | None
) -> None:
    decision = decide(facts(run([(0, 900.0), (5, 900.0)]), holds=holds), replace(POLICY, mode=mode), now=at(5))
    found = (
        {False: "enforced", True: "shadow"}[decision.shadow]
        if isinstance(decision, Place)
        else "let go"
        if isinstance(decision, LetGo)
        else None
    )
    assert found == expected


def test_at_night_the_nights_limit_is_in_force() -> None:
    policy = replace(POLICY, night_limit_w=300, night=("23:00-06:00",))
    night = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)  # midnight on the campus
    found = [limit_in_force(policy, now=now) for now in (NOON, night)]
    assert found == [
        LimitInForce(limit_w=800, limit_of="limit_w"),
        LimitInForce(limit_w=300, limit_of="night_limit_w"),
    ]
    assert [is_night(policy, now=now) for now in (NOON, night)] == [False, True]
    assert limit_in_force(POLICY, now=night) == LimitInForce(limit_w=800, limit_of="limit_w")
    assert watch(None, power_w=9e9, at=NOON, limit=None, max_gap_s=1) is None


@pytest.mark.parametrize(
    "values", [{"debounce_samples": 1}, {"night_limit_w": 300}, {"restores_a_day": -1}, {"night": ("x",)}]
)
def test_values_that_do_not_go_together_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        OverloadPolicy(zone=ZONE, **values)


def test_a_count_survives_a_restart_at_any_step() -> None:
    samples = [(0, 900.0), (2, 900.0), (4, 900.0), (6, 900.0)]
    over: OverCount | None = None
    for seconds, power_w in samples:
        over = watch(
            None if over is None else from_json(to_json(over)),
            power_w=power_w,
            at=at(seconds),
            limit=LIMIT,
            max_gap_s=150,
        )
    assert over == run(samples)


RESTORING = RestorePolicy(zone=ZONE, delay_s=300, times_a_day=2)


@pytest.mark.parametrize(
    ("the_hold", "mode", "fresh", "used", "expected"),
    [
        (hold(expected_release_at=at(0)), Enforcement.ENFORCE, True, 0, LetGo),
        (hold(expected_release_at=at(1)), Enforcement.ENFORCE, True, 0, None),
        (hold(expected_release_at=at(0)), Enforcement.ENFORCE, False, 0, None),  # only on fresh data
        (hold(expected_release_at=at(0)), Enforcement.ENFORCE, True, 2, Latch),
        (hold(), Enforcement.ENFORCE, True, 0, None),  # latched: maintenance
        (hold(expected_release_at=at(0), shadow=True), Enforcement.SHADOW, False, 0, LetGo),
        (hold(shadow=True), Enforcement.SHADOW, True, 0, None),
        (hold(shadow=True, placed_at=at(-86_400)), Enforcement.SHADOW, True, 0, LetGo),
        (hold(expected_release_at=at(900)), Enforcement.OFF, False, 0, LetGo),
    ],
)
def test_how_a_trip_ends(
    the_hold: Hold, mode: Enforcement, fresh: bool, used: int, expected: type | None
) -> None:
    restores = tuple(Restore(at=at(-60), reason=Reason.MODULE_TRIP) for _ in range(used))
    ended = release(the_hold, RESTORING, restores, mode=mode, fresh=fresh, now=NOON)
    assert (None if ended is None else type(ended)) is expected


def test_yesterdays_closings_and_others_in_shadow_do_not_count() -> None:
    restores = (
        Restore(at=at(-86_400), reason=Reason.OVERLOAD),
        Restore(at=at(-60), reason=Reason.OVERLOAD, shadow=True),
        Restore(at=at(-60), reason=Reason.PROHIBITED),
    )

    def planned(*, shadow: bool) -> datetime | None:
        return planned_release_at(RESTORING, restores, reason=Reason.OVERLOAD, shadow=shadow, now=NOON)

    assert planned(shadow=False) == at(300)
    assert planned(shadow=True) is None
    never = RestorePolicy(zone=ZONE, delay_s=None, times_a_day=2)
    assert planned_release_at(never, (), reason=Reason.OVERLOAD, shadow=False, now=NOON) is None


@given(
    st.lists(st.tuples(st.sampled_from(["over", "calm", "restart"]), st.integers(1, 4000)), max_size=120),
    st.integers(0, 4),
)
def test_a_circuit_never_closes_by_itself_more_than_n_times_a_campus_day(
    steps: list[tuple[str, int]], times_a_day: int
) -> None:
    policy = replace(POLICY, restores_a_day=times_a_day)
    now, over, standing = NOON, None, ()
    restores: list[Restore] = []
    for step, seconds in steps:
        now += timedelta(seconds=seconds)
        power_w = 900.0 if step == "over" and not standing else 0.0
        if step == "restart" and over is not None:
            over = from_json(to_json(over))
        over = watch(over, power_w=power_w, at=now, limit=LIMIT, max_gap_s=5000)
        decision = decide(facts(over, holds=standing, restores=tuple(restores)), policy, now=now)
        if isinstance(decision, Place):
            standing = (hold(placed_at=now, expected_release_at=decision.expected_release_at),)
        elif isinstance(decision, Latch):
            standing = (replace(standing[0], expected_release_at=None),)
        elif isinstance(decision, LetGo):
            standing = ()
            restores.append(Restore(at=now, reason=Reason.OVERLOAD))
    days = [one.at.astimezone(ZONE).date() for one in restores]
    assert all(days.count(day) <= times_a_day for day in days)
