"""Arrears in virtual time: tables of (what is so, what must be decided)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.arrears import (
    NO_WARNINGS,
    ArrearsFacts,
    ArrearsPolicy,
    Level,
    Remember,
    Warn,
    Warnings,
    courtesy_until,
    cut_not_before_at,
    decide,
    level_of,
    parse_window,
)
from dormpower.domain.holds import Enforcement
from dormpower.domain.policy import LetGo, Place, Wait

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)  # 12:00 in Shanghai
POLICY = ArrearsPolicy(zone=ZONE, courtesy=("23:00-07:00",))
LONG_AGO = Warnings(first_at=NOON - timedelta(days=3), second_at=NOON - timedelta(days=2))


def facts(available_wh: int = -5, **more: Any) -> ArrearsFacts:
    return ArrearsFacts(**{"available_wh": available_wh, "fresh": True, "warnings": LONG_AGO, **more})


@pytest.mark.parametrize(
    ("available_wh", "level"),
    [
        (20_001, Level.OK),
        (20_000, Level.LOW),
        (5_001, Level.LOW),
        (5_000, Level.CRITICAL),
        (1, Level.CRITICAL),
        (0, Level.ARREARS),
        (-1, Level.ARREARS),
    ],
)
def test_levels_at_their_thresholds(available_wh: int, level: Level) -> None:
    assert level_of(available_wh, POLICY) is level


@pytest.mark.parametrize(
    ("why", "more"),
    [
        ("keep_supply", {"keep_supply": True}),
        ("payment_pending", {"payment_pending_since": NOON - timedelta(seconds=899)}),
        ("no_fresh_reading", {"fresh": False}),
    ],
)
def test_what_speaks_against_a_cut_makes_it_wait(why: str, more: dict[str, Any]) -> None:
    decision = decide(facts(**more), POLICY, now=NOON)
    assert isinstance(decision, Wait)
    assert decision.why == why


def test_with_nothing_against_it_the_cut_is_made_with_its_evidence() -> None:
    decision = decide(facts(sampled_at=NOON, sampling_period_s=30.0), POLICY, now=NOON)
    assert isinstance(decision, Place)
    assert decision.counts
    assert decision.evidence["available_wh"] == -5
    assert decision.evidence["sampling_period_s"] == 30.0
    assert decision.evidence["second_warning_at"] == (NOON - timedelta(days=2)).isoformat()


def test_a_payment_that_never_comes_does_not_wait_for_ever() -> None:
    late = facts(payment_pending_since=NOON - timedelta(seconds=900))
    assert isinstance(decide(late, POLICY, now=NOON), Place)


@pytest.mark.parametrize(("since_s", "cut"), [(43_199, False), (43_200, True)])
def test_the_second_warning_leads_the_cut(since_s: int, cut: bool) -> None:
    given_at = replace(LONG_AGO, second_at=NOON - timedelta(seconds=since_s))
    decision = decide(facts(warnings=given_at), POLICY, now=NOON)
    assert isinstance(decision, Place if cut else Wait)


def test_a_balance_that_falls_at_once_is_still_warned_twice() -> None:
    first = decide(facts(warnings=NO_WARNINGS), POLICY, now=NOON)
    assert isinstance(first, Warn)
    second = decide(facts(warnings=first.warnings), POLICY, now=NOON)
    assert isinstance(second, Warn)
    third = decide(facts(warnings=second.warnings), POLICY, now=NOON)
    assert (first.number, second.number) == (1, 2)
    assert third == Wait(why="warning_lead", until_at=NOON + timedelta(hours=12))


def test_low_is_warned_once_and_critical_a_second_time() -> None:
    assert decide(facts(20_001, warnings=NO_WARNINGS), POLICY, now=NOON) is None
    first = decide(facts(20_000, warnings=NO_WARNINGS), POLICY, now=NOON)
    assert isinstance(first, Warn)
    assert decide(facts(5_001, warnings=first.warnings), POLICY, now=NOON) is None
    assert isinstance(decide(facts(5_000, warnings=first.warnings), POLICY, now=NOON), Warn)


def test_a_balance_that_rises_takes_its_warnings_back() -> None:
    assert decide(facts(20_001), POLICY, now=NOON) == Remember(warnings=NO_WARNINGS)
    partly = decide(facts(6_000), POLICY, now=NOON)
    assert partly == Remember(warnings=replace(LONG_AGO, second_at=None))


@pytest.mark.parametrize(
    ("local_hour", "minute", "end_hour"),
    [(22, 59, None), (23, 0, 7), (0, 0, 7), (6, 59, 7), (7, 0, None)],
)
def test_courtesy_hours_wrap_midnight(local_hour: int, minute: int, end_hour: int | None) -> None:
    local = datetime(2026, 3, 2, local_hour, minute, tzinfo=ZONE)
    until = courtesy_until(POLICY, now=local.astimezone(UTC))
    assert (None if until is None else until.astimezone(ZONE).hour) == end_hour


def test_a_cut_due_in_courtesy_hours_waits_for_their_end_and_is_then_spread() -> None:
    night = datetime(2026, 3, 2, 18, 0, tzinfo=UTC)  # 02:00
    noted = decide(facts(), POLICY, now=night)
    assert noted == Remember(warnings=replace(LONG_AGO, deferred=True))
    waiting = decide(facts(warnings=replace(LONG_AGO, deferred=True)), POLICY, now=night)
    assert waiting == Wait(why="courtesy", until_at=datetime(2026, 3, 2, 23, 0, tzinfo=UTC))
    morning = decide(facts(warnings=replace(LONG_AGO, deferred=True)), POLICY, now=night + timedelta(hours=5))
    assert isinstance(morning, Place)
    assert morning.deferred


def test_courtesy_hours_are_right_where_a_clock_hour_is_missed() -> None:
    berlin = ArrearsPolicy(zone=ZoneInfo("Europe/Berlin"), courtesy=("01:00-06:00",))
    before = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # 01:30, half an hour before the clocks go on
    assert courtesy_until(berlin, now=before) == datetime(2026, 3, 29, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("warned_h_ago", "more", "in_h"),
    [
        (None, {}, None),  # no second warning yet
        (0, {}, 19),  # its lead ends within courtesy hours: at their end
        (6, {}, 6),
        (48, {}, 0),  # only the balance stands between
        (6, {"keep_supply": True}, None),
        (6, {"mode": Enforcement.SHADOW}, None),
        (6, {"given_in": Enforcement.SHADOW}, None),  # told nobody
    ],
)
def test_the_earliest_instant_of_a_cut_is_told_from_the_second_warning_on(
    warned_h_ago: int | None, more: dict[str, Any], in_h: int | None
) -> None:
    second_at = None if warned_h_ago is None else NOON - timedelta(hours=warned_h_ago)
    given = Warnings(
        first_at=NOON - timedelta(days=3),
        second_at=second_at,
        mode=more.get("given_in", Enforcement.ENFORCE),
    )
    policy = replace(POLICY, mode=more.get("mode", Enforcement.ENFORCE))
    at = cut_not_before_at(given, policy, keep_supply=more.get("keep_supply", False), now=NOON)
    assert at == (None if in_h is None else NOON + timedelta(hours=in_h))


@given(st.integers(0, 96), st.integers(0, 96), st.booleans())
def test_no_cut_comes_before_the_instant_that_was_told(warned_h_ago: int, later_h: int, deferred: bool) -> None:
    second_at = NOON - timedelta(hours=warned_h_ago)
    given = Warnings(first_at=second_at, second_at=second_at, deferred=deferred)
    told_at = cut_not_before_at(given, POLICY, keep_supply=False, now=NOON)
    then = NOON + timedelta(hours=later_h)
    cut = isinstance(decide(facts(warnings=given), POLICY, now=then), Place)
    assert told_at is not None
    assert not cut or then >= told_at


def test_a_payment_releases_without_any_fresh_reading() -> None:
    paid = facts(1, standing=True, fresh=False)
    assert isinstance(decide(paid, POLICY, now=NOON), LetGo)
    assert decide(facts(0, standing=True, fresh=False), POLICY, now=NOON) is None


@pytest.mark.parametrize("shadow", [False, True])
def test_a_room_that_comes_onto_the_keep_supply_list_is_let_go(shadow: bool) -> None:
    policy = replace(POLICY, mode=Enforcement.SHADOW if shadow else Enforcement.ENFORCE)
    cut = {"standing_shadow" if shadow else "standing": True, "warnings": NO_WARNINGS}
    assert decide(facts(-10_000, **cut), policy, now=NOON) is None
    released = decide(facts(-10_000, keep_supply=True, fresh=False, **cut), policy, now=NOON)
    assert isinstance(released, LetGo)
    assert (released.shadow, released.evidence["cause"]) == (shadow, "keep_supply")


def test_the_overdraft_lowers_the_floor_for_cut_and_release_alike() -> None:
    policy = replace(POLICY, overdraft_wh=1_000)
    assert decide(facts(-999), policy, now=NOON) is None
    assert isinstance(decide(facts(-1_000), policy, now=NOON), Place)
    assert isinstance(decide(facts(-999, standing=True), policy, now=NOON), LetGo)


def test_turning_the_policy_off_releases_what_it_held() -> None:
    off = replace(POLICY, mode=Enforcement.OFF)
    assert isinstance(decide(facts(standing=True), off, now=NOON), LetGo)
    assert decide(facts(warnings=NO_WARNINGS), off, now=NOON) is None


def test_warnings_given_in_shadow_do_not_count_once_it_is_enforced() -> None:
    told_nobody = replace(LONG_AGO, mode=Enforcement.SHADOW)
    assert decide(facts(warnings=told_nobody), POLICY, now=NOON) == Remember(warnings=NO_WARNINGS)


@pytest.mark.parametrize("text", ["", "23:00", "25:00-07:00", "a-b", "23:00-"])
def test_a_window_that_is_none_is_refused_with_what_was_found(text: str) -> None:
    with pytest.raises(ValueError, match="expected local hours"):
        parse_window(text)


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="critical_wh <= low_wh"):
        ArrearsPolicy(zone=ZONE, low_wh=1, critical_wh=2)


@given(
    st.lists(
        st.tuples(st.integers(-30_000, 30_000), st.integers(1, 90_000), st.booleans(), st.booleans()),
        max_size=40,
    )
)
def test_no_cut_comes_without_two_warnings_of_which_the_second_is_old_enough(
    steps: list[tuple[int, int, bool, bool]],
) -> None:
    now, warnings, standing = NOON, NO_WARNINGS, False
    second_at: datetime | None = None
    for available_wh, later_s, fresh, keep in steps:
        now += timedelta(seconds=later_s)
        for _ in range(8):
            decision = decide(
                facts(available_wh, fresh=fresh, keep_supply=keep, warnings=warnings, standing=standing),
                POLICY,
                now=now,
            )
            match decision:
                case Warn():
                    warnings = decision.warnings
                    second_at = now if decision.number == 2 else second_at
                case Remember():
                    warnings = decision.warnings
                case Place():
                    assert second_at is not None
                    assert now - second_at >= timedelta(hours=12)
                    assert available_wh <= 0
                    assert fresh
                    assert not keep
                    assert courtesy_until(POLICY, now=now) is None
                    standing = True
                case LetGo():
                    assert available_wh > 0 or keep
                    standing = False
                case _:
                    break
        else:
            pytest.fail("the policy does not come to rest")
