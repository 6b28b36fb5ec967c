"""Every route × every role × own room, another's room: exactly the role matrix (invariants 34 and 35)."""

import pytest

from api.app import UnguardedRouteError, check_matrix, create_app
from api.roles import MATRIX, Subject
from dormpower.books import holds
from dormpower.books.residencies import end_residency

OWN, OTHER, ABSENT = "south-01-101", "south-01-102", "south-01-999"
ROLES = ("student", "finance", "maintenance", "admin")
STAFF = {"finance", "maintenance", "admin"}
PROTECTED = sorted(key for key, rule in MATRIX.items() if not rule.public)

# Who may, written down by hand from the interfaces' description and not taken from the code.
ALLOWED = {
    "DELETE /session": {"student", *STAFF},
    "GET /me": {"student", *STAFF},
    "GET /rooms": STAFF,
    "GET /rooms/{room_id}": {"student", *STAFF},
    "GET /circuits/{circuit_id}/recharges": {"student", *STAFF},
    "POST /circuits/{circuit_id}/recharges": {"finance"},
    "GET /circuits/{circuit_id}/usage/daily": {"student", *STAFF},
    "GET /circuits/{circuit_id}/readings": {"student", *STAFF},
    "GET /circuits/{circuit_id}/timeline": {"student", *STAFF},
    "POST /circuits/{circuit_id}/lockouts": {"maintenance"},
    "DELETE /lockouts/{lockout_id}": {"maintenance", "admin"},
    "POST /circuits/{circuit_id}/reset": {"maintenance"},
    "GET /circuits/{circuit_id}/alarms": {"student", *STAFF},
    "GET /alarms": {"maintenance", "admin"},
    "GET /alarms/figures": {"maintenance", "admin"},
    "GET /alarms/{alarm_id}": {"maintenance", "admin"},
    "POST /alarms/{alarm_id}/acknowledge": {"maintenance"},
    "POST /alarms/{alarm_id}/shelve": {"maintenance"},
    "DELETE /alarms/{alarm_id}/shelve": {"maintenance"},
    "GET /quarantines": {"maintenance", "admin"},
    "POST /quarantines/{quarantine_id}/decision": {"maintenance", "admin"},
    "GET /meter-changes": {"maintenance", "admin"},
    "POST /circuits/{circuit_id}/replacements": {"maintenance", "admin"},
    "POST /circuits/{circuit_id}/commissioning": {"maintenance", "admin"},
    "GET /lockouts": {"maintenance", "admin"},
    "POST /lockouts": {"maintenance"},
    "GET /vacancies": {"maintenance", "admin"},
    "POST /vacancies": {"maintenance", "admin"},
    "DELETE /vacancies/{scoped_hold_id}": {"maintenance", "admin"},
    "GET /emergencies": {"maintenance", "admin"},
    "POST /emergencies/proposals": {"maintenance", "admin"},
    "POST /emergencies": {"maintenance", "admin"},
    "DELETE /emergencies/{scoped_hold_id}": {"maintenance", "admin"},
    "GET /outages": STAFF,
    "POST /outages": {"maintenance", "admin"},
    "DELETE /outages/{outage_id}": {"maintenance", "admin"},
    "GET /keep-supply": STAFF,
    "PUT /rooms/{room_id}/keep-supply": {"admin"},
    "POST /circuits/{circuit_id}/disputes": {"student", *STAFF},
    "GET /circuits/{circuit_id}/disputes": {"student", *STAFF},
    "GET /disputes": {"maintenance", "admin"},
    "POST /disputes/{dispute_id}/answer": {"maintenance", "admin"},
    "POST /reviews": {"maintenance", "admin"},
    "GET /permits": {"maintenance", "admin"},
    "POST /rooms/{room_id}/permits": {"maintenance", "admin"},
    "DELETE /permits/{permit_id}": {"maintenance", "admin"},
    "GET /feeders": {"maintenance", "admin"},
    "GET /reports/fairness": {"maintenance", "admin"},
    "GET /reports/shadow": {"maintenance", "admin"},
    "GET /reports/shadow/alarms": {"maintenance", "admin"},
    "GET /reports/false-trips": {"maintenance", "admin"},
    "GET /rooms/{room_id}/fairness": {"student", *STAFF},
    "GET /policies": {"maintenance", "admin"},
    "GET /policies/proposals": {"maintenance", "admin"},
    "POST /policies/proposals": {"maintenance", "admin"},
    "GET /policies/proposals/{proposal_id}": {"maintenance", "admin"},
    "DELETE /policies/proposals/{proposal_id}": {"maintenance", "admin"},
    "POST /policies/proposals/{proposal_id}/dry-run": {"maintenance", "admin"},
    "POST /policies/proposals/{proposal_id}/apply": {"admin"},
    "POST /resets": {"maintenance"},
    "GET /approvals": {"admin"},
    "POST /approvals": {"admin"},
    "POST /approvals/refusals": {"admin"},
    "GET /events": {"student", *STAFF},
}
QUERIES = {
    "usage/daily": {"from": "2026-05-01", "to": "2026-05-20"},
    "lockouts/{lockout_id}": {"reason": "the holder has left"},
    "vacancies/{scoped_hold_id}": {"reason": "moved in"},
    "emergencies/{scoped_hold_id}": {"reason": "all clear"},
    "outages/{outage_id}": {"reason": "postponed"},
    "readings": {"start": "2026-05-20T00:00:00Z", "end": "2026-05-20T04:00:00Z"},
}
BODIES = {
    "POST /circuits/{circuit_id}/recharges": {"amount_fen": 1000, "channel": "cash"},
    "POST /circuits/{circuit_id}/lockouts": {"reason": "work on the wiring"},
    "POST /alarms/{alarm_id}/shelve": {"until_at": "2026-05-20T06:00:00Z", "reason": "known"},
    "POST /quarantines/{quarantine_id}/decision": {"decision": "dismiss", "note": "checked"},
    "POST /circuits/{circuit_id}/replacements": {
        "changed_at": "2026-05-20T03:00:00Z",
        "final_register_wh": 100,
        "first_register_wh": 0,
        "note": "display dark",
    },
    "POST /circuits/{circuit_id}/commissioning": {
        "changed_at": "2026-05-20T03:00:00Z",
        "first_register_wh": 0,
        "note": "new room",
    },
    "POST /resets": {"scope": {"room_id": OWN}},
    "POST /approvals": {"circuit_ids": None},
    "POST /approvals/refusals": {"circuit_ids": None, "reason": "a wrong price"},
    "POST /policies/proposals": {"section": "overload", "content": {"mode": "off"}, "note": "exam weeks"},
    "POST /policies/proposals/{proposal_id}/apply": {"circuits": 0},
    "POST /lockouts": {"scope": {"room_id": OWN}, "reason": "riser"},
    "POST /vacancies": {"room_id": OWN, "reason": "nobody lives there"},
    "POST /emergencies/proposals": {"campus": "south", "building": "01", "reason": "smoke"},
    "POST /emergencies": {"token": "none", "circuits": 6},
    "POST /outages": {
        "scope": {"campus": "south"},
        "from_at": "2026-05-21T00:00:00Z",
        "to_at": "2026-05-21T01:00:00Z",
        "note": "transformer",
    },
    "PUT /rooms/{room_id}/keep-supply": {"keep": True, "reason": "oxygen"},
    "POST /circuits/{circuit_id}/disputes": {
        "subject_kind": "hold",
        "subject_id": "hld_none",
        "question": "Was this right?",
    },
    "POST /disputes/{dispute_id}/answer": {"verdict": "right", "answer": "a kettle"},
    "POST /reviews": {"subject_kind": "hold", "subject_id": "hld_none", "verdict": "false", "note": "x"},
    "POST /rooms/{room_id}/permits": {
        "appliance": "water dispenser",
        "from_w": 300,
        "to_w": 500,
        "to_at": "2026-06-21T00:00:00Z",
    },
}


