"""Alarms, lock-outs, resets, approvals: what maintenance and admins do."""

import pytest
import sqlalchemy as sa

from dormpower.books import alarms, control, holds, intents, quarantines, users
from dormpower.books.tables import audit_log, channel_spans
from dormpower.domain import holds as domain_holds
from dormpower.domain.meter_state import ChannelLimits, MeterState, Reason

CIRCUIT = "south-01-101-ac"


def raise_alarm(campus, subject, kind="module_offline", building="01"):
    with campus.books.write() as connection:
        return alarms.raise_alarm(
            connection,
            kind=kind,
            priority="medium",
            subject_kind="module",
            subject_id=subject,
            module_id=subject,
            building=building,
            detail={"since": "now"},
            now=campus.clock.now(),
        )


def test_alarms_are_listed_by_what_is_asked_for_and_acknowledged_once(campus):
    first = raise_alarm(campus, "m-1")
    campus.clock.advance(1)
    second = raise_alarm(campus, "m-2", kind="line_offline", building="02")
    listed = campus.ask("admin", "GET", "/alarms").json()["items"]
    assert [alarm["alarm_id"] for alarm in listed] == [second, first]
    assert set(listed[0]) == {
        "alarm_id",
        "kind",
        "priority",
        "subject_kind",
        "subject_id",
        "circuit_id",
        "module_id",
        "line_id",
        "raised_at",
        "cleared_at",
        "acknowledged_at",
        "acknowledged_by",
        "shelved_until_at",
        "shelved_by",
        "detail",
    }
    answer = campus.ask("maintenance", "POST", f"/alarms/{first}/acknowledge").json()
    assert answer["acknowledged_by"] == "maintenance"
    assert campus.ask("maintenance", "POST", f"/alarms/{first}/acknowledge").json() == answer
    for query, expected in (
        ({"kind": "line_offline"}, [second]),
        ({"building": "01"}, [first]),
        ({"acknowledged": "true"}, [first]),
        ({"acknowledged": "false"}, [second]),
        ({"state": "cleared"}, []),
        ({"state": "active"}, [second, first]),
    ):
        found = campus.ask("maintenance", "GET", "/alarms", params=query).json()["items"]
        assert [alarm["alarm_id"] for alarm in found] == expected
    page = campus.ask("maintenance", "GET", "/alarms", params={"limit": 1}).json()
    rest = campus.ask("maintenance", "GET", "/alarms", params={"cursor": page["next_cursor"]}).json()
    assert [alarm["alarm_id"] for alarm in rest["items"]] == [first]
    assert campus.ask("maintenance", "POST", "/alarms/alm_none/acknowledge").status_code == 404


def test_a_lockout_leaves_an_intent_and_is_lifted_by_its_holder_alone(campus):
    answer = campus.ask("maintenance", "POST", f"/circuits/{CIRCUIT}/lockouts", json={"reason": "wiring"})
    assert answer.status_code == 202
    lockout = answer.json()
    assert list(lockout) == ["lockout_id", "holder", "reason", "placed_at", "confirmed_open_at"]
    assert (lockout["holder"], lockout["reason"]) == ("maintenance", "wiring")
    assert lockout["confirmed_open_at"] is None
    with campus.books.write() as connection:
        assert [intent.circuit_id for intent in intents.unhandled(connection, 10)] == [CIRCUIT]
        user_id = users.add_user(
            connection,
            username="colleague",
            role=users.Role.MAINTENANCE,
            password_hash=None,
            now=campus.clock.real_now(),
        )
        campus.tokens["colleague"] = users.issue_token(
            connection, user_id=user_id, days=1, now=campus.clock.real_now()
        ).secret
    path = f"/lockouts/{lockout['lockout_id']}"
    assert campus.ask("colleague", "DELETE", path).status_code == 403
    assert campus.ask("colleague", "DELETE", path, params={"reason": "I want"}).status_code == 403
    assert campus.ask("maintenance", "DELETE", path).status_code == 204
    assert campus.ask("maintenance", "DELETE", path).status_code == 404


