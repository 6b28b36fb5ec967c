"""Silences around a cut and at the same hours each night."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dormpower.domain.silences import Cut, Silence, around_cut, nights_in_a_row

ZONE = ZoneInfo("Asia/Shanghai")
NIGHT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)  # 23:00 on the campus


@pytest.mark.parametrize(
    ("cuts_s", "expected_s"), [((), None), ((-301,), None), ((-300,), -300), ((-200, -60), -60), ((90,), 90)]
)
def test_a_silence_within_minutes_of_a_cut_is_around_it(
    cuts_s: tuple[int, ...], expected_s: int | None
) -> None:
    cuts = [Cut(circuit_id="r-0-ac", at=NIGHT + timedelta(seconds=one)) for one in cuts_s]
    found = around_cut(silent_from_at=NIGHT, cuts=cuts)
    assert (None if found is None else found.at) == (
        None if expected_s is None else NIGHT + timedelta(seconds=expected_s)
    )


def nights(*offsets_h: float) -> list[Silence]:
    return [Silence(from_at=NIGHT + timedelta(hours=one)) for one in offsets_h]


@pytest.mark.parametrize(
    ("offsets_h", "now_h", "count"),
    [
        ((), 0, 0),
        ((-48, -24, 0), 0, 3),
        ((-72, -48, -24, 0), 0, 4),
        ((-24, 0), 0, 0),  # two nights are no pattern
        ((-72, -24, 0), 0, 0),  # a night between was quiet
        ((-48, -21, 0), 0, 0),  # not at the same hour
        ((-47.5, -24.5, 0), 0, 3),
        ((-60, -36, -12), 0, 0),  # by day
        ((-48, -24, 0), 20, 3),  # the next evening it still stands
        ((-48, -24, 0), 48, 0),  # a night has passed without
        ((-46, -22, 2), 2, 3),  # after midnight
    ],
)
def test_the_same_hour_of_three_nights_in_a_row_is_a_pattern(
    offsets_h: tuple[float, ...], now_h: float, count: int
) -> None:
    found = nights_in_a_row(nights(*offsets_h), zone=ZONE, now=NIGHT + timedelta(hours=now_h))
    assert len(found) == count
