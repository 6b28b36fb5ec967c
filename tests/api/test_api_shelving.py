"""Putting alarms aside, what was done with one, and how many there are."""

from datetime import timedelta

import pytest

from dormpower.books import alarms
from dormpower.domain.alarms import FLOOD_ABOVE, LONGEST_SHELVING_S


def raise_alarm(campus, subject="m-1"):
    with campus.books.write() as connection:
        return alarms.raise_alarm(
            connection,
            kind="module_offline",
            priority="medium",
            subject_kind="module",
            subject_id=subject,
            detail={},
            now=campus.clock.now(),
        )


def listed(campus, **query):
    found = campus.ask("admin", "GET", "/alarms", params=query).json()["items"]
    return [alarm["alarm_id"] for alarm in found]


def shelve(campus, alarm_id, *, hours=2.0, who="maintenance", reason="spare part ordered"):
    until_at = campus.clock.now() + timedelta(hours=hours)
    body = {"until_at": until_at.isoformat(), "reason": reason}
    return campus.ask(who, "POST", f"/alarms/{alarm_id}/shelve", json=body)


def test_an_alarm_is_put_aside_and_comes_back_when_its_time_is_over(campus):
    first, second = raise_alarm(campus), raise_alarm(campus, "m-2")
    answer = shelve(campus, first).json()
    assert (answer["shelved_by"], answer["shelved_until_at"]) == ("maintenance", "2026-05-20T06:00:00Z")
    assert listed(campus, shelved="true") == [first]
    assert listed(campus, shelved="false") == [second]
    assert sorted(listed(campus)) == sorted([first, second])
    campus.clock.advance(2 * 3600)
    assert listed(campus, shelved="true") == []
    assert sorted(listed(campus, shelved="false")) == sorted([first, second])


def test_an_alarm_is_brought_back_before_its_time_and_every_step_is_on_record(campus):
    alarm_id = raise_alarm(campus)
    shelve(campus, alarm_id)
    path = f"/alarms/{alarm_id}/shelve"
    assert campus.ask("maintenance", "DELETE", path).json()["shelved_until_at"] is None
    assert campus.ask("maintenance", "DELETE", path).status_code == 409
    campus.ask("maintenance", "POST", f"/alarms/{alarm_id}/acknowledge")
    shown = campus.ask("admin", "GET", f"/alarms/{alarm_id}").json()
    assert [(step["step"], step["actor"]) for step in shown["steps"]] == [
        ("raised", "system"),
        ("shelved", "maintenance"),
        ("unshelved", "maintenance"),
        ("acknowledged", "maintenance"),
    ]
    assert shown["steps"][1]["detail"]["reason"] == "spare part ordered"
    assert shown["alarm_id"] == alarm_id


@pytest.mark.parametrize("hours", [0, -1, LONGEST_SHELVING_S / 3600 + 1])
def test_nothing_is_put_aside_for_good_or_for_no_time(sqlite_campus, hours):
    refused = shelve(sqlite_campus, raise_alarm(sqlite_campus), hours=hours)
    assert refused.status_code == 422
    assert "within 72 h" in refused.json()["detail"]
    assert shelve(sqlite_campus, raise_alarm(sqlite_campus, "m-3"), reason="  ").status_code == 422


def test_what_is_cleared_or_unknown_is_not_put_aside(sqlite_campus):
    campus = sqlite_campus
    alarm_id = raise_alarm(campus)
    with campus.books.write() as connection:
        alarms.clear_alarm(
            connection,
            kind="module_offline",
            subject_kind="module",
            subject_id="m-1",
            now=campus.clock.now(),
        )
    assert shelve(campus, alarm_id).status_code == 409
    assert shelve(campus, "alm_none").status_code == 404
    assert campus.ask("admin", "GET", "/alarms/alm_none").status_code == 404


def test_figures_count_what_stands_what_is_aside_and_a_flood(campus):
    standing = raise_alarm(campus, "m-0")
    campus.clock.advance(25 * 3600)
    for number in range(FLOOD_ABOVE):
        raise_alarm(campus, f"m-{number + 1}")
    shelve(campus, standing)
    path = "/alarms/figures"
    assert campus.ask("maintenance", "GET", path).json() == {
        "active": FLOOD_ABOVE + 1,
        "unacknowledged": FLOOD_ABOVE + 1,
        "shelved": 1,
        "standing": 1,
        "raised_lately": FLOOD_ABOVE,
        "flooding": False,
    }
    raise_alarm(campus, "one-more")
    assert campus.ask("maintenance", "GET", path).json()["flooding"]
    metrics = campus.client.get("/metrics").text
    assert "dormpower_alarms_flooding 1.0" in metrics
    assert "dormpower_alarms_shelved 1.0" in metrics
    assert "dormpower_alarms_standing 1.0" in metrics
