"""Prohibited loads in virtual time: which loads look resistive, and what a step leads to."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import hypot
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.loadsteps import (
    NOTHING_SEEN,
    PowerSample,
    StepRules,
    StepWatch,
    from_json,
    power_sample,
    to_json,
    watch,
)
from dormpower.domain.policy import ClearAlarm, LetGo, Place, RaiseAlarm, Wait
from dormpower.domain.prohibited import (
    RULE,
    Action,
    Allowance,
    Band,
    ProhibitedFacts,
    ProhibitedPolicy,
    decide,
)
from dormpower.domain.restoring import Restore
from dormpower.domain.samples import ChannelSample

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
POLICY = ProhibitedPolicy(zone=ZONE, mode=Enforcement.ENFORCE)
RULES = StepRules()


def follow(
    loads: list[tuple[float, float]], *, period_s: float, other_va: float = 40.0, rules: StepRules = RULES
) -> StepWatch:
    """Samples of (W, var) on top of a base of 60 W."""
    seen = NOTHING_SEEN
    for number, (power_w, reactive_va) in enumerate(loads):
        total_w, total_va = power_w + 60, reactive_va + other_va
        sample = PowerSample(
            at=NOON + timedelta(seconds=number * period_s),
            power_w=total_w,
            apparent_va=hypot(total_w, total_va),
        )
        seen = watch(seen, sample, rules)
    return seen


OFF = (0.0, 0.0)


@pytest.mark.parametrize(
    ("rules", "samples"),
    [(StepRules(min_samples=40), 40), (StepRules(min_samples=100), 100), (StepRules(persist_s=60), 61)],
)
def test_a_long_persistence_is_over_when_it_says_and_tells_the_true_sampling_period(
    rules: StepRules, samples: int
) -> None:
    kettle = (1500.0, 0.0)
    assert follow([OFF] * 5 + [kettle] * (samples - 1), period_s=1, rules=rules).found is None
    found = follow([OFF] * 5 + [kettle] * samples, period_s=1, rules=rules).found
    assert found is not None
    assert (found.duration_s, found.sampling_period_s) == (samples - 1, 1.0)


@pytest.mark.parametrize("period_s", [1.0, 5.0, 30.0])
@pytest.mark.parametrize(
    ("name", "load", "found"),
    [
        ("kettle", (1500.0, 0.0), True),
        ("hair dryer", (750.0, 105.0), True),
        ("heater", (1200.0, 0.0), True),
        ("small dispenser", (420.0, 0.0), False),  # below the band
        ("fixed-speed AC", (980.0, 430.0), False),
        ("ten chargers", (600.0, 800.0), False),
    ],
)
def test_which_loads_look_resistive(name: str, load: tuple[float, float], found: bool, period_s: float) -> None:
    seen = follow([OFF] * 5 + [load] * 12, period_s=period_s)
    assert (seen.found is not None) is found
    if seen.found is not None:
        assert seen.found.delta_w == pytest.approx(load[0])
        assert seen.found.sampling_period_s == period_s
        assert seen.found.ratio > 0.95


@pytest.mark.parametrize(
    ("loads", "found"),
    [
        ([(1500.0, 0.0)] * 3 + [OFF] * 9, False),  # a pulse of 3 s
        ([(700.0, 0.0), (1500.0, 0.0)] + [(1500.0, 0.0)] * 7, True),  # a sample within the rise
        ([(600.0 + 100 * n, 0.0) for n in range(20)], False),  # a ramp
        ([(400.0, 0.0), (800.0, 0.0)] + [(1200.0, 0.0)] * 9, False),  # a quick ramp
        ([(4000.0, 500.0)] + [(900.0, 100.0)] * 9, False),  # an inrush
        ([(1500.0, 0.0)] * 9 + [OFF], False),  # gone again
        ([(1500.0, 0.0)] * 9 + [(1560.0, 20.0)] * 3, True),  # still on beside a lamp
    ],
)
def test_what_a_step_has_to_hold(loads: list[tuple[float, float]], found: bool) -> None:
    assert (follow([OFF] * 5 + loads, period_s=1.0).found is not None) is found


def test_unknown_apparent_power_and_gaps_say_nothing() -> None:
    seen = NOTHING_SEEN
    for number in range(12):
        power_w = 1500.0 if number > 4 else 60.0
        seen = watch(
            seen,
            PowerSample(at=NOON + timedelta(seconds=number), power_w=power_w, apparent_va=None),
            RULES,
        )
    assert seen.found is None
    before = follow([OFF] * 5, period_s=1.0)
    later = PowerSample(at=NOON + timedelta(hours=1), power_w=1500.0, apparent_va=1500.0)
    assert watch(before, later, RULES) == StepWatch(recent=(later,))
    assert watch(before, replace(later, at=NOON), RULES) is before


def test_apparent_power_comes_from_volts_and_amps_else_from_the_power_factor() -> None:
    def of(**values: Any) -> PowerSample | None:
        return power_sample(ChannelSample(channel=0, **values), NOON)

    assert of() is None
    assert of(power_w=800.0).apparent_va is None  # type: ignore[union-attr]
    assert of(power_w=800.0, power_factor=0.8).apparent_va == 1000.0  # type: ignore[union-attr]
    measured = of(power_w=800.0, voltage_v=220.0, current_a=5.0, power_factor=0.1)
    assert measured is not None
    assert measured.apparent_va == 1100.0
    assert measured.as_json() == [NOON.isoformat(), 800.0, 1100.0]


KETTLE = follow([OFF] * 5 + [(1500.0, 0.0)] * 8, period_s=1.0).found
assert KETTLE is not None
LATER = KETTLE.judged_at


def facts(**more: Any) -> ProhibitedFacts:
    values: dict[str, Any] = {
        "found": KETTLE,
        "permits": (),
        "holds": (),
        "restores": (),
        "fresh": True,
        "believed": True,
        "alarmed": False,
    }
    return ProhibitedFacts(**values | more)


def hold(**more: Any) -> Hold:
    values: dict[str, Any] = {
        "hold_id": "h",
        "circuit_id": "c",
        "reason": Reason.PROHIBITED,
        "placed_at": NOON,
        "placed_by": RULE,
    }
    return Hold(**values | more)


ALLOWED = Allowance(appliance="dispenser", from_w=1400, to_w=1600)
ALARM_ONLY = (Band(from_w=300, to_w=600), Band(from_w=600, action=Action.ALARM))


@pytest.mark.parametrize(
    ("more", "policy", "expected"),
    [
        ({}, {}, Place),
        ({}, {"mode": Enforcement.SHADOW}, Place),
        ({}, {"mode": Enforcement.OFF}, None),
        ({"found": None}, {}, None),
        ({"permits": (ALLOWED,)}, {}, None),
        ({"permits": (replace(ALLOWED, until_at=NOON),)}, {}, Place),  # expired
        ({"permits": (replace(ALLOWED, to_w=1450),)}, {}, Place),  # for something smaller
        ({}, {"whitelist": (ALLOWED,)}, None),
        ({}, {"bands": (Band(from_w=300, to_w=600),)}, None),
        ({}, {"bands": ALARM_ONLY}, RaiseAlarm),
        ({"alarmed": True}, {"bands": ALARM_ONLY}, None),
        ({}, {"bands": ALARM_ONLY, "mode": Enforcement.SHADOW}, RaiseAlarm),
        ({"alarmed_in_shadow": True}, {"bands": ALARM_ONLY, "mode": Enforcement.SHADOW}, None),
        ({"alarmed_in_shadow": True}, {"bands": ALARM_ONLY}, ClearAlarm),
        ({"alarmed": True}, {"bands": ALARM_ONLY, "mode": Enforcement.SHADOW}, ClearAlarm),
        ({"alarmed": True, "found": None}, {"bands": ALARM_ONLY}, ClearAlarm),
        ({"alarmed": True}, {"mode": Enforcement.OFF}, ClearAlarm),
        ({"holds": (hold(),)}, {}, None),
        ({"holds": (hold(),)}, {"mode": Enforcement.OFF}, LetGo),
        ({"restores": (Restore(at=LATER, reason=Reason.PROHIBITED),)}, {}, None),  # dealt with
        ({"restores": (Restore(at=NOON, reason=Reason.PROHIBITED),)}, {}, Place),
        ({"fresh": False}, {}, Wait),
    ],
)
def test_what_a_step_leads_to(more: dict[str, Any], policy: dict[str, Any], expected: type | None) -> None:
    decision = decide(facts(**more), replace(POLICY, **policy), now=LATER)
    assert (None if decision is None else type(decision)) is expected
    if isinstance(decision, RaiseAlarm):
        assert decision.shadow is (policy.get("mode") is Enforcement.SHADOW)
    if isinstance(decision, ClearAlarm):
        assert decision.shadow is ("alarmed_in_shadow" in more)
    if isinstance(decision, Place):
        assert decision.shadow is (policy.get("mode") is Enforcement.SHADOW)
        assert {
            "delta_w",
            "ratio",
            "power_factor",
            "duration_s",
            "sampling_period_s",
            "before",
            "after",
        } <= set(decision.evidence)


@pytest.mark.parametrize(
    "values",
    [
        {"bands": ()},
        {"bands": (Band(from_w=500, to_w=400),)},
        {"resistive_from": 1.5},
        {"min_samples": 1},
    ],
)
def test_values_that_do_not_go_together_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ProhibitedPolicy(zone=ZONE, **values)


@given(
    st.lists(st.sampled_from([0.0, 300.0, 900.0, 1500.0, 3000.0]), min_size=2, max_size=30),
    st.sampled_from([1.0, 5.0, 30.0]),
)
def test_what_is_kept_of_a_stream_is_all_that_a_restart_needs(levels_w: list[float], period_s: float) -> None:
    watched = StepWatch()
    for number, level_w in enumerate(levels_w):
        at = NOON + timedelta(seconds=period_s * number)
        sample = PowerSample(at=at, power_w=60 + level_w, apparent_va=60 + level_w)
        kept = to_json(watched)
        after = watch(watched, sample, RULES)
        if kept is not None:
            thawed = from_json(json.loads(json.dumps(kept)))
            assert thawed.found == watched.found
            if watched.found is None:
                assert watch(thawed, sample, RULES) == after
        watched = after
