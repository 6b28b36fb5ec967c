"""What a module's flags mean as its profile maps them: a table of each flag in each meaning."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dormpower.domain.evidence import shown_evidence
from dormpower.domain.flags import ALARM_OF, STANDARD, STANDARD_MEANINGS, Meaning, meanings_of
from dormpower.domain.holds import Hold, Reason
from dormpower.domain.policy import ClearAlarm, LetGo, Place, RaiseAlarm
from dormpower.domain.restoring import RestorePolicy
from dormpower.domain.samples import ChannelSample, Flag, Relay
from dormpower.domain.trips import RULE, Finding, Judged, TripFacts, judge

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
OPEN, CLOSED = Relay.OPEN, Relay.CLOSED
RESTORING = RestorePolicy(zone=ZoneInfo("Asia/Shanghai"), delay_s=300, times_a_day=3)


def findings_of(
    flag: Flag,
    meaning: Meaning,
    relay: Relay,
    *,
    before: Judged | None = None,
    alarms: Iterable[str] = (),
    holds: tuple[Hold, ...] = (),
) -> tuple[Finding, ...]:
    facts = TripFacts(
        holds=holds,
        ours_open=False,
        alarms=frozenset(alarms),
        meanings=meanings_of({flag: meaning}),
        restoring=RESTORING,
    )
    sample = ChannelSample(channel=0, relay=relay, flags=frozenset({flag}))
    _, findings = judge(before or Judged(relay=CLOSED), sample, facts, now=NOW)
    return findings


def told(findings: Iterable[Finding]) -> list[str]:
    """Holds that are placed, alarms that are raised (+) or cleared (-) for a flag."""
    found = []
    for one in findings:
        if isinstance(one, Place):
            found.append(one.reason.value)
        elif isinstance(one, RaiseAlarm):
            found.append(f"+{one.kind}")
        elif isinstance(one, ClearAlarm) and one.kind in ALARM_OF.values():
            found.append(f"-{one.kind}")
    return found


@pytest.mark.parametrize("flag", Flag)
@pytest.mark.parametrize(
    ("meaning", "relay", "hold", "alarm"),
    [
        (Meaning.TRIP, OPEN, "module_trip", False),
        (Meaning.TRIP, CLOSED, None, False),
        (Meaning.ALARM, OPEN, "opened_locally", True),
        (Meaning.ALARM, CLOSED, None, True),
        (Meaning.TRIP_AND_ALARM, OPEN, "module_trip", True),
        (Meaning.TRIP_AND_ALARM, CLOSED, None, True),
        (Meaning.IGNORED, OPEN, "opened_locally", False),
        (Meaning.IGNORED, CLOSED, None, False),
    ],
)
def test_what_each_flag_gives_in_each_meaning(
    flag: Flag, meaning: Meaning, relay: Relay, hold: str | None, alarm: bool
) -> None:
    expected = ([hold] if hold else []) + ([f"+{flag}"] if alarm else [])
    assert told(findings_of(flag, meaning, relay)) == expected


def test_what_no_profile_says_is_as_usual() -> None:
    assert meanings_of({}) == STANDARD_MEANINGS
    assert STANDARD_MEANINGS.trips == {Flag.OVERLOAD_TRIP, Flag.PROHIBITED_TRIP, Flag.OVER_TEMPERATURE}
    assert STANDARD_MEANINGS.alarms == {Flag.OVER_TEMPERATURE, Flag.COVER_OPEN, Flag.RELAY_FAULT}
    assert not STANDARD_MEANINGS.ignored
    assert set(STANDARD) == set(Flag)


def test_one_flag_s_meaning_leaves_the_others_as_usual() -> None:
    meanings = meanings_of({Flag.COVER_OPEN: Meaning.TRIP, Flag.RELAY_FAULT: Meaning.IGNORED})
    assert meanings.trips == STANDARD_MEANINGS.trips | {Flag.COVER_OPEN}
    assert meanings.alarms == {Flag.OVER_TEMPERATURE}
    assert meanings.ignored == {Flag.RELAY_FAULT}


# --- the profile is changed while the flag stands -------------------------------------------------------------


@pytest.mark.parametrize("flag", Flag)
@pytest.mark.parametrize(
    ("meaning", "stood", "expected"),
    [
        (Meaning.ALARM, True, []),
        (Meaning.TRIP, True, ["-"]),
        (Meaning.IGNORED, True, ["-"]),
        (Meaning.ALARM, False, ["+"]),
        (Meaning.TRIP_AND_ALARM, False, ["+"]),
        (Meaning.TRIP, False, []),
    ],
)
def test_an_alarm_follows_what_its_flag_means_now(
    flag: Flag, meaning: Meaning, stood: bool, expected: list[str]
) -> None:
    before = Judged(relay=CLOSED, flags=frozenset({flag}))
    findings = findings_of(flag, meaning, CLOSED, before=before, alarms={flag.value} if stood else ())
    assert told(findings) == [f"{sign}{flag}" for sign in expected]


@pytest.mark.parametrize("meaning", Meaning)
def test_an_open_relay_that_was_judged_is_not_held_again_for_another_meaning(meaning: Meaning) -> None:
    before = Judged(relay=OPEN, flags=frozenset({Flag.COVER_OPEN}))
    findings = findings_of(Flag.COVER_OPEN, meaning, OPEN, before=before, alarms={"cover_open"})
    assert not any(isinstance(one, Place) for one in findings)


def test_a_trip_by_a_flag_that_only_warns_now_ends_with_the_module_s_delay_though_the_flag_stands() -> None:
    trip = Hold(
        hold_id="h1",
        circuit_id="r-0-ac",
        reason=Reason.MODULE_TRIP,
        placed_at=NOW - timedelta(seconds=300),
        placed_by=RULE,
        expected_release_at=NOW,
    )
    before = Judged(relay=OPEN, flags=frozenset({Flag.COVER_OPEN}))
    ends = {
        meaning: any(
            isinstance(one, LetGo)
            for one in findings_of(Flag.COVER_OPEN, meaning, CLOSED, before=before, holds=(trip,))
        )
        for meaning in (Meaning.TRIP, Meaning.ALARM)
    }
    assert ends == {Meaning.TRIP: False, Meaning.ALARM: True}


# --- what people are told -------------------------------------------------------------------------------------


def test_a_trip_names_the_flags_that_it_came_from_and_keeps_all_of_them() -> None:
    sample = ChannelSample(channel=0, relay=OPEN, flags=frozenset({Flag.COVER_OPEN, Flag.RELAY_FAULT}))
    facts = TripFacts(holds=(), ours_open=False, meanings=meanings_of({Flag.COVER_OPEN: Meaning.TRIP}))
    _, findings = judge(Judged(relay=CLOSED), sample, facts, now=NOW)
    (place,) = [one for one in findings if isinstance(one, Place)]
    assert place.evidence["flags"] == ["cover_open", "relay_fault"]
    shown = shown_evidence(Reason.MODULE_TRIP, place.evidence)
    assert shown is not None
    assert shown.params["flags"] == ["cover_open"]


# --- samples that waited to be judged -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited_s", "then_waited_s", "after_s", "ends"),
    [
        (1.0, 0.0, 270.0, True),  # the trip's sample waited for its batch, that of the closing did not
        (0.0, 1.0, 270.0, True),
        (0.0, 1.0, 269.5, False),  # too early, whenever it was judged
    ],
)
def test_a_module_is_not_taken_for_early_since_a_sample_waited(
    waited_s: float, then_waited_s: float, after_s: float, ends: bool
) -> None:
    meanings, flags = STANDARD_MEANINGS, frozenset({Flag.OVERLOAD_TRIP})
    facts = TripFacts(holds=(), ours_open=False, meanings=meanings, restoring=RESTORING, observed_at=NOW)
    judged_at = NOW + timedelta(seconds=waited_s)
    judged, findings = judge(
        Judged(relay=CLOSED), ChannelSample(channel=0, relay=OPEN, flags=flags), facts, now=judged_at
    )
    (place,) = [one for one in findings if isinstance(one, Place)]
    trip = Hold(
        hold_id="h1",
        circuit_id="r-0-ac",
        reason=place.reason,
        placed_at=judged_at,
        placed_by=RULE,
        evidence={"sampling_period_s": 30.0, **place.evidence},
        expected_release_at=place.expected_release_at,
    )
    closed_at = NOW + timedelta(seconds=after_s)
    facts = TripFacts(holds=(trip,), ours_open=False, restoring=RESTORING, observed_at=closed_at)
    _, findings = judge(
        judged,
        ChannelSample(channel=0, relay=CLOSED),
        facts,
        now=closed_at + timedelta(seconds=then_waited_s),
    )
    assert any(isinstance(one, LetGo) for one in findings) is ends
