"""The breaker: how many counted cuts pass, and what becomes of the rest."""

from datetime import UTC, datetime, timedelta

import pytest

from dormpower.domain.breaker import Verdict, bound_of, judge

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize(("rooms", "bound"), [(1, 20), (240, 20), (400, 20), (420, 21), (10_000, 500)])
def test_the_bound_is_the_larger_of_twenty_rooms_and_five_percent(rooms: int, bound: int) -> None:
    assert bound_of(rooms) == bound


def test_cuts_up_to_the_bound_pass_and_the_next_one_waits_for_a_person() -> None:
    cuts: list[datetime] = []
    verdicts = []
    for _ in range(21):
        verdicts.append(judge(cuts_at=cuts, rooms=240, waiting=0, deferred=False, now=NOW).verdict)
        cuts.append(NOW)
    assert verdicts == [Verdict.ADMITTED] * 20 + [Verdict.PENDING_APPROVAL]


def test_it_stays_open_while_a_cut_waits_whatever_the_time() -> None:
    late = judge(cuts_at=[], rooms=240, waiting=1, deferred=False, now=NOW + timedelta(days=1))
    assert late.verdict is Verdict.PENDING_APPROVAL


def test_old_cuts_leave_the_window() -> None:
    cuts = [NOW - timedelta(seconds=300)] * 40
    assert judge(cuts_at=cuts, rooms=240, waiting=0, deferred=False, now=NOW).verdict is Verdict.ADMITTED


def test_a_morning_of_deferred_cuts_is_spread_and_never_opens_the_breaker() -> None:
    now, cuts, left = NOW, [], 100
    while left:
        judgement = judge(cuts_at=cuts, rooms=240, waiting=0, deferred=True, now=now)
        if judgement.verdict is Verdict.ADMITTED:
            cuts.append(now)
            left -= 1
        else:
            assert judgement.verdict is Verdict.SPREAD
            assert judgement.until_at is not None
            assert judgement.until_at > now
            now = judgement.until_at
        assert sum(at > now - timedelta(seconds=300) for at in cuts) <= 10
    assert now - NOW == timedelta(seconds=300 * 9)