def test_several_lockouts_stand_beside_each_other(campus):
    with campus.books.write() as connection:
        holds.place_lockout(
            connection, circuit_id=CIRCUIT, holder="other", reason="theirs", now=campus.clock.now()
        )
    mine = campus.ask("maintenance", "POST", f"/circuits/{CIRCUIT}/lockouts", json={"reason": "mine"}).json()
    campus.ask("maintenance", "DELETE", f"/lockouts/{mine['lockout_id']}")
    circuit = campus.ask("admin", "GET", "/rooms/south-01-101").json()["circuits"][1]
    assert circuit["state"] == "locked_out"
    assert [hold["detail"]["params"]["holder"] for hold in circuit["holds"]] == ["other"]


def test_an_admin_lifts_anothers_lockout_with_a_reason_on_record(campus):
    lockout = campus.ask(
        "maintenance", "POST", f"/circuits/{CIRCUIT}/lockouts", json={"reason": "wiring"}
    ).json()
    path = f"/lockouts/{lockout['lockout_id']}"
    assert campus.ask("admin", "DELETE", path).status_code == 403
    assert campus.ask("admin", "DELETE", path, params={"reason": "holder has left"}).status_code == 204
    with campus.books.read() as connection:
        kept = str(connection.execute(sa.select(audit_log.c.detail)).all())
    assert "holder has left" in kept


def test_a_reset_releases_trips_and_nothing_else(campus):
    for reason in (
        domain_holds.Reason.OVERLOAD,
        domain_holds.Reason.OPENED_LOCALLY,
        domain_holds.Reason.ARREARS,
        domain_holds.Reason.CURFEW,
    ):
        with campus.books.write() as connection:
            holds.place(
                connection,
                circuit_id=CIRCUIT,
                reason=reason,
                placed_by="rule:test",
                evidence={},
                now=campus.clock.now(),
            )
    answer = campus.ask("maintenance", "POST", f"/circuits/{CIRCUIT}/reset").json()
    assert answer == {"circuit_id": CIRCUIT, "released": ["opened_locally", "overload"]}
    circuit = campus.ask("admin", "GET", "/rooms/south-01-101").json()["circuits"][1]
    assert sorted(hold["reason"] for hold in circuit["holds"]) == ["arrears", "curfew"]


@pytest.mark.parametrize("chosen", [None, [CIRCUIT]])
def test_an_admin_approves_cuts_that_wait(campus, chosen):
    with campus.books.write() as connection:
        control.pend_cut(connection, circuit_id=CIRCUIT, reason="arrears", evidence={}, now=campus.clock.now())
    waiting = campus.ask("admin", "GET", "/approvals").json()["items"]
    assert [(cut["circuit_id"], cut["approved_at"]) for cut in waiting] == [(CIRCUIT, None)]
    assert campus.ask("admin", "POST", "/approvals", json={"circuit_ids": chosen}).json() == {"approved": 1}
    assert campus.ask("admin", "GET", "/approvals").json()["items"][0]["approved_by"] == "admin"
    assert campus.ask("admin", "POST", "/approvals", json={"circuit_ids": None}).json() == {"approved": 0}


def test_an_admin_refuses_cuts_that_wait(campus):
    with campus.books.write() as connection:
        control.pend_cut(connection, circuit_id=CIRCUIT, reason="arrears", evidence={}, now=campus.clock.now())
    path = "/approvals/refusals"
    assert campus.ask("admin", "POST", path, json={"circuit_ids": None, "reason": " "}).status_code == 422
    refusal = {"circuit_ids": [CIRCUIT], "reason": "a wrong price"}
    assert campus.ask("admin", "POST", path, json=refusal).json() == {"refused": 1}
    assert campus.ask("admin", "POST", path, json=refusal).json() == {"refused": 0}
    (cut,) = campus.ask("admin", "GET", "/approvals").json()["items"]
    assert (cut["refused_by"], cut["refusal"], cut["approved_at"]) == ("admin", "a wrong price", None)
    assert campus.ask("maintenance", "GET", "/alarms?state=active").json()["items"] == []


