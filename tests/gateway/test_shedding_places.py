"""Who is shed where, from the site file to the holds: in turn, last of its kind, or never."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from config.changed_policies import with_policies
from dormpower.books import policies
from dormpower.books.feeders import feeders_now
from dormpower.domain.holds import Reason
from tests.gateway.composed_site import ComposedSite, site_document

EVENING = datetime(2026, 7, 20, 20, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
CIRCUITS = [f"r-{number}-ac" for number in (1, 2, 3)]

OpenSite = Callable[..., ComposedSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    with ExitStack() as stack:

        def open_one(*overrides: dict[str, Any], limit_kw: float) -> ComposedSite:
            feeders = [{"id": "f", "limit_kw": limit_kw}]
            shedding = {"mode": "enforce", "overrides": list(overrides)}
            document = site_document({"shedding": shedding}, rooms=3, feeders=feeders)
            document["rooms"] = [{**room, "feeder": "f"} for room in document["rooms"]]
            site = ComposedSite(tmp_path, document, at=EVENING)
            stack.callback(site.close)
            for power_w in (0.0, 0.0, 0.0, 0.0, 1_000.0):
                site.sample(dict.fromkeys(CIRCUITS, power_w))
            return site

        yield open_one


def shed(site: ComposedSite) -> list[str]:
    site.run(site.gateway.feeders.cycle)
    return [one for one in CIRCUITS if any(hold.reason is Reason.SHED for hold in site.holds(one))]


def test_without_a_word_the_first_in_turn_is_shed(open_site):
    assert shed(open_site(limit_kw=2.9)) == ["r-1-ac"]


def test_a_place_that_is_shed_last_goes_when_the_others_are_not_enough(open_site):
    last = {"room": "r-1", "shed": "last"}
    assert shed(open_site(last, limit_kw=2.9)) == ["r-2-ac"]


def test_a_place_that_is_shed_last_is_shed_at_last(open_site):
    assert shed(open_site({"room": "r-1", "shed": "last"}, limit_kw=0.5)) == CIRCUITS


def test_a_place_that_is_never_shed_stays_on_whatever_the_limit(open_site):
    assert shed(open_site({"room": "r-1", "shed": "never"}, limit_kw=0.5)) == ["r-2-ac", "r-3-ac"]


def test_the_later_override_has_the_last_word(open_site):
    never = {"kind": "ac", "shed": "never"}
    assert shed(open_site(never, {"room": "r-3", "shed": "in_turn"}, limit_kw=2.9)) == ["r-3-ac"]


def test_the_places_are_part_of_the_recorded_policy(open_site):
    site = open_site(limit_kw=2.9)
    content = {"mode": "enforce", "overrides": [{"building": "01", "shed": "never"}]}
    site.settings = with_policies(site.settings, {"shedding": content})
    site.start()
    with site.books.read() as connection:
        (place,) = policies.versions(connection)["rule:shedding"].described["places"]
    assert (place["scope"]["building"], place["shed"]) == ("01", "never")
    site.sample(dict.fromkeys(CIRCUITS, 1_000.0))
    assert shed(site) == []


def test_each_tree_of_feeders_is_shed_in_its_own_mode(tmp_path):
    feeders = [
        {"id": "f-1", "limit_kw": 0.5},
        {"id": "f-2", "limit_kw": 0.5},
        {"id": "top", "limit_kw": 90},
        {"id": "f-3", "limit_kw": 0.5, "parent": "top"},
    ]
    modes = [{"feeder": "f-1", "mode": "enforce"}, {"feeder": "top", "mode": "off"}]
    document = site_document({"shedding": {"modes": modes}}, rooms=3, feeders=feeders)
    document["rooms"] = [
        {**room, "feeder": f"f-{number}"} for number, room in enumerate(document["rooms"], start=1)
    ]
    site = ComposedSite(tmp_path, document, at=EVENING)
    try:
        for power_w in (0.0, 0.0, 0.0, 0.0, 1_000.0):
            site.sample(dict.fromkeys(CIRCUITS, power_w))
        shed(site)
        assert [[hold.shadow for hold in site.holds(one)] for one in CIRCUITS] == [[False], [True], []]
        with site.books.read() as connection:
            assert {one.feeder_id: one.mode for one in feeders_now(connection)} == {
                "f-1": "enforce",
                "f-2": "shadow",
            }
        # Enforced now: what stood in shadow ends with the start, and is shed for good.
        now = {"modes": [{"feeder": "f-2", "mode": "enforce"}]}
        site.settings = with_policies(site.settings, {"shedding": now})
        site.start()
        assert [site.holds(one) for one in CIRCUITS] == [(), (), ()]
        site.clock.advance(1_800)  # no room is shed again so soon
        for _ in range(3):
            site.sample(dict.fromkeys(CIRCUITS, 1_000.0))
        shed(site)
        assert [hold.shadow for hold in site.holds("r-2-ac")] == [False]
    finally:
        site.close()
