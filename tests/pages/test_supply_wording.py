"""How the pages word what a circuit's supply is: never more than the wire has said."""

import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, control, holds
from dormpower.books.tables import meter_points
from dormpower.domain.holds import Reason
from dormpower.domain.reconcile import Control, Waiting, WaitsFor

OWN, OTHER = "south-01-101", "south-01-102"


def test_with_other_reasons_nobody_is_told_that_a_payment_alone_brings_the_supply_back(sqlite_place):
    sqlite_place.hold(f"{OWN}-ac", Reason.ARREARS, evidence={"available_wh": -2500, "floor_wh": 0})
    browser = sqlite_place.browser("student")
    alone = browser.get(f"/rooms/{OWN}").text
    assert "to bring the supply back" in alone
    assert "nothing else is needed" in alone
    sqlite_place.hold(f"{OWN}-ac", Reason.OVERLOAD)
    both = browser.get(f"/rooms/{OWN}").text
    assert "they have to end too before supply returns" in both
    assert "to bring the supply back" not in both
    assert "nothing else is needed" not in both


def saw(place, circuit_id, **point):
    with place.books.write() as connection:
        connection.execute(
            sa.update(meter_points)
            .where(meter_points.c.circuit_id == circuit_id)
            .values(last_seen_at=place.clock.now(), **point)
        )


def test_what_nothing_holds_off_is_not_told_as_supplied_before_its_switch_is_closed(sqlite_place):
    saw(sqlite_place, f"{OWN}-ac", relay="open")
    saw(sqlite_place, f"{OWN}-lighting", relay="closed")
    back_at = sqlite_place.clock.now() + timedelta(minutes=3)
    with sqlite_place.books.write() as connection:
        control.save(
            connection,
            circuit_id=f"{OWN}-ac",
            now=sqlite_place.clock.now(),
            control="waiting",
            expected_change_at=back_at,
        )
    page = sqlite_place.browser("student").get(f"/rooms/{OWN}").text
    lighting, ac = page.split('id="card-')[1:3]
    assert "Supply normal" in lighting
    assert "Supply normal" not in ac
    assert "Released, switch not closed yet" in ac
    assert "the switch closes by itself. Expected back 20 May 2026, 12:03" in ac
    with sqlite_place.books.write() as connection:
        control.save_wait(
            connection,
            circuit_id=f"{OWN}-ac",
            control=Control.WAITING,
            expected_change_at=back_at,
            waiting=Waiting(why=WaitsFor.FEEDER_ROOM, feeder_id="south-01"),
            now=sqlite_place.clock.now(),
        )
    cards = sqlite_place.browser("student").get(f"/rooms/{OWN}/cards").text
    assert "Feeder south-01 has no room at present" in cards
    assert "its turn comes. Expected back 20 May 2026, 12:03" in cards
    with sqlite_place.books.write() as connection:
        control.save(connection, circuit_id=f"{OWN}-ac", now=back_at, control="failed", expected_change_at=None)
    assert "closes by itself" not in sqlite_place.browser("student").get(f"/rooms/{OWN}/cards").text


def test_what_is_reported_open_while_current_flows_is_never_told_as_off(sqlite_place):
    sqlite_place.hold(f"{OWN}-ac", Reason.OVERLOAD)
    saw(sqlite_place, f"{OWN}-ac", relay="open")
    browser = sqlite_place.browser("maintenance")
    addresses = (f"/rooms/{OWN}", "/buildings/south/01", f"/rooms?q={OWN}")
    assert all("Load off</" in browser.get(one).text for one in addresses)
    with sqlite_place.books.write() as connection:
        alarms.raise_alarm(
            connection,
            kind="open_but_drawing",
            priority="critical",
            subject_kind="circuit",
            subject_id=f"{OWN}-ac",
            circuit_id=f"{OWN}-ac",
            detail={},
            now=sqlite_place.clock.now(),
        )
    for address in addresses:
        page = browser.get(address).text
        assert "Reported open, but current flows" in page, address
        assert "Load off</p>" not in page, address
        assert "Load off</span>" not in page, address


def test_a_lock_out_that_is_ordered_is_not_told_as_done_by_the_timeline(sqlite_place):
    sqlite_place.post("maintenance", f"/circuits/{OWN}-ac/lockouts", reason="wiring")
    page = sqlite_place.browser("student").get(f"/circuits/{OWN}-ac/timeline").text
    assert "lock-out ordered (lock-out); whether the switch opened" in page
    assert "Locked out" not in page


def test_a_lock_out_over_a_floor_is_lifted_as_a_whole_from_any_of_its_rooms(sqlite_place):
    headers = {"X-CSRF-Token": sqlite_place.csrf("maintenance")}
    browser = sqlite_place.browser("maintenance")
    wanted = {"scope": {"campus": "south", "building": "01", "floor": "1"}, "reason": "riser"}
    assert browser.post("/api/v1/lockouts", json=wanted, headers=headers).status_code == 202
    page = browser.get(f"/rooms/{OTHER}").text
    assert "Remove the whole lock-out of maintenance" in page
    lift = re.search(r'action="(/lockouts/[^/]+/lift)"', page)[1]
    named = re.search(r'name="room_id" value="([^"]+)"', page)[1]
    assert sqlite_place.post("admin", lift).status_code == 403
    lifted = sqlite_place.post("maintenance", lift, room_id=named)
    assert (lifted.status_code, lifted.headers["location"]) == (303, f"/rooms/{OTHER}")
    with sqlite_place.books.read() as connection:
        assert holds.standing(connection) == {}


@pytest.mark.parametrize("named", ["", "no-such-room", "//elsewhere.example/", f"{OWN}/../../sign-out"])
def test_lifting_leads_to_a_room_of_the_site_whatever_the_form_says(sqlite_place, named):
    sqlite_place.post("maintenance", f"/circuits/{OWN}-ac/lockouts", reason="wiring")
    page = sqlite_place.browser("maintenance").get(f"/rooms/{OWN}").text
    lift = re.search(r'action="(/lockouts/[^/]+/lift)"', page)[1]
    lifted = sqlite_place.post("maintenance", lift, room_id=named)
    assert (lifted.status_code, lifted.headers["location"]) == (303, f"/rooms/{OWN}")
