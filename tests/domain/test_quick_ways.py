"""The ways that are kept short because every sample takes them: they say what the long ones say."""

from datetime import UTC, datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.days import CampusDays
from dormpower.domain.loadsteps import (
    PowerSample,
    StepRules,
    StepWatch,
    level_of,
    power_sample,
    still_level,
    watch,
    watch_of,
)
from dormpower.domain.meter_state import ChannelLimits, MeteringRules, Outcome, advance, stepped
from dormpower.domain.samples import ChannelSample
from dormpower.domain.spans import new_state

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY_ENDS_AT = datetime(2026, 3, 2, 16, tzinfo=UTC)
RULES = MeteringRules(days=CampusDays(ZoneInfo("Asia/Shanghai")), boundary_within=timedelta(seconds=60))
LIMITS = ChannelLimits(rated_current_a=32, resolution_wh=10)
MOST_W = 32 * 250 * 1.1


@given(step_wh=st.integers(-20, 90_000), seconds=st.integers(-60, 60_000), ahead_s=st.integers(0, 90))
def test_a_plain_step_is_what_cutting_it_gives_and_no_other_step_is_one(
    step_wh: int, seconds: int, ahead_s: int
) -> None:
    state = new_state(span_id=1, from_at=START, first_register_wh=1000, rules=RULES)
    at = START + timedelta(seconds=seconds)
    not_after = START + timedelta(hours=10, seconds=-ahead_s)
    plain = stepped(state, register_wh=1000 + step_wh, at=at, not_after=not_after, limits=LIMITS)
    believable = 0 <= step_wh <= int(MOST_W * seconds / 3600) + 10
    if seconds <= 0 or at >= DAY_ENDS_AT or at > not_after or not believable:
        assert plain is None
        return
    cut = advance(
        state, register_wh=1000 + step_wh, at=at, energy_wh=step_wh, outcome=Outcome.ACCEPTED, rules=RULES
    )
    assert plain == cut.state
    assert not cut.segments
    assert not cut.boundaries


@given(powers_w=st.tuples(*[st.floats(-100, 4000)] * 3), next_w=st.floats(-100, 4000))
def test_a_step_starts_from_the_lower_of_the_last_sample_and_the_median(
    powers_w: tuple[float, float, float], next_w: float
) -> None:
    recent = tuple(
        PowerSample(at=START + timedelta(seconds=number), power_w=power_w, apparent_va=None)
        for number, power_w in enumerate(powers_w)
    )
    newest = PowerSample(at=START + timedelta(seconds=3), power_w=next_w, apparent_va=None)
    rises = next_w - min(powers_w[-1], median(powers_w)) >= StepRules().min_step_w
    assert bool(watch(StepWatch(recent=recent), newest, StepRules()).rising) is rises


samples = st.builds(
    lambda power_w, current_a: ChannelSample(channel=0, power_w=power_w, voltage_v=230.0, current_a=current_a),
    st.one_of(st.none(), st.sampled_from((0.0, 40.0, 400.0, 600.0, 900.0, 2000.0)), st.floats(-100, 4000)),
    st.one_of(st.none(), st.floats(0, 20)),
)


@given(
    stream=st.lists(st.tuples(samples, st.sampled_from((-5.0, 0.0, 1.0, 30.0, 150.0, 151.0))), max_size=25),
    min_step_w=st.sampled_from((100.0, 500.0)),
)
def test_a_level_is_followed_as_the_long_way_follows_it(
    stream: list[tuple[ChannelSample, float]], min_step_w: float
) -> None:
    rules = StepRules(min_step_w=min_step_w)
    at, long_way, level = START, StepWatch(), None
    for sample, later_s in stream:
        at += timedelta(seconds=later_s)
        power = power_sample(sample, at)
        before, long_way = long_way, long_way if power is None else watch(long_way, power, rules)
        short_way = None if level is None else still_level(level, sample, at, rules)
        if short_way is not None:
            assert watch_of(short_way) == long_way
            level = short_way
        else:
            assert level is None or watch_of(level) == before  # from where the long way goes on
            level = level_of(long_way)
            assert level is None or watch_of(level) == long_way


@given(step_wh=st.integers(0, 10), seconds=st.integers(1, 30_000))
def test_a_step_within_the_resolution_is_believed_whatever_the_time(step_wh: int, seconds: int) -> None:
    assert LIMITS.believes(step_wh, timedelta(seconds=seconds))
