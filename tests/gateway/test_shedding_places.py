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
