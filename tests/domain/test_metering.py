"""What becomes of a register: tables of cases for `judge` and `spans`, and the properties behind them."""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dormpower.domain.days import CampusDays
from dormpower.domain.meter_state import (
    ChannelLimits,
    Decision,
    Judgement,
    MeteringRules,
    MeterState,
    Outcome,
    Reason,
    Standing,
)
from dormpower.domain.metering import judge
from dormpower.domain.segments import Boundary, Cause, Segment, narrow
from dormpower.domain.spans import UnableToDecideError, accepted_step, begin_span, decide, new_state

ZONE = ZoneInfo("Asia/Shanghai")
RULES = MeteringRules(days=CampusDays(ZONE), boundary_within=timedelta(seconds=60))
LIMITS = ChannelLimits(rated_current_a=32, resolution_wh=10, modulus_wh=1_000_000_000)
NO_MODULUS = ChannelLimits(rated_current_a=32, resolution_wh=10)
START = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)  # 08:00 on campus
MINUTE = timedelta(minutes=1)


def standing_at(register_wh: int, at: datetime = START) -> MeterState:
    return new_state(span_id=1, from_at=at, first_register_wh=register_wh, rules=RULES)


def feed(
    state: MeterState, samples: list[tuple[int, int]], limits: ChannelLimits = LIMITS
) -> tuple[MeterState, list[Outcome]]:
    """Judge (minute, register) samples in turn."""
    outcomes = []
    for minute, register_wh in samples:
        at = START + minute * MINUTE
        judgement = judge(state, register_wh=register_wh, at=at, now=at, limits=limits, rules=RULES)
        state = judgement.state
        outcomes.append(judgement.outcome)
    return state, outcomes


# 32 A × 250 V × 1 min × 1.1 = 146 Wh, and one resolution step of 10 Wh.
LARGEST_IN_A_MINUTE = 156


@pytest.mark.parametrize(
    ("samples", "outcomes", "metered_wh"),
    [
        ([(1, 1050)], ["accepted"], 50),
        ([(1, 1000)], ["unchanged"], 0),
        ([(1, 1000 + LARGEST_IN_A_MINUTE)], ["accepted"], 156),
        ([(1, 1000 + LARGEST_IN_A_MINUTE + 1)], ["quarantined"], 0),
        ([(1, 999)], ["quarantined"], 0),
        ([(2, 1050), (1, 1020)], ["accepted", "late"], 50),
        ([(2, 1050), (2, 1060)], ["accepted", "late"], 50),
        ([(0, 5)], ["late"], 0),
        ([(1, 50_000), (2, 1010), (3, 1030)], ["quarantined", "returned", "accepted"], 30),
        ([(1, 0), (2, 1010), (3, 1030)], ["quarantined", "returned", "accepted"], 30),
        ([(1, 0), (2, 0), (3, 0), (4, 1100)], ["quarantined"] + ["still_quarantined"] * 2 + ["returned"], 100),
        # The time allowance stands still: 700 Wh in ten minutes would have been plausible.
        ([(1, 50_000), (10, 1700)], ["quarantined", "still_quarantined"], 0),
    ],
)
def test_a_sample_is_judged_against_the_position(
    samples: list[tuple[int, int]], outcomes: list[str], metered_wh: int
) -> None:
    state, found = feed(standing_at(1000), samples)
    assert [outcome.value for outcome in found] == outcomes
    assert state.metered_wh == metered_wh


def test_the_reason_of_a_quarantine_is_named() -> None:
    at = START + MINUTE
    for register_wh, reason in ((5000, Reason.STEP_TOO_LARGE), (0, Reason.REGISTER_FELL)):
        judgement = judge(standing_at(1000), register_wh=register_wh, at=at, now=at, limits=LIMITS, rules=RULES)
        assert judgement.reason is reason


def test_a_sample_from_too_far_ahead_is_refused_and_changes_nothing() -> None:
    state = standing_at(1000)
    at = START + timedelta(minutes=6)
    judgement = judge(state, register_wh=1001, at=at, now=START, limits=LIMITS, rules=RULES)
    assert judgement.outcome is Outcome.AHEAD_OF_CLOCK
    assert judgement.state is state
    at = START + timedelta(minutes=5)
    judgement = judge(state, register_wh=1001, at=at, now=START, limits=LIMITS, rules=RULES)
    assert judgement.outcome is Outcome.ACCEPTED


@given(minutes=st.lists(st.integers(1, 100_000), min_size=1, max_size=30))
def test_waiting_makes_no_quarantined_register_plausible(minutes: list[int]) -> None:
    state, _ = feed(standing_at(1000), [(1, 20_000)])
    minute = 1
    for wait in minutes:
        minute += wait
        state, (outcome,) = feed(state, [(minute, 20_000)])
        assert outcome is Outcome.STILL_QUARANTINED
    assert state.metered_wh == 0


