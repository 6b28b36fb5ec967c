"""Feeders with their demand, who was shed, who would have been off, and the rate of false trips."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, feeders, holds, reviews, shadow_alarms
from dormpower.books.tables import residencies, rooms
from dormpower.domain.days import CampusDays
from dormpower.domain.feeder_facts import Demand, FeederState, Source
from dormpower.domain.holds import Reason
from tests.api.conftest import make_room

OWN, OTHER, UPSTAIRS = "south-01-101", "south-01-102", "south-01-203"


def demand(feeder_id, campus):
    return Demand(
        feeder_id=feeder_id,
        limit_w=180_000,
        source=Source.METERED,
        measured_w=171_000,
        expected_w=172_000,
        projected_w=175_000,
        reserved_w=2_000,
        sampled_at=campus.clock.now(),
    )


def describe_feeders(campus):
    """South feeds south-01; OWN and OTHER hang on it, UPSTAIRS on north."""
    with campus.books.write() as connection:
        for feeder_id, parent in (("south", None), ("south-01", "south"), ("north", None)):
            feeders.save_feeder(
                connection,
                demand=demand(feeder_id, campus),
                parent=parent,
                mode="enforce",
                circuits_off=3,
                state=FeederState(),
                now=campus.clock.now(),
            )
        for room_id, feeder_id in ((OWN, "south-01"), (OTHER, "south-01"), (UPSTAIRS, "north")):
            connection.execute(sa.update(rooms).where(rooms.c.room_id == room_id).values(feeder=feeder_id))


def shed(campus, room_id, *, minutes, ago_days=0, shadow=False):
    """Put a finished turn on record that began `ago_days` days and `minutes` minutes ago."""
    to_at = campus.clock.now() - timedelta(days=ago_days)
    with campus.books.write() as connection:
        feeders.note_turns(
            connection,
            [
                feeders.EndedTurn(
                    circuit_id=f"{room_id}-ac",
                    room_id=room_id,
                    from_at=to_at - timedelta(minutes=minutes),
                    to_at=to_at,
                    shadow=shadow,
                )
            ],
            days=CampusDays(campus.context.zone),
        )


def place(campus, circuit_id, reason, *, shadow=False, evidence=None):
    with campus.books.write() as connection:
        return holds.place(
            connection,
            circuit_id=circuit_id,
            reason=reason,
            placed_by=f"rule:{reason}",
            shadow=shadow,
            evidence=evidence or {},
            now=campus.clock.now(),
        )


def test_feeders_are_listed_with_their_demand(campus):
    describe_feeders(campus)
    listed = campus.ask("maintenance", "GET", "/feeders").json()["items"]
    assert [one["feeder_id"] for one in listed] == ["north", "south", "south-01"]
    assert listed[2] == {
        "feeder_id": "south-01",
        "parent": "south",
        "limit_w": 180_000,
        "mode": "enforce",
        "source": "metered",
        "measured_w": 171_000,
        "expected_w": 172_000,
        "projected_w": 175_000,
        "reserved_w": 2_000,
        "circuits_off": 3,
        "sampled_at": "2026-05-20T04:00:00Z",
        "decided_at": "2026-05-20T04:00:00Z",
        "alarms": [],
    }


def test_who_was_shed_is_told_longest_off_first_with_the_turn_under_way(campus):
    describe_feeders(campus)
    shed(campus, OWN, minutes=10)
    shed(campus, OWN, minutes=5, ago_days=1)
    shed(campus, OTHER, minutes=8)
    shed(campus, UPSTAIRS, minutes=30)
    shed(campus, OWN, minutes=99, shadow=True)
    place(campus, f"{OTHER}-ac", Reason.SHED)
    campus.clock.advance(12 * 60)
    found = campus.ask("maintenance", "GET", "/reports/fairness", params={"feeder": "south"}).json()
    assert [(one["circuit_id"], one["minutes_off"], one["turns"]) for one in found["items"]] == [
        (f"{OTHER}-ac", 20.0, 2),
        (f"{OWN}-ac", 15.0, 2),
    ]
    assert (found["circuits"], found["minutes_off"], found["longest_minutes_off"]) == (2, 35.0, 20.0)
    today = {"from": "2026-05-20", "to": "2026-05-20", "feeder": "south-01"}
    only = campus.ask("admin", "GET", "/reports/fairness", params=today).json()["items"]
    assert [one["minutes_off"] for one in only] == [20.0, 10.0]
    everywhere, query = [], {"limit": 2}
    while True:
        page = campus.ask("admin", "GET", "/reports/fairness", params=query).json()
        assert page["circuits"] == 3
        everywhere += [one["room_id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        query = {"limit": 2, "cursor": page["next_cursor"]}
    assert everywhere == [UPSTAIRS, OTHER, OWN]
    shadow = campus.ask("admin", "GET", "/reports/fairness", params={"shadow": "true"}).json()
    assert [one["minutes_off"] for one in shadow["items"]] == [99.0]


def test_a_turn_that_grows_while_pages_are_read_is_on_one_of_them(sqlite_campus):
    campus = sqlite_campus
    place(campus, f"{OTHER}-ac", Reason.SHED)
    campus.clock.advance(9 * 60)
    shed(campus, OWN, minutes=10)
    first = campus.ask("admin", "GET", "/reports/fairness", params={"limit": 1}).json()
    campus.clock.advance(2 * 60)  # what is under way is the longest off by now
    query = {"limit": 1, "cursor": first["next_cursor"]}
    second = campus.ask("admin", "GET", "/reports/fairness", params=query).json()
    listed = [(one["circuit_id"], one["minutes_off"]) for page in (first, second) for one in page["items"]]
    assert listed == [(f"{OWN}-ac", 10.0), (f"{OTHER}-ac", 9.0)]


@pytest.mark.parametrize("cursor", ["nonsense", "12", ":x", "-1:x", "1:2:", "1:-2:x", "1:x"])
def test_a_cursor_that_no_page_gave_out_is_refused(sqlite_campus, cursor):
    answer = sqlite_campus.ask("admin", "GET", "/reports/fairness", params={"cursor": cursor})
    assert answer.status_code == 422


def test_a_room_sees_its_own_days_within_the_residency_and_nothing_of_shadow(campus):
    for ago in (0, 1, 2):
        shed(campus, OWN, minutes=10 + ago, ago_days=ago)
    shed(campus, OWN, minutes=50, shadow=True)
    shed(campus, OTHER, minutes=70)
    path = f"/rooms/{OWN}/fairness"
    assert [one["minutes_off"] for one in campus.ask("student", "GET", path).json()["items"]] == [12, 11, 10]
    with campus.books.write() as connection:
        # Moved in yesterday morning: yesterday is a day of two residents.
        connection.execute(
            sa.update(residencies).values(from_at=campus.clock.now() - timedelta(days=1, hours=3))
        )
    own = campus.ask("student", "GET", path).json()["items"]
    assert own == [{"circuit_id": f"{OWN}-ac", "on": "2026-05-20", "minutes_off": 10.0, "turns": 1}]
    assert len(campus.ask("finance", "GET", path).json()["items"]) == 3
    assert campus.ask("student", "GET", f"/rooms/{OTHER}/fairness").status_code == 404


def test_who_would_have_been_off_is_told_with_its_evidence(campus):
    written = {"limit_w": 2000, "samples": [["2026-05-20T04:00:00+00:00", 2500.0]]}
    first = place(campus, f"{OWN}-ac", Reason.OVERLOAD, shadow=True, evidence=written)
    place(campus, f"{OWN}-ac", Reason.ARREARS)
    campus.clock.advance(1)
    second = place(campus, f"{UPSTAIRS}-ac", Reason.SHED, shadow=True)
    path = "/reports/shadow"
    page = campus.ask("maintenance", "GET", path, params={"limit": 1}).json()
    assert [one["hold_id"] for one in page["items"]] == [second]
    query = {"limit": 1, "cursor": page["next_cursor"]}
    (one,) = campus.ask("maintenance", "GET", path, params=query, headers={"Accept-Language": "en"}).json()[
        "items"
    ]
    assert (one["hold_id"], one["campus"], one["building"], one["to_at"]) == (first, "south", "01", None)
    assert "Limit 2000 W" in one["evidence"]["text"]
    for query, expected in (
        ({"reason": "shed"}, [second]),
        ({"campus": "north"}, []),
        ({"campus": "south", "building": "01"}, [second, first]),
        ({"from": "2026-05-21", "to": "2026-05-22"}, [second, first]),  # they still stand
        ({"from": "2026-05-01", "to": "2026-05-19"}, []),
    ):
        found = campus.ask("admin", "GET", path, params=query).json()["items"]
        assert [one["hold_id"] for one in found] == expected, query


def test_what_rules_in_shadow_would_have_told_is_listed_with_its_evidence(campus):
    written = {"delta_w": 1500.0, "duration_s": 5.0, "ratio": 0.99, "resistive_from": 0.95, "power_factor": 1.0}
    with campus.books.write() as connection:
        for circuit_id in (f"{OWN}-ac", f"{UPSTAIRS}-ac"):
            shadow_alarms.begin(
                connection,
                circuit_id=circuit_id,
                kind="prohibited_load",
                evidence=written,
                now=campus.clock.now(),
            )
            campus.clock.advance(1)
        shadow_alarms.end(connection, circuit_id=f"{OWN}-ac", kind="prohibited_load", now=campus.clock.now())
    path, english = "/reports/shadow/alarms", {"Accept-Language": "en"}
    page = campus.ask("maintenance", "GET", path, params={"limit": 1}, headers=english).json()
    (newest,) = page["items"]
    assert (newest["circuit_id"], newest["kind"], newest["to_at"]) == (
        f"{UPSTAIRS}-ac",
        "prohibited_load",
        None,
    )
    assert "rose at once by 1500.0 W" in newest["evidence"]["text"] or "1500 W" in newest["evidence"]["text"]
    query = {"limit": 1, "cursor": page["next_cursor"]}
    (older,) = campus.ask("admin", "GET", path, params=query).json()["items"]
    assert (older["circuit_id"], older["to_at"]) == (f"{OWN}-ac", "2026-05-20T04:00:02Z")
    assert campus.ask("admin", "GET", path, params={"campus": "north"}).json()["items"] == []
    assert campus.ask("maintenance", "GET", "/alarms").json()["items"] == []


def test_false_trips_are_counted_by_campus_and_building_alarms_that_tripped_nobody_among_them(
    make_campus, books
):
    campus = make_campus(books, rooms=[make_room(101), make_room(102), make_room(101, campus="north")])
    trip = place(campus, f"{OWN}-ac", Reason.PROHIBITED)
    place(campus, f"{OTHER}-ac", Reason.PROHIBITED)
    place(campus, "north-01-101-ac", Reason.PROHIBITED)
    place(campus, f"{OWN}-lighting", Reason.PROHIBITED, shadow=True)
    with campus.books.write() as connection:
        suspected = alarms.raise_alarm(
            connection,
            kind="prohibited_load",
            priority="medium",
            subject_kind="circuit",
            subject_id=f"{OWN}-lighting",
            circuit_id=f"{OWN}-lighting",
            detail={},
            now=campus.clock.now(),
        )
    for kind, subject_id, verdict in (("hold", trip, "right"), ("alarm", suspected, "false")):
        body = {"subject_kind": kind, "subject_id": subject_id, "verdict": verdict, "note": "seen"}
        assert campus.ask("maintenance", "POST", "/reviews", json=body).status_code == 204
    found = campus.ask("maintenance", "GET", "/reports/false-trips").json()["items"]
    assert found == [
        {
            "campus": "north",
            "building": "01",
            "trips": 1,
            "alarms": 0,
            "reviewed": 0,
            "false": 0,
            "rate": None,
        },
        {
            "campus": "south",
            "building": "01",
            "trips": 2,
            "alarms": 1,
            "reviewed": 2,
            "false": 1,
            "rate": 0.5,
        },
    ]
    query = {"from": "2026-05-01", "to": "2026-05-19"}
    assert campus.ask("maintenance", "GET", "/reports/false-trips", params=query).json() == {"items": []}


def test_who_marks_the_alarm_of_a_trip_marks_the_trip(campus):
    hold_id = place(campus, f"{OWN}-ac", Reason.PROHIBITED)
    (alarm,) = campus.ask("maintenance", "GET", "/alarms", params={"kind": "load_off"}).json()["items"]
    body = {"subject_kind": "alarm", "subject_id": alarm["alarm_id"], "verdict": "false", "note": "a laptop"}
    assert campus.ask("maintenance", "POST", "/reviews", json=body).status_code == 204
    (found,) = campus.ask("maintenance", "GET", "/reports/false-trips").json()["items"]
    assert (found["trips"], found["reviewed"], found["false"], found["rate"]) == (1, 1, 1, 1.0)
    with campus.books.read() as connection:
        decided = reviews.find_decision(connection, subject_kind="alarm", subject_id=alarm["alarm_id"])
    assert (decided.subject_kind, decided.subject_id) == ("hold", hold_id)