def lockout_in(campus, room_id):
    with campus.books.write() as connection:
        return holds.place_lockout(
            connection,
            circuit_id=f"{room_id}-lighting",
            holder="maintenance",
            reason="work",
            now=campus.clock.now(),
        ).lockout_id


def ask(campus, who, method, path, room_id):
    template = path.removeprefix("/api/v1")
    lockout_id = lockout_in(campus, room_id) if "{lockout_id}" in path and room_id != ABSENT else "hld_none"
    url = template.format(
        room_id=room_id,
        circuit_id=f"{room_id}-lighting",
        lockout_id=lockout_id,
        alarm_id="alm_none",
        quarantine_id=1,
        scoped_hold_id="vac_none",
        outage_id="out_none",
        dispute_id="dsp_none",
        permit_id="prm_none",
        proposal_id="pol_none",
    )
    return campus.ask(
        who,
        method,
        url,
        params=next((query for part, query in QUERIES.items() if template.endswith(part)), {}),
        json=BODIES.get(f"{method} {template}"),
        headers={"Idempotency-Key": f"{who}-{room_id}"},
    )


def test_the_matrix_says_what_the_interfaces_say():
    said = {
        f"{method} {path.removeprefix('/api/v1')}": {role.value for role in rule.roles}
        for (method, path), rule in MATRIX.items()
        if not rule.public
    }
    assert said == ALLOWED


@pytest.mark.parametrize(("method", "path"), [key for key in PROTECTED if not key[1].endswith("/events")])
def test_each_role_gets_through_or_is_refused_as_the_matrix_says(sqlite_campus, method, path):
    campus = sqlite_campus
    allowed = ALLOWED[f"{method} {path.removeprefix('/api/v1')}"]
    about_a_room = MATRIX[(method, path)].subject is not Subject.NOTHING
    for who in ROLES:
        for room_id in (OWN, OTHER, ABSENT) if about_a_room else (OWN,):
            status = ask(campus, who, method, path, room_id).status_code
            if about_a_room and (room_id == ABSENT or (who == "student" and room_id == OTHER)):
                assert status == 404, (who, room_id)
            elif who not in allowed:
                assert status == 403, (who, room_id)
            else:
                assert status not in {401, 403, 500}, (who, room_id)
    assert campus.client.request(method, path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"), [key for key in PROTECTED if MATRIX[key].subject is not Subject.NOTHING]
)
def test_anothers_room_answers_as_one_that_does_not_exist(sqlite_campus, method, path):
    other = ask(sqlite_campus, "student", method, path, OTHER)
    absent = ask(sqlite_campus, "student", method, path, ABSENT)
    assert other.status_code == absent.status_code == 404
    assert other.content == absent.content
    assert dict(other.headers) == dict(absent.headers)


def test_a_room_is_gone_when_the_residency_ends(campus):
    assert campus.ask("student", "GET", f"/rooms/{OWN}").status_code == 200
    with campus.books.write() as connection:
        end_residency(connection, user_id=campus.user_ids["student"], room_id=OWN, at=campus.clock.now())
    assert campus.ask("student", "GET", f"/rooms/{OWN}").status_code == 404
    assert campus.ask("student", "GET", "/me").json()["room_ids"] == []


def test_a_route_without_a_rule_keeps_the_application_from_starting(sqlite_campus):
    app = create_app(sqlite_campus.context)

    @app.get("/api/v1/forgotten")
    def forgotten() -> None:
        pass

    with pytest.raises(UnguardedRouteError, match="forgotten"):
        check_matrix(app)