def test_a_reset_register_that_counts_up_through_the_accepted_one_is_no_return() -> None:
    state, _ = feed(standing_at(1000), [(1, 0), (2, 20)], NO_MODULUS)
    state, outcomes = feed(state, [(2 + n, 20 + 20 * n) for n in range(1, 100)], NO_MODULUS)
    assert set(outcomes) == {Outcome.STILL_QUARANTINED}
    assert state.metered_wh == 0


def test_a_rollover_is_charged_exactly_and_only_with_a_known_modulus_and_a_plausible_power() -> None:
    near = 1_000_000_000 - 30
    state, outcomes = feed(standing_at(near), [(1, 20), (2, 50)])
    assert outcomes == [Outcome.ROLLOVER, Outcome.ACCEPTED]
    assert state.metered_wh == 80
    _, outcomes = feed(standing_at(near), [(1, 20)], NO_MODULUS)
    assert outcomes == [Outcome.QUARANTINED]
    _, outcomes = feed(standing_at(near), [(1, 5000)])
    assert outcomes == [Outcome.QUARANTINED]


def test_three_consistent_samples_commission_a_channel_and_the_first_register_charges_nothing() -> None:
    state = new_state(span_id=1, from_at=START, first_register_wh=None, rules=RULES)
    state, outcomes = feed(state, [(1, 700_000), (2, 700_020), (3, 700_030), (4, 700_040)])
    assert [o.value for o in outcomes] == ["commissioning", "commissioning", "commissioned", "accepted"]
    assert state.metered_wh == 40
    assert state.segment_from_wh == 700_000


def test_an_inconsistent_sample_starts_commissioning_anew() -> None:
    state = new_state(span_id=1, from_at=START, first_register_wh=None, rules=RULES)
    state, outcomes = feed(state, [(1, 9_000_000), (2, 100), (3, 100), (4, 120)])
    assert outcomes[-1] is Outcome.COMMISSIONED
    assert state.metered_wh == 20


def quarantined() -> MeterState:
    state, _ = feed(standing_at(1000), [(1, 5000)])
    return state


@pytest.mark.parametrize(
    ("decision", "estimate_wh", "cause", "metered_wh"),
    [
        (Decision.ACCEPTED, None, Cause.MEASURED, 4000),
        (Decision.DISMISSED, None, Cause.BREAK, 0),
        (Decision.ESTIMATED, 77, Cause.ESTIMATE, 77),
    ],
)
def test_a_decision_charges_what_it_says_and_metering_goes_on_from_the_register_there(
    decision: Decision, estimate_wh: int | None, cause: Cause, metered_wh: int
) -> None:
    judgement = decide(
        quarantined(),
        decision=decision,
        register_wh=5000,
        at=START + MINUTE,
        estimate_wh=estimate_wh,
        limits=LIMITS,
        rules=RULES,
    )
    assert judgement.state.metered_wh == metered_wh
    if cause is not Cause.MEASURED:
        assert [segment.cause for segment in judgement.segments] == [cause]
    state, outcomes = feed(judgement.state, [(2, 5040)])
    assert outcomes == [Outcome.ACCEPTED]
    assert state.metered_wh == metered_wh + 40


def test_a_fall_is_never_accepted_without_its_modulus() -> None:
    state, _ = feed(standing_at(1000), [(1, 10)], NO_MODULUS)
    with pytest.raises(UnableToDecideError, match="dismiss it or have it estimated"):
        decide(
            state,
            decision=Decision.ACCEPTED,
            register_wh=10,
            at=START + MINUTE,
            estimate_wh=None,
            limits=NO_MODULUS,
            rules=RULES,
        )


NEARLY = LIMITS.modulus_wh - 50


@pytest.mark.parametrize(
    ("from_wh", "minutes", "energy_wh"),
    [
        (NEARLY, 60, 8050),  # 32 A × 250 V × 1.1 for an hour are 8800 Wh, and one resolution step
        (NEARLY, 50, None),
        (5_000_000, 60, None),  # a reset
    ],
)
def test_a_fall_is_accepted_only_as_a_rollover_that_can_have_been_drawn(
    from_wh: int, minutes: int, energy_wh: int | None
) -> None:
    step = {"from_wh": from_wh, "to_wh": 8000, "elapsed": minutes * MINUTE, "limits": LIMITS}
    if energy_wh is None:
        with pytest.raises(UnableToDecideError, match="dismiss it or have it estimated"):
            accepted_step(**step)
    else:
        assert accepted_step(**step) == (energy_wh, Cause.ROLLOVER)


