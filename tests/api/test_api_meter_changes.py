"""Replaced and newly commissioned modules over HTTP: what is recorded, what is refused, and how it is found."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import tables

CIRCUIT = "south-01-101-ac"
OTHER = "south-01-102-ac"


@pytest.fixture
def believed(campus):
    """The circuit's register was read as 1000 Wh an hour ago."""
    campus.read_at = campus.clock.now() - timedelta(hours=1)
    with campus.books.write() as connection:
        connection.execute(
            sa.update(tables.meter_points)
            .where(tables.meter_points.c.circuit_id == CIRCUIT)
            .values(
                standing="accepted",
                register_wh=1000,
                register_at=campus.read_at,
                segment_from_wh=1000,
                segment_from_at=campus.read_at,
                open_on=campus.read_at.date(),
            )
        )
    return campus


def replacement(campus, **more):
    asked = {
        "changed_at": (campus.clock.now() - timedelta(minutes=10)).isoformat(),
        "final_register_wh": 1500,
        "first_register_wh": 3,
        "note": "display dark",
    }
    return asked | more


def record(campus, asked, *, who="maintenance", what="replacements", circuit_id=CIRCUIT):
    return campus.ask(who, "POST", f"/circuits/{circuit_id}/{what}", json=asked)


def test_a_replacement_is_recorded_audited_and_waits_for_the_gateway(believed):
    asked = replacement(believed)
    answer = record(believed, asked)
    assert answer.status_code == 202
    change = answer.json()
    assert (change["kind"], change["module_id"], change["channel"]) == ("replacement", "m-south-01-101", 1)
    assert (change["final_register_wh"], change["first_register_wh"]) == (1500, 3)
    assert (change["recorded_by"], change["closed_at"], change["outcome"]) == ("maintenance", None, None)
    for query in ({}, {"circuit_id": CIRCUIT}, {"state": "waiting"}):
        assert believed.ask("admin", "GET", "/meter-changes", params=query).json()["items"] == [change]
    for query in ({"circuit_id": OTHER}, {"state": "closed"}):
        assert believed.ask("admin", "GET", "/meter-changes", params=query).json()["items"] == []
    with believed.books.read() as connection:
        intents = connection.execute(sa.select(tables.intents.c.circuit_id, tables.intents.c.cause)).all()
        audited = connection.execute(
            sa.select(tables.audit_log).where(tables.audit_log.c.action == "meter_change.recorded")
        ).one()
    assert intents == [(CIRCUIT, "meter_changed")]
    assert (audited.actor, audited.subject_id) == ("maintenance", CIRCUIT)
    assert (audited.detail["final_register_wh"], audited.detail["note"]) == (1500, "display dark")


def test_a_second_record_supersedes_the_first_and_pages_go_on(believed):
    first = record(believed, replacement(believed)).json()
    second = record(believed, replacement(believed, final_register_wh=1501), who="admin").json()
    page = believed.ask("admin", "GET", "/meter-changes", params={"limit": 1}).json()
    assert [one["meter_change_id"] for one in page["items"]] == [second["meter_change_id"]]
    rest = believed.ask("admin", "GET", "/meter-changes", params={"cursor": page["next_cursor"]}).json()
    assert [(one["meter_change_id"], one["outcome"]) for one in rest["items"]] == [
        (first["meter_change_id"], "superseded")
    ]
    assert believed.ask("admin", "GET", "/meter-changes", params={"cursor": "x"}).status_code == 422


def test_another_module_is_named_with_its_channel(believed):
    change = record(believed, replacement(believed, module_id="m-new", channel=0)).json()
    assert (change["module_id"], change["channel"]) == ("m-new", 0)
    assert record(believed, replacement(believed, module_id="m-new")).status_code == 422


def test_a_commissioning_is_recorded_where_nothing_is_believed_yet(believed):
    asked = {"changed_at": believed.read_at.isoformat(), "first_register_wh": 12, "note": "new room"}
    assert record(believed, asked, what="commissioning", circuit_id=OTHER).json()["kind"] == "commissioning"
    refused = record(believed, asked, what="commissioning")
    assert refused.status_code == 409
    assert "believed already, at 1000 Wh" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        ({"final_register_wh": 999}, 409, "expected at least the 1000 Wh read last, got 999"),
        ({"final_register_wh": 15_000}, 409, "can't have drawn more"),
        ({"changed_at": "2026-05-20T02:00:00Z"}, 409, "changed_at: expected a time after"),
        ({"changed_at": "2026-05-20T05:00:00Z"}, 409, "changed_at: expected a time that is over"),
        ({"module_id": "m-south-01-102", "channel": 1}, 409, "served south-01-102-ac at that time"),
        ({"final_register_wh": 1500.5}, 422, "final_register_wh"),
        ({"first_register_wh": -1}, 422, "first_register_wh"),
        ({"note": ""}, 422, "note"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(believed, more, status, told):
    answer = record(believed, replacement(believed, **more))
    assert answer.status_code == status
    assert told in answer.text
    with believed.books.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.meter_changes)) == 0


def test_residents_and_finance_record_nothing(believed):
    for who in ("student", "finance"):
        assert record(believed, replacement(believed), who=who).status_code == 403
    assert record(believed, replacement(believed), who="student", circuit_id=OTHER).status_code == 404
