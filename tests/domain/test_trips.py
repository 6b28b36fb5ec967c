"""Relay and flags of a sample judged together: a table, and what must never happen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.holds import Hold, Reason
from dormpower.domain.policy import ClearAlarm, Latch, LetGo, Place, RaiseAlarm
from dormpower.domain.restoring import Restore, RestorePolicy
from dormpower.domain.samples import ChannelSample, Flag, Relay
from dormpower.domain.trips import RULE, Judged, TripFacts, judge, unchanged

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
OPEN, CLOSED = Relay.OPEN, Relay.CLOSED
TRIP = frozenset({Flag.OVERLOAD_TRIP})
NONE: frozenset[Flag] = frozenset()
LOCKOUT = Hold(
    hold_id="h1", circuit_id="r-0-ac", reason=Reason.LOCKOUT, placed_at=NOW, placed_by="wang", holder="wang"
)


def sample(relay: Relay | None, flags: frozenset[Flag] = NONE, power_w: float = 0.0) -> ChannelSample:
    return ChannelSample(channel=0, relay=relay, flags=flags, power_w=power_w)


@pytest.mark.parametrize(
    ("before", "relay", "flags", "ours_open", "reason"),
    [
        (CLOSED, OPEN, TRIP, False, Reason.MODULE_TRIP),
        (CLOSED, OPEN, TRIP, True, Reason.MODULE_TRIP),
        (OPEN, OPEN, TRIP, True, Reason.MODULE_TRIP),  # the flag is new
        (None, OPEN, TRIP, False, Reason.MODULE_TRIP),
        (CLOSED, OPEN, NONE, False, Reason.OPENED_LOCALLY),
        (None, OPEN, NONE, False, Reason.OPENED_LOCALLY),
        (OPEN, OPEN, NONE, False, None),  # judged before; a reset has dealt with it
        (CLOSED, OPEN, NONE, True, None),  # our command
        (CLOSED, CLOSED, TRIP, False, None),
        (CLOSED, None, TRIP, False, None),  # unknown gives no hold
        (CLOSED, OPEN, frozenset({Flag.COVER_OPEN}), False, Reason.OPENED_LOCALLY),
    ],
)
def test_which_hold_a_sample_gives(
    before: Relay | None, relay: Relay | None, flags: frozenset[Flag], ours_open: bool, reason: Reason | None
) -> None:
    _, findings = judge(
        Judged(relay=before), sample(relay, flags), TripFacts(holds=(), ours_open=ours_open), now=NOW
    )
    assert [one.reason for one in findings if isinstance(one, Place)] == ([] if reason is None else [reason])


def test_a_trip_that_was_reset_is_not_held_again_while_its_flag_stands() -> None:
    facts = TripFacts(holds=(), ours_open=False)
    judged, first = judge(Judged(relay=CLOSED), sample(OPEN, TRIP), facts, now=NOW)
    assert any(isinstance(one, Place) for one in first)
    _, second = judge(judged, sample(OPEN, TRIP), facts, now=NOW)
    assert not any(isinstance(one, Place) for one in second)


def test_a_relay_closed_against_a_hold_is_told_of_and_cleared_when_open() -> None:
    facts = TripFacts(holds=(LOCKOUT,), ours_open=True)
    judged, told = judge(Judged(relay=OPEN), sample(CLOSED), facts, now=NOW)
    assert [one.kind for one in told if isinstance(one, RaiseAlarm)] == ["closed_against_hold"]
    _, after = judge(judged, sample(OPEN), facts, now=NOW)
    assert [one.kind for one in after if isinstance(one, ClearAlarm)] == ["closed_against_hold"]


def test_one_sample_of_current_through_an_open_relay_is_no_alarm_two_are() -> None:
    facts = TripFacts(holds=(LOCKOUT,), ours_open=True)
    judged, first = judge(Judged(relay=OPEN), sample(OPEN, power_w=50), facts, now=NOW)
    judged, second = judge(judged, sample(OPEN, power_w=50), facts, now=NOW)
    judged, third = judge(judged, sample(OPEN, power_w=50), facts, now=NOW)
    raised = [[one.kind for one in found if isinstance(one, RaiseAlarm)] for found in (first, second, third)]
    assert raised == [[], ["open_but_drawing"], []]
    _, ended = judge(judged, sample(OPEN), facts, now=NOW)
    assert ClearAlarm(kind="open_but_drawing") in ended  # type: ignore[arg-type]


def test_a_flag_is_an_alarm_while_it_stands() -> None:
    facts = TripFacts(holds=(), ours_open=False)
    told = replace(facts, alarms=frozenset({"cover_open"}))
    judged, first = judge(Judged(relay=CLOSED), sample(CLOSED, frozenset({Flag.COVER_OPEN})), facts, now=NOW)
    judged, second = judge(judged, sample(CLOSED, frozenset({Flag.COVER_OPEN})), told, now=NOW)
    _, third = judge(judged, sample(CLOSED), told, now=NOW)
    raised = [[one.kind for one in found if isinstance(one, RaiseAlarm)] for found in (first, second, third)]
    assert raised == [["cover_open"], [], []]
    assert "cover_open" in [one.kind for one in third if isinstance(one, ClearAlarm)]


def test_after_the_daily_number_of_self_restores_a_trip_is_latched() -> None:
    closings = [Restore(at=NOW - timedelta(hours=hours), reason=Reason.MODULE_TRIP) for hours in (3, 2, 1)]
    for restores, timed in ((closings[1:], True), (closings, False)):
        facts = TripFacts(
            holds=(),
            ours_open=False,
            restoring=RestorePolicy(zone=ZoneInfo("Asia/Shanghai"), delay_s=300, times_a_day=3),
            restores=tuple(restores),
        )
        _, findings = judge(Judged(relay=CLOSED), sample(OPEN, TRIP), facts, now=NOW)
        (place,) = [one for one in findings if isinstance(one, Place)]
        assert place.expected_release_at == (NOW + timedelta(seconds=300) if timed else None)


RESTORING = RestorePolicy(zone=ZoneInfo("Asia/Shanghai"), delay_s=300, times_a_day=3)


@pytest.mark.parametrize(
    ("after_s", "used", "flags", "more", "found"),
    [
        (280, 0, NONE, (), ["module_trip released"]),  # the module's 300 s began up to a sample before ours
        (269, 0, NONE, (), ["closed_against_hold"]),  # too early for the module: somebody's hand
        (280, 3, NONE, (), ["module_trip latched", "closed_against_hold"]),
        (280, 0, TRIP, (), ["closed_against_hold"]),
        (280, 0, NONE, (LOCKOUT,), ["module_trip released", "closed_against_hold"]),
        (900, 0, NONE, (), ["module_trip released"]),
    ],
)
def test_a_module_that_closes_after_its_own_delay_ends_its_trip(
    after_s: float, used: int, flags: frozenset[Flag], more: tuple[Hold, ...], found: list[str]
) -> None:
    trip = Hold(
        hold_id="h2",
        circuit_id="r-0-ac",
        reason=Reason.MODULE_TRIP,
        placed_at=NOW,
        placed_by=RULE,
        evidence={"sampling_period_s": 30.0},
        expected_release_at=NOW + timedelta(seconds=300),
    )
    facts = TripFacts(
        holds=(trip, *more),
        ours_open=False,
        restoring=RESTORING,
        restores=(Restore(at=NOW, reason=Reason.OVERLOAD),) * used,
    )
    now = NOW + timedelta(seconds=after_s)
    _, findings = judge(Judged(relay=OPEN, flags=TRIP), sample(CLOSED, flags), facts, now=now)
    names = {LetGo: "released", Latch: "latched"}
    told = [
        one.kind.value if isinstance(one, RaiseAlarm) else f"{one.reason} {names[type(one)]}"
        for one in findings
        if isinstance(one, RaiseAlarm | LetGo | Latch)
    ]
    assert told == found


relays = st.sampled_from([None, OPEN, CLOSED])
flag_sets = st.frozensets(st.sampled_from(Flag))


@given(relays, flag_sets, st.integers(0, 2), relays, flag_sets, st.booleans(), st.sampled_from(Relay))
def test_the_cheap_test_never_passes_over_what_says_something(  # noqa: PLR0917 - drawn by Hypothesis
    before_relay: Relay | None,
    before_flags: frozenset[Flag],
    drawing: int,
    relay: Relay | None,
    flags: frozenset[Flag],
    draws: bool,
    wanted: Relay,
) -> None:
    before = Judged(relay=before_relay, flags=before_flags, drawing_samples=drawing)
    one = sample(relay, flags, 100.0 if draws else 0.0)
    if unchanged(before, one, wanted):
        holds = (LOCKOUT,) if wanted is OPEN else ()
        for ours_open in (True, False):
            after, findings = judge(before, one, TripFacts(holds=holds, ours_open=ours_open), now=NOW)
            assert after == before
            assert all(isinstance(found, ClearAlarm) for found in findings)
