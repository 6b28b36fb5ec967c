"""An overload's debounce over restarts: neither shorter nor longer than the rule says, whatever its length."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dormpower.domain.holds import Hold, Reason
from tests.gateway.composed_site import ComposedSite, site_document

AC = "r-1-ac"
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
EVERY_S = 5.0
CALM = 4  # samples
DEBOUNCE = 12
NIGHT = {"from": "11:00", "to": "13:00", "kind": "ac", "limit_w": 500, "mode": "shadow"}


OpenSite = Callable[..., ComposedSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    with ExitStack() as stack:

        def open_one(**overload: object) -> ComposedSite:
            rules = {
                "overload": {"mode": "enforce", "restore_after_s": 3600, "limit_w": 2000, **overload},
                "night_mode": {"mode": "shadow", "rules": [NIGHT]},
                "prohibited": {"mode": "off"},
            }
            site = ComposedSite(tmp_path, site_document(rules), at=NOON)
            stack.callback(site.close)
            site.grant(AC, 500_000)  # nothing else asks for a look
            for _ in range(CALM):
                site.sample({AC: 60.0})
            return site

        yield open_one


def trips(site: ComposedSite) -> list[Hold]:
    return [hold for hold in site.holds(AC) if hold.reason is Reason.OVERLOAD and not hold.shadow]


@pytest.mark.parametrize("overload", [{"debounce_samples": DEBOUNCE}, {"debounce_s": (DEBOUNCE - 1) * EVERY_S}])
@pytest.mark.parametrize("restarts", [{1}, {8}, {9}, {DEBOUNCE - 1}, set(range(DEBOUNCE))])
def test_a_long_debounce_is_over_at_the_same_sample_after_any_restart(
    open_site: OpenSite, overload: dict[str, object], restarts: set[int]
) -> None:
    site = open_site(**overload)
    for number in range(DEBOUNCE):
        assert trips(site) == []
        if number in restarts:
            site.start()
        site.sample({AC: 2500.0})
    (hold,) = trips(site)
    assert hold.placed_at == NOON + timedelta(seconds=EVERY_S * (CALM + DEBOUNCE))
    assert hold.evidence["sample_count"] == DEBOUNCE


def test_a_hold_in_shadow_does_not_have_a_restart_forget_the_count_that_is_enforced(
    open_site: OpenSite,
) -> None:
    site = open_site(debounce_samples=4)
    for _ in range(4):
        site.sample({AC: 1000.0})
    assert [(hold.shadow, hold.reason) for hold in site.holds(AC)] == [(True, Reason.OVERLOAD)]
    for _ in range(3):
        site.sample({AC: 2500.0})
    assert trips(site) == []
    site.start()
    site.sample({AC: 2500.0})
    assert [hold.evidence["sample_count"] for hold in trips(site)] == [4]
