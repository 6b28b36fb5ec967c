"""How long a balance lasts."""

from collections.abc import Sequence

import pytest

from dormpower.domain.forecast import days_left


@pytest.mark.parametrize(
    ("available_wh", "recent_days_wh", "days"),
    [
        (10_000, [2000, 3000], 4),
        (10_000, [None, 2500, None], 4),
        (9_999, [2500], 3),
        (10_000, [], None),
        (10_000, [None, None], None),
        (10_000, [0, 0], None),
        (0, [2000], 0),
        (-5, [], 0),
    ],
)
def test_a_balance_lasts_as_long_as_recent_use_says(
    available_wh: int, recent_days_wh: Sequence[int | None], days: int | None
) -> None:
    assert days_left(available_wh=available_wh, recent_days_wh=recent_days_wh) == days
