"""The proof of shedding, shorter: sixty rooms and two hours of a hot evening in virtual time."""

from benchmarks.hot_evening import evening
from dormpower.domain.fairness import jain_index


def test_sixty_rooms_on_a_hot_evening_stay_within_a_feeder_that_is_a_fifth_short() -> None:
    figures = evening(rooms=60, seed=1, hours=2.0, cycle_s=10.0)
    assert figures.demand_w[figures.from_index] > figures.limit_w  # control begins in the overload
    assert figures.failures() == []
    assert jain_index(figures.minutes_off) >= 0.95
