"""A model whose flags mean something else, on a real socket: what the gateway makes of each."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dormpower.domain.evidence import shown_evidence
from tests.gateway.field_site import FieldSite
from tests.gateway.own_profiles import own_document, write_own

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
ROOM, OTHER = "r-1-lighting", "r-2-lighting"
MEANINGS = {
    "cover_open": "trip_and_alarm",
    "over_temperature": "alarm",
    "overload_trip": "alarm",
    "relay_fault": "ignored",
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FieldSite]:
    write_own(tmp_path, flag_meanings=MEANINGS)
    site = FieldSite(tmp_path, own_document({}, rooms=2), at=NOON)
    site.poll(4)
    yield site
    site.close()


def flag(site: FieldSite, name: str) -> None:
    site.fault("m-1", "flag", flag=name, channel=0)
    site.poll()


def test_a_module_that_opens_on_an_open_cover_has_tripped(site: FieldSite) -> None:
    flag(site, "cover_open")
    (hold,) = site.holds(ROOM)
    assert hold.reason == "module_trip"
    shown = shown_evidence(hold.reason, hold.evidence)
    assert shown is not None
    assert shown.params["flags"] == ["cover_open"]
    assert site.active() == [("cover_open", "m-1"), ("load_off", ROOM)]
    assert site.sent(ROOM) == []
    site.reset(ROOM)
    site.poll()
    assert (site.contacts(ROOM), site.reasons(ROOM), site.active()) == ("closed", [], [])


@pytest.mark.parametrize(
    ("name", "alarm"),
    [("overload_trip", ("overload_trip", ROOM)), ("over_temperature", ("over_temperature", "m-1"))],
)
def test_a_flag_that_only_warns_opens_nothing_and_explains_no_open_relay(
    site: FieldSite, name: str, alarm: tuple[str, str]
) -> None:
    flag(site, name)
    assert (site.reasons(ROOM), site.active(), site.contacts(ROOM)) == ([], [alarm], "closed")
    site.fault("m-1", "switched_locally", relay="open", channel=0)
    site.poll()
    assert site.reasons(ROOM) == ["opened_locally"]
    site.run(lambda: site.campus.clear("m-1", "flag"))
    site.poll()
    assert site.active() == [("load_off", ROOM)]


def test_an_ignored_flag_is_nothing(site: FieldSite) -> None:
    flag(site, "relay_fault")
    assert (site.reasons(ROOM), site.active()) == ([], [])
    assert site.contacts(ROOM) == "closed"


def test_a_meaning_that_is_left_out_is_the_usual_one(site: FieldSite) -> None:
    site.fault("m-2", "flag", flag="prohibited_trip", channel=0)
    site.poll()
    assert site.reasons(OTHER) == ["module_trip"]
    assert site.active() == [("load_off", OTHER)]
