"""The alarms' pages: the worst first in any flood, alarms put aside and brought back, who did what."""

import re
from datetime import timedelta

from dormpower.books import alarms

OWN, OTHER = "south-01-101", "south-01-102"


def raise_alarm(place, number, *, kind="module_offline", priority="medium"):
    with place.books.write() as connection:
        return alarms.raise_alarm(
            connection,
            kind=kind,
            priority=priority,
            subject_kind="module",
            subject_id=f"m-{number}",
            detail={},
            now=place.clock.now(),
        )


def sections(page):
    return dict(re.findall(r'<h2 id="alarms-(\w+)">(.*?)</section>', page, flags=re.DOTALL))


def test_a_flood_never_pushes_an_older_critical_alarm_off_the_page(place):
    raise_alarm(place, "old", kind="open_but_drawing", priority="critical")
    for number in range(120):
        place.clock.advance(1)
        raise_alarm(place, number)
    page = place.browser("maintenance").get("/alarms").text
    new = sections(page)["new"]
    assert new.index("m-old") < new.index("m-119") < new.index("m-118")
    assert "m-0<" not in new
    for said in ("Only the 100 most urgent are shown", "122 alarms were raised within ten minutes"):
        assert said in page, said
    assert '<span class="quiet">122</span>' in new  # with the one that the campus begins with


def test_what_is_put_aside_leaves_the_list_until_its_hour(place):
    answer = place.post(
        "maintenance", f"/alarms/{place.alarm_id}/shelve", hours="8", reason="a part is on its way"
    )
    assert answer.status_code == 303
    browser = place.browser("maintenance")
    shown = sections(browser.get("/alarms").text)
    assert f"{OTHER}-ac" not in shown["new"]
    assert "Put aside by maintenance until" in shown["aside"]
    life = browser.get(f"/alarms/{place.alarm_id}").text
    assert "a part is on its way" in life
    assert "Brought back" not in life
    place.clock.advance(timedelta(hours=9).total_seconds())
    shown = sections(browser.get("/alarms").text)
    assert f"{OTHER}-ac" in shown["new"]
    assert "aside" not in shown


def test_an_alarm_is_brought_back_before_its_hour(place):
    place.post("maintenance", f"/alarms/{place.alarm_id}/shelve", hours="1", reason="known")
    assert place.post("maintenance", f"/alarms/{place.alarm_id}/unshelve").status_code == 303
    browser = place.browser("maintenance")
    assert f"{OTHER}-ac" in sections(browser.get("/alarms").text)["new"]
    assert "Brought back" in browser.get(f"/alarms/{place.alarm_id}").text


def test_putting_aside_needs_a_reason_and_one_of_the_hours(place):
    for fields in ({"hours": "8", "reason": " "}, {"hours": "999", "reason": "known"}, {"reason": "known"}):
        assert place.post("maintenance", f"/alarms/{place.alarm_id}/shelve", **fields).status_code == 422
    assert place.post("maintenance", "/alarms/alm_none/shelve", hours="8", reason="known").status_code == 404


def test_what_stands_for_a_day_is_counted(place):
    place.clock.advance(timedelta(days=1, minutes=1).total_seconds())
    assert "1 alarms have been active for a day or longer" in place.browser("admin").get("/alarms").text
