"""When relays found open are one condition of their building, and which come to it later."""

from datetime import UTC, datetime, timedelta

import pytest

from dormpower.domain.openings import (
    LATE_S,
    Cause,
    Condition,
    Opening,
    OpeningsPolicy,
    are_one,
    cause,
    heard_from,
    joins,
)

START = datetime(2026, 3, 2, 4, tzinfo=UTC)
POLICY = OpeningsPolicy(circuits=10, share=0.5, window_s=60, poll_s=30, lag_s=2)


def opening(at_s: float, unheard_s: float | None = 30, number: int = 0) -> Opening:
    return Opening(
        hold_id=f"h-{number}",
        circuit_id=f"r-{number}-ac",
        opened_at=START + timedelta(seconds=at_s),
        unheard_s=unheard_s,
    )


@pytest.mark.parametrize(
    ("found", "closed", "one"),
    [
        (9, 0, False),
        (10, 0, True),
        (10, 10, True),  # half of those that were heard
        (10, 11, False),
        (300, 300, True),
        (300, 301, False),
    ],
)
def test_enough_of_them_and_a_share_of_what_was_heard_are_one_condition(
    found: int, closed: int, one: bool
) -> None:
    assert are_one([opening(0, number=number) for number in range(found)], closed, POLICY) is one


@pytest.mark.parametrize(
    ("at_s", "unheard_s", "belongs"),
    [
        (40, 30, True),  # within the window of the last one, at 40 s
        (100, 30, True),
        (101, 30, False),
        (101, 101, True),  # not heard since before the first one, at 0 s
        (101, 100, False),  # heard since, and closed then
        (LATE_S, LATE_S, True),
        (LATE_S + 1, LATE_S + 1, False),
        (101, None, False),  # never heard before: newly put into service
        (40, None, True),
    ],
)
def test_what_comes_later_belongs_to_it_or_not(at_s: float, unheard_s: float | None, belongs: bool) -> None:
    condition = Condition(since_at=START, latest_at=START + timedelta(seconds=40))
    assert joins(opening(at_s, unheard_s), condition, POLICY) is belongs


@pytest.mark.parametrize(("unheard_s", "back"), [(60, False), (60.1, True), (None, True)])
def test_a_module_that_missed_more_than_the_window_came_back(unheard_s: float | None, back: bool) -> None:
    assert opening(0, unheard_s).came_back(POLICY) is back


@pytest.mark.parametrize(
    ("circuits", "came_back", "looks_like"),
    [(10, 10, Cause.AFTER_SILENCE), (10, 5, Cause.AFTER_SILENCE), (10, 4, Cause.WHILE_READ)],
)
def test_silence_before_looks_like_a_return_of_supply(circuits: int, came_back: int, looks_like: Cause) -> None:
    assert cause(circuits, came_back) is looks_like


def test_closed_relays_count_from_the_first_one_s_batch_on() -> None:
    found = [opening(30), opening(0), opening(10)]
    assert heard_from(found, POLICY) == START - timedelta(seconds=2)
