"""Lock-outs, vacancies, emergencies over a part of the site; planned outages, keep-supply, questions."""

from datetime import timedelta

import pytest

from dormpower.books import confirmations, holds, intents
from dormpower.books.residencies import begin_residency, end_residency
from dormpower.domain.confirming import ReadBack
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay

OWN, OTHER = "south-01-101", "south-01-102"
FLOOR = {"campus": "south", "building": "01", "floor": "1"}


def states(campus, room_id):
    room = campus.ask("admin", "GET", f"/rooms/{room_id}").json()
    return [circuit["state"] for circuit in room["circuits"]]


def test_a_floor_is_locked_out_confirmed_when_read_back_and_lifted_by_its_holder_alone(campus):
    for number in (101, 102):
        for kind in ("lighting", "ac"):
            campus.seen(f"south-01-{number}-{kind}")
    answer = campus.ask("maintenance", "POST", "/lockouts", json={"scope": FLOOR, "reason": "riser"})
    assert answer.status_code == 202
    scoped = answer.json()
    assert (scoped["circuits"], scoped["confirmed_open"], scoped["confirmed_open_at"]) == (4, 0, None)
    assert states(campus, OWN) == states(campus, OTHER) == ["locked_out"] * 2
    assert "locked_out" not in states(campus, "south-01-203")
    with campus.books.write() as connection:
        assert len(intents.unhandled(connection, 10)) == 4
        for number in (101, 102):
            for kind in ("lighting", "ac"):
                read_back = ReadBack(relay=Relay.OPEN, drawing=False, read_at=campus.clock.now())
                confirmations.note(
                    connection,
                    circuit_id=f"south-01-{number}-{kind}",
                    read_back=read_back,
                    evidence={},
                    now=campus.clock.now(),
                )
    (listed,) = campus.ask("maintenance", "GET", "/lockouts").json()["items"]
    assert listed["confirmed_open"] == 4
    assert listed["confirmed_open_at"] is not None
    room = campus.ask("student", "GET", f"/rooms/{OWN}", headers={"Accept-Language": "en"}).json()
    assert "prove dead at the breaker before work" in room["circuits"][0]["holds"][0]["detail"]["text"]
    path = f"/lockouts/{scoped['scoped_hold_id']}"
    assert campus.ask("admin", "DELETE", path).status_code == 403
    assert campus.ask("maintenance", "DELETE", path).status_code == 204
    assert "locked_out" not in states(campus, OWN)
    assert campus.ask("maintenance", "DELETE", path).status_code == 404


def test_an_admin_lifts_anothers_lock_out_with_a_reason(sqlite_campus):
    campus = sqlite_campus
    body = {"scope": {"room_id": OWN}, "reason": "riser"}
    scoped = campus.ask("maintenance", "POST", "/lockouts", json=body).json()
    path = f"/lockouts/{scoped['scoped_hold_id']}"
    assert campus.ask("admin", "DELETE", path, params={"reason": "holder has left"}).status_code == 204


