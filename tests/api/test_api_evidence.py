"""What a decision rested on, as residents see it, and asking whether it was right."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, holds, reviews
from dormpower.books.tables import residencies
from dormpower.domain.holds import Reason

OWN, OTHER = "south-01-101", "south-01-102"
CIRCUIT = f"{OWN}-lighting"


def step_at(at, delta_w=1500.0):
    """The evidence of a step of load as the rule records it."""
    return {
        "delta_w": delta_w,
        "delta_va": 1510.0,
        "ratio": 0.9934,
        "power_factor": 0.99,
        "duration_s": 5.0,
        "sampling_period_s": 5.0,
        "before": [[(at - timedelta(seconds=5)).isoformat(), 60.0, 70.0]],
        "after": [[at.isoformat(), 60.0 + delta_w, 1580.0]],
        "min_step_w": 500.0,
        "resistive_from": 0.95,
    }


def trip(campus, circuit_id=CIRCUIT):
    now = campus.clock.now()
    with campus.books.write() as connection:
        return holds.place(
            connection,
            circuit_id=circuit_id,
            reason=Reason.PROHIBITED,
            placed_by="rule:prohibited",
            evidence=step_at(now),
            now=now,
        )


def suspect(campus, circuit_id=CIRCUIT, kind="prohibited_load"):
    now = campus.clock.now()
    with campus.books.write() as connection:
        return alarms.raise_alarm(
            connection,
            kind=kind,
            priority="medium",
            subject_kind="circuit",
            subject_id=circuit_id,
            circuit_id=circuit_id,
            detail=step_at(now),
            now=now,
        )


def move_in_at(campus, at):
    with campus.books.write() as connection:
        connection.execute(sa.update(residencies).values(from_at=at))


def first_hold(campus, who="student", language="en"):
    answer = campus.ask(who, "GET", f"/rooms/{OWN}", headers={"Accept-Language": language})
    (hold,) = answer.json()["circuits"][0]["holds"]
    return hold


def test_a_hold_shows_its_id_and_its_evidence_in_the_readers_language(campus):
    hold_id = trip(campus)
    hold = first_hold(campus)
    assert hold["hold_id"] == hold_id
    evidence = hold["evidence"]
    assert evidence["code"] == "evidence.prohibited"
    assert (evidence["params"]["delta_w"], evidence["params"]["ratio"]) == (1500, 0.993)
    assert "1500 W" in evidence["text"]
    assert [sample["power_w"] for sample in evidence["samples"]] == [60.0, 1560.0]
    assert first_hold(campus, language="zh")["evidence"]["text"] != evidence["text"]


def test_a_hold_from_before_the_residency_shows_no_evidence(sqlite_campus):
    campus = sqlite_campus
    trip(campus)
    placed_at = campus.clock.now()
    campus.clock.advance(3600)
    move_in_at(campus, placed_at + timedelta(minutes=1))
    assert first_hold(campus)["evidence"] is None
    assert first_hold(campus, who="maintenance")["evidence"]["samples"]


def test_samples_from_before_the_residency_are_left_out(sqlite_campus):
    campus = sqlite_campus
    trip(campus)
    move_in_at(campus, campus.clock.now())
    assert [sample["power_w"] for sample in first_hold(campus)["evidence"]["samples"]] == [1560.0]


def test_residents_see_the_prohibited_load_alarms_of_the_own_circuits_alone_and_ask(campus):
    own = suspect(campus)
    suspect(campus, kind="cover_open")
    elsewhere = suspect(campus, f"{OTHER}-lighting")
    path = f"/circuits/{CIRCUIT}/alarms"
    (shown,) = campus.ask("student", "GET", path, headers={"Accept-Language": "en"}).json()["items"]
    assert (shown["alarm_id"], shown["kind"]) == (own, "prohibited_load")
    assert "1500 W" in shown["evidence"]["text"]
    assert campus.ask("student", "GET", f"/circuits/{OTHER}-lighting/alarms").status_code == 404
    body = {"subject_kind": "alarm", "subject_id": shown["alarm_id"], "question": "A laptop charger?"}
    ask = f"/circuits/{CIRCUIT}/disputes"
    assert campus.ask("student", "POST", ask, json=body).status_code == 201
    assert campus.ask("student", "POST", ask, json={**body, "subject_id": elsewhere}).status_code == 404


def test_alarms_from_before_the_residency_are_not_shown(sqlite_campus):
    campus = sqlite_campus
    suspect(campus)
    raised_at = campus.clock.now()
    campus.clock.advance(60)
    move_in_at(campus, raised_at + timedelta(seconds=1))
    path = f"/circuits/{CIRCUIT}/alarms"
    assert campus.ask("student", "GET", path).json() == {"items": [], "next_cursor": None}
    assert len(campus.ask("maintenance", "GET", path).json()["items"]) == 1


@pytest.mark.parametrize("who", ["student", "maintenance"])
def test_pages_of_questions_are_full_though_others_asked_before_the_residency(sqlite_campus, who):
    campus = sqlite_campus
    asked = []
    for number in range(6):
        if number == 3:
            move_in_at(campus, campus.clock.now())
        with campus.books.write() as connection:
            asked.append(
                reviews.dispute(
                    connection,
                    subject_kind="hold",
                    subject_id=trip_again(campus, connection),
                    question="?",
                    actor="student",
                    now=campus.clock.now(),
                ).dispute_id
            )
        campus.clock.advance(60)
    path = f"/circuits/{CIRCUIT}/disputes"
    expected = asked[:2:-1] if who == "student" else asked[::-1]
    found, query = [], {"limit": 2}
    while True:
        page = campus.ask(who, "GET", path, params=query).json()
        found += [one["dispute_id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == 2
        query = {"limit": 2, "cursor": page["next_cursor"]}
    assert found == expected


def trip_again(campus, connection):
    now = campus.clock.now()
    hold_id = holds.place(
        connection,
        circuit_id=CIRCUIT,
        reason=Reason.PROHIBITED,
        placed_by="rule:prohibited",
        evidence=step_at(now),
        now=now,
    )
    holds.release(connection, hold_id=hold_id, released_by="rule:prohibited", evidence={}, now=now)
    return hold_id
