"""Rooms and circuits as the API shows them."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import holds
from dormpower.domain.holds import Reason

LIGHTING = "south-01-101-lighting"


def place(campus, reason, circuit_id=LIGHTING, **extra):
    with campus.books.write() as connection:
        return holds.place(
            connection,
            circuit_id=circuit_id,
            reason=Reason(reason),
            placed_by="rule:test",
            evidence={},
            now=campus.clock.now(),
            **extra,
        )


def lighting(campus, who="student"):
    return campus.ask(who, "GET", "/rooms/south-01-101").json()["circuits"][0]


def test_a_room_has_its_two_circuits_with_every_field_of_the_contract(campus):
    campus.seen(LIGHTING)
    room = campus.ask("student", "GET", "/rooms/south-01-101").json()
    assert list(room) == ["room_id", "campus", "building", "floor", "name", "circuits", "announcements"]
    assert [circuit["circuit_id"] for circuit in room["circuits"]] == [LIGHTING, "south-01-101-ac"]
    assert room["circuits"][0] == {
        "circuit_id": LIGHTING,
        "kind": "lighting",
        "state": "normal",
        "online": True,
        "relay": "closed",
        "control": "settled",
        "expected_change_at": None,
        "waiting": None,
        "holds": [],
        "account_id": "acc-south-01-101-lighting",
        "balance_wh": 0,
        "balance_kwh": "0.000",
        "level": "arrears",
        "power_w": 12.5,
        "last_seen_at": "2026-05-20T04:00:00Z",
        "days_left": 0,
        "warnings": [],
        "cut_not_before_at": None,
        "open_but_drawing": False,
    }
    assert room["circuits"][1]["state"] == "offline"
    assert room["circuits"][1]["relay"] == "unknown"


@pytest.mark.parametrize(
    ("reasons", "state"),
    [
        (["lockout", "overload", "arrears"], "locked_out"),
        (["emergency"], "locked_out"),
        (["vacant", "curfew"], "locked_out"),
        (["overload", "arrears"], "load_off"),
        (["prohibited"], "load_off"),
        (["module_trip"], "load_off"),
        (["opened_locally", "curfew"], "load_off"),
        (["shed"], "load_off"),
        (["arrears", "curfew"], "arrears"),
        (["curfew"], "scheduled_off"),
        ([], "normal"),
    ],
)
def test_the_state_is_the_first_match_of_the_standing_holds_and_the_filter_agrees(
    sqlite_campus, reasons, state
):
    for reason in reasons:
        place(sqlite_campus, reason)
    sqlite_campus.seen(LIGHTING)
    assert lighting(sqlite_campus)["state"] == state
    for wanted in ("locked_out", "load_off", "arrears", "scheduled_off", "normal"):
        found = sqlite_campus.ask("finance", "GET", "/rooms", params={"state": wanted}).json()["items"]
        assert [room["room_id"] for room in found] == (["south-01-101"] if wanted == state else [])


def test_a_circuit_not_read_within_the_stale_limit_is_offline(campus):
    campus.seen(LIGHTING)
    campus.clock.advance(10_000)
    assert lighting(campus)["state"] == "offline"
    assert lighting(campus)["online"] is False
    found = campus.ask("admin", "GET", "/rooms", params={"state": "offline"}).json()["items"]
    assert len(found) == 3


def test_a_shadow_hold_is_not_shown(campus):
    place(campus, "arrears", shadow=True)
    campus.seen(LIGHTING)
    assert lighting(campus)["holds"] == []
    assert lighting(campus)["state"] == "normal"


def test_a_hold_is_explained_in_the_readers_language(campus):
    place(campus, "opened_locally")
    answers = {
        language: campus.ask(
            "student", "GET", "/rooms/south-01-101", headers={"Accept-Language": language}
        ).json()["circuits"][0]["holds"][0]
        for language in ("en-GB,en;q=0.9", "zh-CN", "fr")
    }
    english, chinese, french = answers.values()
    assert english["reason"] == "opened_locally"
    assert english["release"] == "maintenance"
    assert english["since_at"] == "2026-05-20T04:00:00Z"
    assert english["detail"]["text"] != chinese["detail"]["text"]
    assert french["detail"]["text"] == chinese["detail"]["text"]


def test_pages_of_rooms_follow_each_other_without_gap_or_repeat(campus):
    found, cursor = [], None
    while True:
        query = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = campus.ask("finance", "GET", "/rooms", params=query).json()
        found += [room["room_id"] for room in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ["south-01-101", "south-01-102", "south-01-203"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"floor": "2"}, ["south-01-203"]),
        ({"building": "01", "campus": "south", "q": "102"}, ["south-01-102"]),
        ({"q": "SOUTH-01-20"}, ["south-01-203"]),
        ({"q": "%"}, []),
        ({"campus": "north"}, []),
    ],
)
def test_rooms_are_found_by_place_and_text(campus, query, expected):
    found = campus.ask("maintenance", "GET", "/rooms", params=query).json()["items"]
    assert [room["room_id"] for room in found] == expected


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 201}, {"cursor": "nonsense"}, {"state": "off"}, {"stat": "normal"}]
)
def test_a_query_that_is_not_understood_is_refused(sqlite_campus, query):
    answer = sqlite_campus.ask("finance", "GET", "/rooms", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_long_page_takes_no_more_queries_than_a_short_one(sqlite_campus):
    counts = []
    statements = []
    sa.event.listen(
        sqlite_campus.books.engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    for limit in (1, 3):
        statements.clear()
        assert (
            len(sqlite_campus.ask("finance", "GET", "/rooms", params={"limit": limit}).json()["items"]) == limit
        )
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 16


def test_a_planned_change_is_told(campus):
    place(campus, "overload", expected_release_at=campus.clock.now() + timedelta(minutes=5))
    hold = lighting(campus)["holds"][0]
    assert hold["release"] == "timer"
    assert hold["expected_release_at"] == "2026-05-20T04:05:00Z"


def test_a_relay_that_is_not_as_wanted_is_pending_before_the_gateway_took_it_up(sqlite_campus):
    sqlite_campus.seen(LIGHTING, relay="closed")
    place(sqlite_campus, "lockout")
    assert lighting(sqlite_campus)["control"] == "pending"
    sqlite_campus.seen(LIGHTING, relay="open")
    assert lighting(sqlite_campus)["control"] == "settled"


def test_usage_and_readings_without_a_period_are_those_of_the_last_days(sqlite_campus):
    usage = sqlite_campus.ask("maintenance", "GET", f"/circuits/{LIGHTING}/usage/daily").json()
    assert len(usage["items"]) == 30
    assert usage["items"][-1]["on"] == "2026-05-20"
    assert sqlite_campus.ask("maintenance", "GET", f"/circuits/{LIGHTING}/readings").status_code == 200