def test_a_decision_on_a_point_that_returned_is_refused() -> None:
    with pytest.raises(UnableToDecideError, match="not in quarantine"):
        decide(
            standing_at(1000),
            decision=Decision.DISMISSED,
            register_wh=10,
            at=START + MINUTE,
            estimate_wh=None,
            limits=LIMITS,
            rules=RULES,
        )


@pytest.mark.parametrize("estimate_wh", [None, -1])
def test_an_estimate_needs_its_energy(estimate_wh: int | None) -> None:
    with pytest.raises(UnableToDecideError, match="estimate_wh"):
        decide(
            quarantined(),
            decision=Decision.ESTIMATED,
            register_wh=5000,
            at=START + MINUTE,
            estimate_wh=estimate_wh,
            limits=LIMITS,
            rules=RULES,
        )


def replaced(state: MeterState, *, first: int | None, final: int | None, minute: int = 10) -> Judgement:
    at = START + minute * MINUTE
    return begin_span(
        state,
        span_id=2,
        from_at=at,
        first_register_wh=first,
        final_register_wh=final,
        final_at=at,
        rules=RULES,
    )


def chain(segments: tuple[Segment, ...]) -> list[tuple[str, int, int, int]]:
    return [(s.cause.value, s.from_register_wh, s.to_register_wh, s.energy_wh) for s in segments]


def test_a_replacement_with_both_registers_loses_and_adds_nothing() -> None:
    state, _ = feed(standing_at(1000), [(1, 1050)])
    judgement = replaced(state, first=7, final=1060)
    assert judgement.state.metered_wh == 60
    assert judgement.state.span_id == 2
    assert chain(judgement.segments) == [("measured", 1000, 1060, 60), ("replacement", 1060, 7, 0)]
    state, _ = feed(judgement.state, [(11, 27)])
    assert state.metered_wh == 80


def test_a_replacement_without_the_final_register_is_a_recorded_break() -> None:
    state, _ = feed(standing_at(1000), [(1, 1050)])
    judgement = replaced(state, first=None, final=None)
    assert judgement.state.standing is Standing.COMMISSIONING
    assert judgement.state.metered_wh == 50
    state = judgement.state
    segments: tuple[Segment, ...] = ()
    for minute, register_wh in ((11, 0), (12, 10), (13, 20)):
        at = START + minute * MINUTE
        judgement = judge(state, register_wh=register_wh, at=at, now=at, limits=LIMITS, rules=RULES)
        state = judgement.state
        segments += judgement.segments
    assert state.metered_wh == 70
    assert chain(segments) == [("measured", 1000, 1050, 50), ("break", 1050, 0, 0)]


def test_the_final_register_of_a_span_that_was_never_believed_charges_nothing() -> None:
    state, _ = feed(standing_at(1000), [(1, 1050)])
    waiting = replaced(state, first=None, final=None).state
    judgement = replaced(waiting, first=0, final=1090, minute=20)  # 1090 Wh are the second module's
    assert judgement.state.metered_wh == 50
    assert chain(judgement.segments) == [("measured", 1000, 1050, 50), ("break", 1050, 0, 0)]


def test_a_new_span_ends_a_quarantine() -> None:
    judgement = replaced(quarantined(), first=0, final=None)
    assert judgement.state.standing is Standing.ACCEPTED
    assert judgement.state.suspect_register_wh is None
    assert judgement.state.metered_wh == 0


# --- properties ---------------------------------------------------------------------------------------------


class Meter:
    """Judges samples and keeps boundaries as the books would."""

    def __init__(self, state: MeterState, limits: ChannelLimits = LIMITS) -> None:
        self.state = state
        self.limits = limits
        self.first_at = state.register_at
        self.segments: list[Segment] = []
        self.boundaries: dict[date, Boundary] = {}

    def take(self, at: datetime, register_wh: int) -> None:
        before = self.state
        judgement = judge(before, register_wh=register_wh, at=at, now=at, limits=self.limits, rules=RULES)
        if judgement.outcome is Outcome.LATE:
            assert judgement.state is before
            for begins_on, boundary in self.boundaries.items():
                narrowed = narrow(boundary, register_wh=register_wh, at=at, within=RULES.boundary_within)
                self.boundaries[begins_on] = narrowed or boundary
            return
        assert judgement.outcome in (Outcome.ACCEPTED, Outcome.UNCHANGED, Outcome.ROLLOVER)
        assert judgement.state.metered_wh >= before.metered_wh
        self.state = judgement.state
        self.segments += judgement.segments
        self.boundaries |= {b.begins_on: b for b in judgement.boundaries}

    def places(self) -> dict[date, tuple[int, int, bool]]:
        return {on: (b.metered_wh, b.register_wh, b.estimated) for on, b in self.boundaries.items()}


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[datetime, int]]:
    """A true history: samples some minutes to several days apart, at plausible powers, may pass a rollover."""
    gaps = draw(
        st.lists(
            st.one_of(st.integers(1, 90), st.integers(60, 6000), st.sampled_from([16 * 60, 1440])),
            min_size=2,
            max_size=14,
        )
    )
    powers = draw(st.lists(st.integers(0, 4000), min_size=len(gaps), max_size=len(gaps)))
    wh = draw(st.sampled_from([0, 1234, LIMITS.modulus_wh - 2000]))
    at, samples = START, [(START, wh)]
    for gap, power_w in zip(gaps, powers, strict=True):
        at += gap * MINUTE
        wh += power_w * gap // 60
        samples.append((at, wh))
    return [(at, wh % LIMITS.modulus_wh) for at, wh in samples]


