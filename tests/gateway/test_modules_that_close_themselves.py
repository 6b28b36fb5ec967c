"""Modules that close by themselves after their own trip, on real sockets, with the gateway at work."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dormpower.books import holds
from tests.gateway.field_site import POLL_S, FieldSite
from tests.gateway.own_profiles import own_document, write_own

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
ROOM = "r-1-lighting"
DELAY_S = 300.0
POLLS_UNTIL_IT_CLOSES = int(DELAY_S / POLL_S)

OpenSite = Callable[..., FieldSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    """A site of one room whose module closes by itself, commissioned and under load."""
    opened: list[FieldSite] = []

    def open_one(**policies: Any) -> FieldSite:
        write_own(tmp_path, self_restore_s=DELAY_S)
        site = FieldSite(tmp_path, own_document({"prohibited": {"mode": "off"}, **policies}), at=NOON)
        opened.append(site)
        site.campus.set_power(ROOM, 600.0)
        site.poll(4)
        assert (site.reasons(ROOM), site.active()) == ([], [])
        return site

    yield open_one
    for site in opened:
        site.close()


def trip(site: FieldSite) -> None:
    """The module trips a moment after it was asked, and is asked again."""
    site.clock.advance(1.0)
    site.fault("m-1", "flag", flag="overload_trip", channel=0)
    site.poll(after_s=POLL_S - 1.0)


def test_a_trip_is_held_until_the_module_closes_by_itself(open_site: OpenSite) -> None:
    site = open_site()
    trip(site)
    (hold,) = site.holds(ROOM)
    assert (hold.reason, hold.expected_release_at) == (
        "module_trip",
        site.clock.now() + timedelta(seconds=DELAY_S),
    )
    assert site.active() == [("load_off", ROOM)]
    site.poll(POLLS_UNTIL_IT_CLOSES - 1)
    assert (site.contacts(ROOM), site.reasons(ROOM)) == ("open", ["module_trip"])
    site.poll()  # before the time that was told, since the module counts from its trip
    assert site.contacts(ROOM) == "closed"
    assert (site.reasons(ROOM), site.active()) == ([], [])
    assert len(site.closings(ROOM, NOON)) == 1
    assert site.sent(ROOM) == []
    site.poll()
    assert site.control(ROOM) == ("normal", "settled")


def test_a_module_that_closes_itself_against_a_lock_out_is_opened_again_and_reported(
    open_site: OpenSite,
) -> None:
    site = open_site()
    trip(site)
    lockout_id = site.lock_out(ROOM, "wang")
    site.poll()
    assert site.sent(ROOM) == []  # it is open already
    with site.books.read() as connection:
        assert holds.get_lockout(connection, lockout_id).confirmed_open_at is not None
    site.poll(POLLS_UNTIL_IT_CLOSES - 2)
    assert (site.contacts(ROOM), site.told("closed_against_hold")) == ("open", [])
    site.poll()  # the module has closed, was seen, and was opened
    assert (site.contacts(ROOM), site.sent(ROOM)) == ("open", ["open"])
    assert site.reasons(ROOM) == ["lockout"]
    assert ("closed_against_hold", ROOM) in site.active()
    site.poll()
    assert site.active() == []
    (told,) = site.told("closed_against_hold")
    assert told.priority == "critical"
    site.poll(2 * POLLS_UNTIL_IT_CLOSES)
    assert (site.contacts(ROOM), site.sent(ROOM)) == ("open", ["open"])


def test_beyond_its_day_s_number_a_trip_is_latched_and_the_module_that_closes_is_opened_again(
    open_site: OpenSite,
) -> None:
    site = open_site(trips={"restores_a_day": 1})
    trip(site)
    site.poll(POLLS_UNTIL_IT_CLOSES + 1)
    assert (site.reasons(ROOM), site.contacts(ROOM)) == ([], "closed")
    trip(site)
    (hold,) = site.holds(ROOM)
    assert (hold.reason, hold.expected_release_at) == ("module_trip", None)
    site.poll(POLLS_UNTIL_IT_CLOSES)
    assert (site.contacts(ROOM), site.sent(ROOM)) == ("open", ["open"])
    assert [one.circuit_id for one in site.told("closed_against_hold")] == [ROOM]
    site.poll(2 * POLLS_UNTIL_IT_CLOSES)
    assert (site.contacts(ROOM), site.reasons(ROOM)) == ("open", ["module_trip"])
    assert site.active() == [("load_off", ROOM)]
    site.reset(ROOM)
    site.poll()
    assert (site.contacts(ROOM), site.reasons(ROOM), site.active()) == ("closed", [], [])
    assert site.sent(ROOM) == ["open", "closed"]


def test_a_hand_that_closes_it_before_its_delay_is_overruled(open_site: OpenSite) -> None:
    site = open_site()
    trip(site)
    site.poll(2)
    site.fault("m-1", "switched_locally", relay="closed", channel=0)
    site.poll()
    assert (site.contacts(ROOM), site.sent(ROOM)) == ("open", ["open"])
    assert site.reasons(ROOM) == ["module_trip"]
    assert len(site.told("closed_against_hold")) == 1