@pytest.mark.parametrize("scope", [{}, {"building": "01"}, {"campus": "nowhere"}, {"wing": "east"}])
def test_a_scope_that_names_too_little_is_refused_in_words(sqlite_campus, scope):
    answer = sqlite_campus.ask("maintenance", "POST", "/lockouts", json={"scope": scope, "reason": "x"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_an_emergency_off_names_its_circuits_and_is_confirmed_with_them(campus):
    asked = {"campus": "south", "building": "01", "reason": "smoke"}
    proposal = campus.ask("maintenance", "POST", "/emergencies/proposals", json=asked).json()
    assert (proposal["circuits"], proposal["rooms"], proposal["keep_supply_rooms"]) == (6, 3, 0)
    wrong = {"token": proposal["token"], "circuits": 5}
    refused = campus.ask("maintenance", "POST", "/emergencies", json=wrong)
    assert refused.status_code == 409
    assert "nothing was cut" in refused.json()["detail"]
    assert "locked_out" not in states(campus, OWN)
    right = {"token": proposal["token"], "circuits": 6}
    assert campus.ask("admin", "POST", "/emergencies", json=right).status_code == 409  # somebody else's token
    scoped = campus.ask("maintenance", "POST", "/emergencies", json=right).json()
    assert scoped["circuits"] == 6
    assert states(campus, OWN) == ["locked_out", "locked_out"]
    path = f"/emergencies/{scoped['scoped_hold_id']}"
    assert (
        campus.ask(
            "admin", "DELETE", f"/vacancies/{scoped['scoped_hold_id']}", params={"reason": "x"}
        ).status_code
        == 404
    )
    assert campus.ask("admin", "DELETE", path).status_code == 422  # no reason
    assert campus.ask("admin", "DELETE", path, params={"reason": "all clear"}).status_code == 204
    assert campus.ask("admin", "GET", "/emergencies").json() == {"items": []}
    assert "locked_out" not in states(campus, OWN)


def test_a_vacant_room_is_off_until_the_vacancy_ends(sqlite_campus):
    campus = sqlite_campus
    body = {"room_id": OTHER, "reason": "nobody lives there"}
    scoped = campus.ask("admin", "POST", "/vacancies", json=body).json()
    assert states(campus, OTHER) == ["locked_out", "locked_out"]
    path = f"/vacancies/{scoped['scoped_hold_id']}"
    assert campus.ask("maintenance", "DELETE", path, params={"reason": "moved in"}).status_code == 204
    assert "locked_out" not in states(campus, OTHER)


def test_a_planned_outage_is_announced_on_its_rooms_and_called_off(campus):
    start = campus.clock.now() + timedelta(hours=3)
    body = {
        "scope": FLOOR,
        "from_at": start.isoformat(),
        "to_at": (start + timedelta(hours=1)).isoformat(),
        "note": "transformer",
    }
    outage = campus.ask("maintenance", "POST", "/outages", json=body).json()
    room = campus.ask("student", "GET", f"/rooms/{OWN}", headers={"Accept-Language": "en"}).json()
    (told,) = room["announcements"]
    assert told["outage_id"] == outage["outage_id"]
    assert told["detail"]["text"] == "Planned outage from 2026-05-20 15:00 to 2026-05-20 16:00. transformer"
    listed = campus.ask("admin", "GET", "/rooms").json()["items"]
    assert [len(one["announcements"]) for one in listed] == [1, 1, 0]
    path = f"/outages/{outage['outage_id']}"
    assert campus.ask("maintenance", "DELETE", path, params={"reason": "postponed"}).status_code == 204
    assert campus.ask("student", "GET", f"/rooms/{OWN}").json()["announcements"] == []
    assert campus.ask("maintenance", "DELETE", path, params={"reason": "again"}).status_code == 404
    past = {**body, "from_at": "2020-01-01T00:00:00Z"}
    assert campus.ask("maintenance", "POST", "/outages", json=past).status_code == 422


def test_the_keep_supply_list_is_kept_by_the_admin(sqlite_campus):
    campus = sqlite_campus
    body = {"keep": True, "reason": "oxygen"}
    path = f"/rooms/{OWN}/keep-supply"
    assert campus.ask("admin", "PUT", path, json=body).json() == {"room_id": OWN, "keep": True, "changed": True}
    assert not campus.ask("admin", "PUT", path, json=body).json()["changed"]
    assert [room["room_id"] for room in campus.ask("finance", "GET", "/keep-supply").json()["items"]] == [OWN]


def hold_on(campus, circuit_id):
    with campus.books.write() as connection:
        return holds.place(
            connection,
            circuit_id=circuit_id,
            reason=Reason.PROHIBITED,
            placed_by="rule:prohibited",
            evidence={"delta_w": 1800},
            now=campus.clock.now(),
        )


def test_a_resident_asks_whether_a_cut_was_right_and_gets_an_answer_on_record(campus):
    hold_on(campus, f"{OWN}-lighting")
    (hold,) = campus.ask("student", "GET", f"/rooms/{OWN}").json()["circuits"][0]["holds"]
    body = {"subject_kind": "hold", "subject_id": hold["hold_id"], "question": "It was a laptop."}
    path = f"/circuits/{OWN}-lighting/disputes"
    asked = campus.ask("student", "POST", path, json=body)
    assert asked.status_code == 201
    dispute_id = asked.json()["dispute_id"]
    assert [
        one["dispute_id"]
        for one in campus.ask("maintenance", "GET", "/disputes", params={"open": "true"}).json()["items"]
    ] == [dispute_id]
    said = {"verdict": "false", "answer": "You are right, and we have marked it."}
    assert campus.ask("maintenance", "POST", f"/disputes/{dispute_id}/answer", json=said).status_code == 200
    (told,) = campus.ask("student", "GET", path).json()["items"]
    assert (told["verdict"], told["answer"], told["answered_by"]) == ("false", said["answer"], "maintenance")
    assert campus.ask("maintenance", "POST", f"/disputes/{dispute_id}/answer", json=said).status_code == 404


def test_a_question_about_anothers_circuit_or_time_finds_nothing(sqlite_campus):
    campus = sqlite_campus
    elsewhere = hold_on(campus, f"{OTHER}-lighting")
    before = hold_on(campus, f"{OWN}-lighting")
    path = f"/circuits/{OWN}-lighting/disputes"
    body = {"subject_kind": "hold", "subject_id": elsewhere, "question": "?"}
    assert campus.ask("student", "POST", path, json=body).status_code == 404
    with campus.books.write() as connection:
        user_id = campus.user_ids["student"]
        end_residency(connection, user_id=user_id, room_id=OWN, at=campus.clock.now() - timedelta(days=1))
        begin_residency(
            connection, user_id=user_id, room_id=OWN, from_at=campus.clock.now() + timedelta(minutes=1)
        )
    campus.clock.advance(120)
    assert campus.ask("student", "POST", path, json={**body, "subject_id": before}).status_code == 404