@settings(max_examples=300, deadline=None)
@given(samples=histories(), seed=st.integers(0, 2**32))
def test_the_order_of_arrival_changes_no_energy_and_no_day(
    samples: list[tuple[datetime, int]], seed: int
) -> None:
    first, *rest = samples
    in_order = Meter(standing_at(first[1]))
    for at, register_wh in rest:
        in_order.take(at, register_wh)
    shuffled = rest + random.Random(seed).choices(rest, k=3)
    random.Random(seed).shuffle(shuffled)
    out_of_order = Meter(standing_at(first[1]))
    for at, register_wh in shuffled:
        out_of_order.take(at, register_wh)
    assert out_of_order.state.metered_wh == in_order.state.metered_wh
    assert out_of_order.state.register_at == in_order.state.register_at
    assert out_of_order.places() == in_order.places()


@settings(max_examples=300, deadline=None)
@given(samples=histories(), kept=st.data())
def test_every_wh_is_charged_exactly_once_whatever_samples_are_lost(
    samples: list[tuple[datetime, int]], kept: st.DataObject
) -> None:
    first, *middle, last = samples
    meter = Meter(standing_at(first[1]))
    for at, register_wh in [*(s for s in middle if kept.draw(st.booleans())), last]:
        meter.take(at, register_wh)
    used_wh = (last[1] - first[1]) % LIMITS.modulus_wh
    assert meter.state.metered_wh == used_wh
    open_wh = meter.state.register_wh - meter.state.segment_from_wh
    assert sum(s.energy_wh for s in meter.segments) + open_wh == used_wh
    end_at, end_wh = START, first[1]
    for segment in meter.segments:
        assert segment.energy_wh >= 0
        assert (segment.from_at, segment.from_register_wh) == (end_at, end_wh)
        assert RULES.days.start_of(segment.used_on) <= segment.from_at
        assert segment.to_at <= RULES.days.end_of(segment.used_on)
        end_at, end_wh = segment.to_at, segment.to_register_wh
    assert (meter.state.segment_from_at, meter.state.segment_from_wh) == (end_at, end_wh)


def test_a_gap_of_days_gives_each_midnight_its_own_boundary() -> None:
    meter = Meter(standing_at(0))
    meter.take(START + timedelta(days=4), 96_000)  # 1 kW for 96 h, from 08:00 to 08:00
    assert [(str(on), b.metered_wh) for on, b in meter.boundaries.items()] == [
        ("2026-03-03", 16_000),
        ("2026-03-04", 40_000),
        ("2026-03-05", 64_000),
        ("2026-03-06", 88_000),
    ]
    assert all(boundary.estimated for boundary in meter.boundaries.values())
    meter.take(datetime(2026, 3, 3, 15, 59, 30, tzinfo=UTC), 39_000)
    assert meter.places()[date(2026, 3, 4)] == (39_000, 39_000, False)


def test_the_register_in_force_at_midnight_counts_if_it_is_recent() -> None:
    midnight = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)
    for age_s, boundary_wh, estimated in ((0, 100, False), (60, 100, False), (61, 109, True)):
        meter = Meter(standing_at(0))
        meter.take(midnight - timedelta(seconds=age_s), 100)
        meter.take(midnight + timedelta(seconds=60), 118)
        assert meter.places()[date(2026, 3, 3)] == (boundary_wh, boundary_wh, estimated)


def test_a_clock_that_jumps_back_gives_no_negative_interval_and_no_second_day() -> None:
    meter = Meter(standing_at(0))
    meter.take(START + timedelta(hours=17), 1000)
    places = meter.places()
    for minutes in range(0, 900, 60):
        meter.take(START + minutes * MINUTE, 1000 + minutes)
    assert meter.state.metered_wh == 1000
    assert set(meter.places()) == set(places)
