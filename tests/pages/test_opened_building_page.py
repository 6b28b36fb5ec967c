"""A building whose relays were found open, on the alarms' pages: what it is, what is left, and the way back."""

import pytest

from dormpower.books import alarms, holds
from dormpower.domain.openings import OpeningsPolicy
from tests.opened_circuits import find_open

CIRCUITS = [f"south-01-{number}-{kind}" for number in (101, 102, 203) for kind in ("ac", "lighting")]


@pytest.fixture
def opened(place):
    """The alarm's id: all six circuits of building 01 were found open."""
    with place.books.write() as connection:
        policy = OpeningsPolicy(circuits=6)
        find_open(connection, CIRCUITS, policy=policy, period_s=1800.0, now=place.clock.now())
        (alarm,) = alarms.active(connection, kind="building_opened")
    return alarm.alarm_id


def test_the_lists_tell_of_the_building_and_what_it_looks_like(place, opened):
    browser = place.browser("maintenance")
    for path in ("/alarms", "/alarms?kind=load_off", "/alarms/list?kind=load_off"):
        page = browser.get(path).text
        assert "Circuits of a whole building found open" in page
        assert "6 circuits were found open; 6 of them are still off." in page
        assert "as after a return of supply" in page
        assert f"Still off: {', '.join(CIRCUITS)}" in page
    assert "像是停电后恢复供电" in browser.get("/alarms", headers={"Accept-Language": "zh"}).text


def test_the_building_is_reset_from_its_alarm(place, opened):
    page = place.browser("maintenance").get(f"/alarms/{opened}").text
    assert "Reset the building" in page
    assert "POST /api/v1/resets {&#34;scope&#34;: {&#34;campus&#34;: &#34;south&#34;" in page
    assert "Reset the building" not in place.browser("admin").get(f"/alarms/{opened}").text
    assert place.post("maintenance", f"/alarms/{opened}/reset").status_code == 303
    page = place.browser("maintenance").get(f"/alarms/{opened}").text
    assert "Cleared" in page
    assert "6 circuits were found open; 0 of them are still off." in page
    assert "Reset the building" not in page
    with place.books.read() as connection:
        assert holds.standing(connection) == {}


def test_only_a_building_s_alarm_resets_a_building(place, opened):
    assert place.post("maintenance", f"/alarms/{place.alarm_id}/reset").status_code == 404
    assert place.post("maintenance", "/alarms/alm_none/reset").status_code == 404
    with place.books.read() as connection:
        assert len(holds.standing(connection)) == len(CIRCUITS)


def test_a_folded_alarm_leads_to_the_building_s(place, opened):
    with place.books.write() as connection:
        alarms.clear_alarms(
            connection,
            kind="load_off",
            subject_kind="circuit",
            subject_ids=["south-01-102-ac"],
            folded_into=opened,
            now=place.clock.now(),
        )
    browser = place.browser("maintenance")
    assert (
        f'href="/alarms/{opened}">Another alarm tells of it since'
        in browser.get(f"/alarms/{place.alarm_id}").text
    )
    assert f"/alarms/{place.alarm_id}/acknowledge" not in browser.get("/alarms").text