def test_a_cut_is_decided_on_by_circuit_and_reason(campus):
    with campus.books.write() as connection:
        for reason in ("arrears", "curfew"):
            control.pend_cut(connection, circuit_id=CIRCUIT, reason=reason, evidence={}, now=campus.clock.now())
    arrears = {"cuts": [{"circuit_id": CIRCUIT, "reason": "arrears"}]}
    curfew = {"cuts": [{"circuit_id": CIRCUIT, "reason": "curfew"}], "reason": "wrong hours"}
    assert campus.ask("admin", "POST", "/approvals", json=arrears).json() == {"approved": 1}
    assert campus.ask("admin", "POST", "/approvals/refusals", json=curfew).json() == {"refused": 1}
    decided = {
        cut["reason"]: (cut["approved_by"], cut["refused_by"])
        for cut in campus.ask("admin", "GET", "/approvals").json()["items"]
    }
    assert decided == {"arrears": ("admin", None), "curfew": (None, "admin")}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"cuts": []},
        {"circuit_ids": None, "cuts": [{"circuit_id": CIRCUIT, "reason": "arrears"}]},
        {"cuts": [{"circuit_id": CIRCUIT}]},
        {"cuts": [{"circuit_id": CIRCUIT, "reason": "weather"}]},
    ],
)
def test_an_approval_says_which_cuts_it_means(campus, body):
    with campus.books.write() as connection:
        control.pend_cut(connection, circuit_id=CIRCUIT, reason="arrears", evidence={}, now=campus.clock.now())
    assert campus.ask("admin", "POST", "/approvals", json=body).status_code == 422
    refusal = {**body, "reason": "x"}
    assert campus.ask("admin", "POST", "/approvals/refusals", json=refusal).status_code == 422
    (cut,) = campus.ask("admin", "GET", "/approvals").json()["items"]
    assert (cut["approved_at"], cut["refused_at"]) == (None, None)


def test_a_quarantine_that_is_not_there_cant_be_decided(campus):
    decision = {"decision": "dismiss", "note": "checked"}
    assert campus.ask("admin", "POST", "/quarantines/1/decision", json=decision).status_code == 404
    assert campus.ask("admin", "GET", "/quarantines").json() == {"items": [], "next_cursor": None}
    wrong = {"decision": "estimate", "note": "checked"}
    assert campus.ask("admin", "POST", "/quarantines/1/decision", json=wrong).status_code == 422


def test_quarantines_are_found_by_the_alarm_and_by_the_circuit(campus):
    ids = {}
    for circuit_id in (CIRCUIT, "south-01-102-ac"):
        with campus.books.write() as connection:
            span_id = connection.scalar(
                sa.select(channel_spans.c.span_id).where(channel_spans.c.circuit_id == circuit_id)
            )
            quarantines.open_quarantine(
                connection,
                circuit_id=circuit_id,
                module_id="m",
                state=MeterState(
                    span_id=span_id,
                    register_wh=5000,
                    register_at=campus.clock.now(),
                    quarantined_at=campus.clock.now(),
                ),
                reason=Reason.REGISTER_FELL,
                limits=ChannelLimits(rated_current_a=20, resolution_wh=10),
                now=campus.clock.now(),
            )
        (alarm,) = [
            one
            for one in campus.ask("maintenance", "GET", "/alarms").json()["items"]
            if one["circuit_id"] == circuit_id
        ]
        ids[circuit_id] = alarm["detail"]["quarantine_id"]
    for circuit_id, quarantine_id in ids.items():
        found = campus.ask("maintenance", "GET", "/quarantines", params={"circuit_id": circuit_id}).json()
        assert [one["quarantine_id"] for one in found["items"]] == [quarantine_id]
    nobodys = campus.ask("maintenance", "GET", "/quarantines", params={"circuit_id": "none"}).json()
    assert nobodys["items"] == []
